# shellcheck shell=bash
# Sourced: what is on the machine of this project, before and after; and removing, by force, the cgroups of one root of ours.

cgroup_mounts() { awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo; }

# list_cgroups ROOT: every cgroup at or below ROOT, in every hierarchy.
list_cgroups() {
    local mount
    while read -r mount; do
        [ ! -d "$mount$1" ] || find "$mount$1" -depth -type d
    done < <(cgroup_mounts)
}

# sweep_cgroups ROOT: ends what runs there and removes it; only for a root that this script gave to its own hive.
sweep_cgroups() {
    local group pid round
    [[ $1 == /rbee-hive-quickstart-* ]] || return 0
    for round in 1 2 3 4 5; do
        while read -r group; do
            [ "$round" -lt 5 ] || say "removing $group"
            while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$group/cgroup.procs"
            rmdir "$group" 2>/dev/null || true
        done < <(list_cgroups "$1"; list_cgroups "$1-run")
        [ -n "$(list_cgroups "$1")$(list_cgroups "$1-run")" ] || return 0
        read -rt 0.2 <> <(:) || :
    done
}

# take_stock: one line for each thing that must be the same afterwards.
take_stock() {
    awk '{ print "mount", $5 }' /proc/self/mountinfo
    find /run /tmp /var/lib -maxdepth 1 -name 'rbee-hive*' 2>/dev/null | sed 's/^/directory /'
    local process name
    for process in /proc/[0-9]*; do
        name=$(cat "$process/comm" 2>/dev/null) || continue
        case $name in rbee-hive | llama-server | mock-worker) echo "process $name ${process#/proc/}" ;; esac
    done
}

# compare_stock BEFORE: says what there is now that was not there before; the kernel may take a moment to let go.
compare_stock() {
    local more round
    for round in 1 2 3 4 5 6 7 8 9 10; do
        more=$(comm -13 <(sort <<<"$1") <(take_stock | sort))
        [ -n "$more" ] || return 0
        [ "$round" -eq 10 ] || read -rt 0.5 <> <(:) || :
    done
    printf 'left behind:\n%s\n' "$more" >&2
    return 1
}
