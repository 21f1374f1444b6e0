#!/bin/sh
# Proves the artefacts on machines that have nothing: root file systems made here, without compiler and without network.
#
# usage: ops/dist/bare.sh [SUITE...]     [bookworm trixie noble], or image for that alone; needs root and mmdebstrap
# In each it installs the .deb, and the wheels with pip, and takes the time from nothing to the first event of a capture
# file and of live traffic on the loopback interface. Then it runs the OCI image's root as its user with a /dev/shm of
# 64 MiB. Prints a line for each; the exit code is 1 when one fails.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
. ops/dist/archives.sh
[ "$(id -u)" = 0 ] || fail "root is needed: for the file systems and the namespaces"
roots=$work/roots
mkdir -p "$roots"
version=$(version)
architecture=$(dpkg --print-architecture)
package=$dist/capture-appliance_${version}_$architecture.deb
image=$dist/capture-appliance_${version}_$architecture.oci.tar
sample=$work/sample.pcap
status=0
place=
trap 'rm -rf ${place:+"$place"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -e "$sample" ] || python3 ops/bench/traffic.py sample "$sample"

# base SUITE: prints the path of its root as an archive; made once. pip is there for the wheels, no compiler.
base() {
    archive=$roots/$1.tar
    if [ ! -e "$archive" ]; then
        say "making a root of $1"
        # ensurepip of Debian's python3-venv brings pip along.
        root_of "$1" apt,python3,python3-venv,make tar "$archive.part" || return 1
        mv "$archive.part" "$archive"
    fi
    echo "$archive"
}

# inside ROOT SCRIPT: in the root, with no network but a loopback interface of its own.
inside() {
    unshare --net --mount --pid --fork --kill-child --propagation private sh -c '
        root=$1; script=$2; shm=$3
        ip link set lo up
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mkdir -p "$root/dev/shm"
        for node in null zero urandom random full tty; do [ -e "$root/dev/$node" ] || { : >"$root/dev/$node"; }; mount --bind /dev/$node "$root/dev/$node"; done
        mount -t tmpfs -o size="$shm",mode=1777 tmpfs "$root/dev/shm"
        exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -eu -c "$script"
    ' sh "$1" "$2" "${3:-1g}"
}

# spent: sets used to the seconds of processor time of everything that this script has run. Not for a subshell.
spent() {
    times >"$work/times"
    used=$(tail -n 1 "$work/times" | awk '{ for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); all += t[1] * 60 + t[2] } print all }')
}

# prove NAME ROOT SCRIPT [SHM]: the time until the script has seen its first event, and the processor time of it.
prove() {
    begun=$(date +%s%N)
    spent
    before=$used
    log=$work/bare.log
    if inside "$2" "$3" "${4:-}" >"$log" 2>&1; then
        spent
        echo "$(date +%s%N) $begun $used $before" | awk -v name="$1" -v said="$(tail -n 1 "$log" | tr -d '\\')" \
            '{ printf "%-28s %6.1f s, %5.1f s of processor time   %s\n", name, ($1 - $2) / 1e9, $3 - $4, said }'
    else
        tail -n 20 "$log" >&2
        printf '%-28s FAILED\n' "$1"
        status=1
    fi
}

fresh() { # fresh ARCHIVE: sets place to an unpacked root
    rm -rf ${place:+"$place"}
    place=$(mktemp -d -p "$roots")
    chmod 755 "$place" # it is the root of users, too
    tar xpf "$1" -C "$place" --xattrs --xattrs-include='*' --exclude='./dev/*'
    cp "$sample" "$place/tmp/sample.pcap"
}

# The last command of the pipe decides: it fails when no event came.
first='run -r /tmp/sample.pcap -o - --feed off --metrics off -q 2>/tmp/said | head -n 1 | cut -c 1-60 | grep timestamp'
event="appliance $first"
# A server and a client of the standard library, and a capture on the loopback interface until its first event.
live='
python3 -c "
import http.server, threading, time, urllib.request, subprocess, sys
class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204); self.end_headers()
    def log_message(self, *words): pass
server = http.server.HTTPServer((\"127.0.0.1\", 8080), Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
sensor = subprocess.Popen(sys.argv[1:] + [\"run\", \"-i\", \"lo\", \"-o\", \"-\", \"--workers\", \"1\", \"--ring\", \"8M\", \"-q\"], stdout=subprocess.PIPE)
def ask():
    while True:
        urllib.request.urlopen(\"http://127.0.0.1:8080/bare\").read(); time.sleep(0.05)
threading.Thread(target=ask, daemon=True).start()
line = sensor.stdout.readline()
sensor.terminate(); sensor.wait()
assert b\"/bare\" in line, line
print(\"live on lo:\", line[:60].decode())
"'

for suite in ${*:-bookworm trixie noble}; do
    [ "$suite" != image ] || continue
    archive=$(base "$suite") || { echo "$suite: no root can be made of it here"; status=1; continue; }
    fresh "$archive"
    cp "$package" "$place/tmp/"
    prove "$suite, .deb" "$place" "apt-get install -qq -y /tmp/${package##*/} && $event"
    prove "$suite, .deb, live" "$place" "$live appliance"
    prove "$suite, .deb removed" "$place" "apt-get purge -qq -y capture-appliance && ! test -e /usr/lib/capture-appliance && ! test -e /etc/capture-appliance && echo 'nothing is left'"
    fresh "$archive"
    cp -r "$dist/wheels" "$place/tmp/wheels"
    prove "$suite, wheels with pip" "$place" "python3 -m venv /opt/appliance && /opt/appliance/bin/pip install -q --no-index --find-links /tmp/wheels capture-appliance && PATH=/opt/appliance/bin:\$PATH && $event"
    prove "$suite, wheels, live" "$place" "$live /opt/appliance/bin/appliance"
    fresh "$archive"
    mkdir "$place/tmp/tree"
    git ls-files -co --exclude-standard | tar cf - -T - | tar xf - -C "$place/tmp/tree"
    mkdir "$place/tmp/tree/dist"
    cp -r "$dist/wheels" "$place/tmp/tree/dist/wheels"
    prove "$suite, make run, a wheel" "$place" "cd /tmp/tree && make run 2>&1 && make run 2>&1 | grep -m 1 transactions"
done

if [ -e "$image" ]; then
    rm -rf ${place:+"$place"}
    place=$(mktemp -d -p "$roots")
    chmod 755 "$place" # it is the root of users, too
    blob=$(tar xOf "$image" index.json | sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/')
    blob=$(tar xOf "$image" "blobs/sha256/$blob" | sed 's/.*"layers":\[{"digest":"sha256:\([0-9a-f]*\)".*/\1/')
    tar xOf "$image" "blobs/sha256/$blob" | tar xzpf - -C "$place" --xattrs --xattrs-include='*'
    mkdir -p "$place/dev"
    cp "$sample" "$place/tmp/sample.pcap"
    user="setpriv --reuid 10001 --regid 10001 --clear-groups --bounding-set -all,+net_raw --inh-caps -all"
    prove "image, a file" "$place" "cd /tmp && $user sh -c 'capture-appliance $first'" 64m
    prove "image, live" "$place" "cd /tmp && exec $user sh -c '$(printf %s "$live" | sed "s/'/'\\\\''/g") capture-appliance'" 64m
fi
exit $status
