#!/bin/sh
# Builds wheels for a Python that this system lacks, in a root of the release that has it.   usage: ops/dist/foreign.sh SUITE
#
# noble has Python 3.12, trixie 3.13, forky 3.14. The root has that Python and its compiler; the tree, which the root
# sees under the same path, and libpcap are those of the other wheels. Needs root, mmdebstrap and network.
# Environment: as wheels.sh and archives.sh.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
. ops/dist/archives.sh
suite=${1:?usage: ops/dist/foreign.sh SUITE}
case $suite in
noble) name=python3.12 ;;
trixie) name=python3.13 ;;
forky) name=python3.14 ;;
*) fail "$suite: noble, trixie and forky are known" ;;
esac
[ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null || fail "a root of $suite needs root and mmdebstrap"
root=$work/foreign/$suite
if [ ! -e "$root/complete" ]; then
    say "making a root of $suite with $name and gcc"
    rm -rf "$root"
    mkdir -p "$work/foreign"
    root_of "$suite" "ca-certificates,$name-dev,$name-venv,gcc,libc6-dev" directory "$root"
    : >"$root/complete"
fi
sh ops/dist/libpcap.sh "$work/libpcap"
mkdir -p "$work/$suite" "$dist/wheels"
[ -e "$work/$suite/libpcap" ] || ln -s ../libpcap "$work/$suite/libpcap"

# The certificates are this system's, as its index of packages may have one of its own.
# shellcheck disable=SC2016
DIST=$dist DIST_WORK=$work/$suite PYTHONS=/usr/bin/$name unshare --mount --propagation private sh -euc '
    root=$1 tree=$2
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    for path in "$tree" "$DIST" "$DIST_WORK" /etc/ssl/certs; do
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
    done
    [ -e "$root/etc/resolv.conf" ] || : >"$root/etc/resolv.conf"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    exec chroot "$root" sh -euc "cd \"\$1\"; exec sh ops/dist/wheels.sh" sh "$tree"
' sh "$root" "$PWD"
