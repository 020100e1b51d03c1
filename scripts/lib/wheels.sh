# shellcheck shell=bash
# Sourced: gets one pinned wheel from the package index that pip is set up with, checks it, unpacks it. Never runs what is in it.

# get_wheel NAME==VERSION SHA256 DIRECTORY: 0 when DIRECTORY holds the unpacked wheel, 1 when the index is out of reach.
# Ends the script when what came is not what was pinned.
get_wheel() {
    local requirement=$1 sum=$2 to=$3 bar=off file
    if [ -e "$to/.complete" ] && [ "$(cat "$to/.complete")" = "$sum" ]; then
        say "$requirement is there already"
        return 0
    fi
    find_pip || { say "no pip here: needs python3-pip"; return 1; }
    [ ! -t 2 ] || bar=on
    rm -rf "$to" "$to.wheel"
    mkdir -p "$to.wheel"
    say "downloading $requirement"
    "${PIP[@]}" download --disable-pip-version-check --no-deps --only-binary :all: --progress-bar "$bar" -d "$to.wheel" "$requirement" >&2 ||
        { rm -rf "$to.wheel"; return 1; }
    file=$(find "$to.wheel" -name '*.whl')
    echo "$sum  $file" | sha256sum -c --quiet || { rm -rf "$to.wheel"; die "$requirement is not what was pinned: its SHA-256 differs"; }
    python3 -m zipfile -e "$file" "$to"
    rm -rf "$to.wheel"
    echo "$sum" >"$to/.complete"
}

# Sets PIP to a pip that works, installing python3-pip where that is possible.
find_pip() {
    PIP=(python3 -m pip)
    "${PIP[@]}" --version >/dev/null 2>&1 && return 0
    if command -v pip3 >/dev/null; then PIP=(pip3); return 0; fi
    need python3-pip:pip3 && "${PIP[@]}" --version >/dev/null 2>&1
}
