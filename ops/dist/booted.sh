#!/bin/sh
# Proves the package in a system that systemd has booted, in a container without network (systemd-nspawn).
#
# usage: ops/dist/booted.sh [SUITE]     [bookworm]; needs root, mmdebstrap and systemd-container
# Installs the .deb, starts a sensor on the loopback interface, and reloads, stops and kills it; upgrades and purges the
# package. Prints a line for each step. The exit code is 1 when one fails, and 0 with a line that says so where no system
# can be booted.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
[ "$(id -u)" = 0 ] || fail "root is needed: for the file system and the container"
suite=${1:-bookworm}
package=$dist/capture-appliance_$(version)_$(dpkg --print-architecture).deb
[ -e "$package" ] || fail "no $package: make dist first"
command -v systemd-nspawn >/dev/null || { say "no booted system: it needs systemd-container"; exit 0; }
archive=$work/roots/$suite-booted.tar
mkdir -p "$work/roots"
if [ ! -e "$archive" ]; then
    say "making a root of $suite with systemd"
    quietly mmdebstrap --mode=root --variant=minbase --format=tar --include=systemd-sysv,python3,iproute2,libstdc++6 \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$suite" "$archive.part" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    mv "$archive.part" "$archive"
fi

place=$(mktemp -d -p "$work/roots")
container=
init=
end() {
    # The first process of the container takes all others with it.
    [ -z "$init" ] || kill -KILL "$init" 2>/dev/null || :
    [ -z "$container" ] || kill -KILL "$container" 2>/dev/null || :
    [ -z "$container" ] || wait "$container" 2>/dev/null || :
    rm -rf "$place"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$place"
tar xpf "$archive" -C "$place" --exclude='./dev/*'
cp "$package" "$place/root/package.deb"
cat >"$place/root/traffic.py" <<'END'
"""A server on port 8080 and a client that asks it for /bare, ten times a second."""

import http.server
import threading
import time
import urllib.request


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


threading.Thread(target=http.server.HTTPServer(("127.0.0.1", 8080), Quiet).serve_forever, daemon=True).start()
while True:
    urllib.request.urlopen("http://127.0.0.1:8080/bare").read()
    time.sleep(0.1)
END

systemd-nspawn --quiet --directory="$place" --register=no --keep-unit --private-network --console=pipe --boot </dev/null >"$work/booted.log" 2>&1 &
container=$!
inside() { nsenter --target "$init" --mount --uts --ipc --net --pid --root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -euc "$1"; }
# within SECONDS SCRIPT: whether the script succeeds in time.
within() {
    limit=$(($(date +%s) + $1))
    until inside "$2" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$limit" ] || return 1
        sleep 0.2
    done
}
boot() {
    init=$(pgrep -P "$container" -x systemd) && inside 'systemctl is-system-running | grep -qE "running|degraded"'
}
limit=$(($(date +%s) + 120))
until boot >/dev/null 2>&1; do
    if ! kill -0 "$container" 2>/dev/null || [ "$(date +%s)" -ge "$limit" ]; then
        tail -n 5 "$work/booted.log" >&2
        say "no system can be booted here"
        exit 0
    fi
    sleep 0.2
done

status=0
# prove NAME COMMAND…
prove() {
    name=$1
    shift
    begun=$(date +%s%N)
    if "$@"; then
        echo "$(date +%s%N) $begun" | awk -v name="$name" '{ printf "%-52s %6.1f s\n", name, ($1 - $2) / 1e9 }'
    else
        printf '%-52s FAILED\n' "$name"
        inside 'systemctl --no-pager status "capture-appliance@*"; journalctl --no-pager -n 20' >&2 2>&1 || :
        status=1
    fi
}
unit=capture-appliance@lo
main="systemctl show -P MainPID $unit"
events="appliance events --json -n 1 --where 'path = /bare'"
other() { within "$1" "now=\$($main) && [ \$now != 0 ] && [ \$now != $2 ] && systemctl -q is-active $unit"; }

inside 'systemd-run --quiet --unit traffic python3 /root/traffic.py'
prove "apt install" quietly inside 'apt-get install -qq -y /root/package.deb'
prove "the unit is without a fault" quietly inside "systemd-analyze verify $unit.service capture-nic@lo.service"
prove "enable --now: it says that it is ready" inside "systemctl enable -q --now $unit"
prove "an event on its feed" within 30 "timeout 10 $events | grep -q /bare"
prove "each process is behind its fences" within 10 "appliance doctor --seconds 0 -v 2>&1 | grep -qi sandbox"
inside 'sed -i "s/^#max_head_bytes = .*/max_head_bytes = 32768/" /etc/capture-appliance/appliance.toml'
before=$(inside "$main")
prove "reload: another configuration" inside "systemctl reload $unit"
prove "… it says so" within 30 "journalctl -q -u $unit | grep -q 'configuration 2: http.max_head_bytes'"
prove "… in the same process" inside "[ \$($main) = $before ]"
inside "kill -STOP $before"
prove "stopped: the watchdog kills it, it starts again" other 90 "$before"
before=$(inside "$main")
inside "kill -KILL $before"
prove "killed: it starts again" other 30 "$before"
prove "an event again" within 30 "timeout 10 $events | grep -q /bare"
before=$(inside "$main")
prove "the package again: the sensor goes on" quietly inside "apt-get install -qq -y --reinstall /root/package.deb && [ \$($main) = $before ]"
prove "stop: it drains, and its ledger closes" inside "systemctl stop $unit && journalctl -q -u $unit | tail -n 5 | grep -q 'ledger closed'"
inside "systemctl start $unit"
prove "purge: the sensor is stopped" quietly inside "apt-get purge -qq -y capture-appliance && ! systemctl -q is-active $unit"
prove "… and nothing is left" inside "! test -e /usr/lib/capture-appliance && ! test -e /etc/capture-appliance && ! find /etc/systemd -name 'capture-*' | grep ."
exit $status
