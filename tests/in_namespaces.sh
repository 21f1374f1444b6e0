#!/bin/sh
# Runs the Python of one pytest worker in namespaces of its own.   usage: tests/in_namespaces.sh ARGUMENTS OF PYTHON
#
# Without them, tests that run side by side would see each other's processes, traffic on lo, ports, shared memory and
# names of network namespaces. /run/netns/outside is the network outside, for tests that install packages.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
export here
exec unshare --mount sh -ec '
    mkdir -p /run/netns
    mount -t tmpfs -o mode=755 tmpfs /run/netns
    touch /run/netns/outside
    mount --bind /proc/self/ns/net /run/netns/outside
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    exec unshare --net --mount --pid --fork --kill-child --mount-proc sh -ec '\''
        ip link set lo up
        # This shell stays, as the process that reaps orphans.
        "$here/.venv/bin/python" "$@"
        exit $?'\'' sh "$@"' sh "$@"
