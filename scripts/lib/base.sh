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

# need PACKAGE:COMMAND...   installs the packages whose command is missing; a command with / is a path.
# Returns 1, having said why, when something is still missing.
need() {
    local pair missing=()
    for pair; do
        if [[ ${pair#*:} == /* ]]; then
            [ -e "${pair#*:}" ] || missing+=("${pair%%:*}")
        else
            path_of "${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
        fi
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "needs ${missing[*]}: apt-get install -y --no-install-recommends ${missing[*]}"
        return 1
    fi
    say "installing ${missing[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null ||
        { say "apt-get could not install ${missing[*]}"; return 1; }
}
