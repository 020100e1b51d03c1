# shellcheck shell=bash
# Sourced by every script: where the checkout is, how to speak, and how to get what is missing.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$ROOT/$TARGET ;; esac
mkdir -p "$TARGET"
TARGET=$(cd "$TARGET" && pwd -P)
export ROOT TARGET

say() { printf '%s\n' "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# path_of COMMAND: where it is, also where an ordinary user's PATH has no sbin.
path_of() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }

# missing PACKAGE:COMMAND...   prints the packages whose command is missing; a command with / is a path.
missing() {
    local pair
    for pair; do
        if [[ ${pair#*:} == /* ]]; then
            [ -e "${pair#*:}" ] || echo "${pair%%:*}"
        else
            path_of "${pair#*:}" >/dev/null || echo "${pair%%:*}"
        fi
    done
}

# need PACKAGE:COMMAND...   installs what is missing. Returns 1, having said why, when something is still missing.
need() {
    local packages
    mapfile -t packages < <(missing "$@")
    [ ${#packages[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "needs ${packages[*]}: apt-get install -y --no-install-recommends ${packages[*]}"
        return 1
    fi
    # One at a time: apt refuses to share its lists, and scripts that run side by side come here together.
    (
        flock -w 600 9 || { say "another script has held $TARGET/apt.lock for 10 minutes"; exit 1; }
        install_missing "$@" 9>&-
    ) 9>"$TARGET/apt.lock"
}

# The same, by whoever holds the lock. An apt that is none of ours is waited for.
install_missing() {
    local packages try errors
    mapfile -t packages < <(missing "$@")
    [ ${#packages[@]} -gt 0 ] || return 0
    say "installing ${packages[*]}"
    for try in 1 2 3 4 5 6; do
        errors=$({ apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "${packages[@]}"; } 2>&1 >/dev/null) && return 0
        [[ $try -lt 6 && $errors == *"get lock"* ]] || break
        sleep 10
    done
    printf '%s\n' "$errors" >&2
    say "apt-get could not install ${packages[*]}"
    return 1
}
