#!/bin/sh
# The versions of the appliance on this machine: several lie side by side, one is current. A switch is one rename.
#
# usage: appliance-versions list                 each version: which is current, which was before, which still runs
#        appliance-versions install [WHEELS]     unpack beside, try it, make it current; keep the one before
#        appliance-versions check VERSION        try it, change nothing
#        appliance-versions use VERSION          try it, make it current
#        appliance-versions rollback             make the one before current again
#        appliance-versions remove-all           away with all of them
#
# Under PREFIX/lib/capture-appliance lie versions/ID, each a virtual environment of its own, and the links `current` and
# `previous`. Whatever ends an installation, kill -9 too, leaves the link on a version that was complete before. A sensor
# that runs goes on with the version that it was started with; restart it when it suits.
# Environment: APPLIANCE_HOME, where they lie; CONFIGURATION that has to suit [/etc/capture-appliance/appliance.toml];
# PYTHON that unpacks and will run it [python3];
# DESTDIR, the part of the path that is not there when it runs.
set -eu
umask 022
self=$(readlink -f "$0")
if [ -n "${APPLIANCE_HOME:-}" ]; then
    home=$APPLIANCE_HOME
else
    home=$(dirname "$(dirname "$self")")/lib/capture-appliance
fi
configuration=${CONFIGURATION-/etc/capture-appliance/appliance.toml}
python=${PYTHON:-python3}
versions=$home/versions
tools=$home/tools

say() { printf 'appliance-versions: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
target() { readlink "$home/$1" 2>/dev/null | sed 's|^versions/||'; }
complete() { [ -n "$1" ] && [ -e "$versions/$1/complete" ]; }

# point NAME ID: the link becomes the new one in one rename(2).
point() {
    ln -s "versions/$2" "$home/.$1.$$"
    mv -T "$home/.$1.$$" "$home/$1"
}

try() {
    complete "$1" || fail "there is no version $1; appliance-versions list says which there are"
    set -- "$1" "${configuration:-/nonexistent}"
    [ -e "$2" ] || set -- "$1" ""
    # shellcheck disable=SC2086
    "$versions/$1/bin/python" -P "$tools/trial.py" ${2:+"$2"} ||
        fail "version $1 did not pass its trial; nothing was changed, current is $(target current)"
}

switch() {
    before=$(target current)
    if [ "$before" = "$1" ]; then
        say "$1 is current already"
        return
    fi
    # The link of the version before is set first: between the two renames both name the same one, which works.
    if complete "$before"; then point previous "$before"; fi
    point current "$1"
    say "current is $1${before:+, before it $before; appliance-versions rollback goes back}"
}

# Whether a process runs from this version: its program, a library or a compiled module of it is mapped.
runs() { grep -qsF "$versions/$1/" /proc/[0-9]*/maps >/dev/null 2>&1; }

# Away with what no link names and no process uses, and with what an interrupted installation left.
prune() {
    for path in "$versions"/* "$versions"/.new-*; do
        name=${path##*/}
        case $name in
        "*" | ".new-*" | "$(target current)" | "$(target previous)") continue ;;
        esac
        if runs "$name"; then
            say "kept, because a process still runs it: $name"
            continue
        fi
        # No longer complete before the first file goes: a removal that is interrupted leaves nothing half.
        rm -f "$path/complete"
        rm -rf "$path"
    done
    rm -f "$home"/.current.* "$home"/.previous.*
}

install_wheels() {
    wheels=$1
    id=$("$python" "$tools/unpack.py" --id "$wheels") || fail "$wheels does not suit this machine"
    if ! complete "$id"; then
        mkdir -p "$versions"
        rm -rf "${versions:?}/$id"
        new=$versions/.new-$id
        rm -rf "$new"
        "$python" "$tools/unpack.py" "$wheels" "$new" "${home#"${DESTDIR:-}"}/versions/$id" || fail "$id could not be unpacked; nothing was changed"
        # On the disk before the mark that says so: a machine that loses its power must not find a half version.
        sync -f "$new"
        mv -T "$new" "$versions/$id"
        : >"$versions/$id/complete"
    fi
    try "$id"
    switch "$id"
    prune
}

list() {
    for path in "$versions"/*; do
        [ -e "$path/complete" ] || continue
        id=${path##*/}
        note=
        [ "$id" != "$(target current)" ] || note="$note current"
        [ "$id" != "$(target previous)" ] || note="$note previous"
        ! runs "$id" || note="$note running"
        printf '%s%s\n' "$id" "$note"
    done
}

command=${1:-}
case $command in
list) list; exit 0 ;;
check) [ -n "${2:-}" ] || fail "usage: appliance-versions check VERSION"; try "$2"; say "$2: all is well"; exit 0 ;;
install | use | rollback | remove-all) ;;
*) sed -n 's/^# \(usage: \| *\)\(appliance-versions .*\)/\2/p' "$self" >&2; exit 2 ;;
esac

# One change at a time. The lock goes with its holder.
mkdir -p "$home"
exec 9>"$home/.lock"
flock -w 600 9 || fail "another installation has been at work for ten minutes"
case $command in
install) install_wheels "${2:-$home/wheels}" ;;
use) [ -n "${2:-}" ] || fail "usage: appliance-versions use VERSION"; try "$2"; switch "$2" ;;
rollback)
    before=$(target previous)
    complete "$before" || fail "there is no version before this one"
    try "$before"
    switch "$before"
    ;;
remove-all) rm -f "$home/current" "$home/previous"; rm -rf "$versions" "$home"/.current.* "$home"/.previous.* "$home/.lock" ;;
esac
