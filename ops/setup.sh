#!/bin/sh
# Makes .venv with the compiled package in it.   usage: [EXTRAS=parquet,forward] ops/setup.sh [run|use|test|quick|tell]
#
# `use` takes a wheel instead of compiling, when one fits: of the folder RELEASE, or of dist/wheels.
# `tell` says what a run of the tests installs and how long it takes, and does nothing.
# `run` installs what the appliance needs; `test` also what its tests, linters and live scenes need; `quick` only the
# Python packages of the tests. Debian packages are installed only when something is really missing: as root directly,
# else with sudo, else this says what to install.
# Repeating is quick: stamps under .venv hold checksums of what each step was made from.
set -eu
cd "$(dirname "$0")/.."
want=${1:-run}
venv=.venv
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# -- Debian packages ---------------------------------------------------------------------------------------------------

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=none
    if have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then as_root=sudo; fi
fi

# Keeps a package's service from starting: only its programs are wanted.
policy=/usr/sbin/policy-rc.d
no_services() {
    [ -e $policy ] && return
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# install PACKAGE…: false when they cannot be installed here.
install() {
    have apt-get && [ "$as_root" != none ] || return 1
    say "installing Debian packages: $*"
    no_services
    # The package lists may be absent (a container) or stale: refreshed only when the first try fails.
    quiet="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends"
    log=$(mktemp)
    if $quiet install "$@" >"$log" 2>&1 || { $quiet update >"$log" 2>&1 && $quiet install "$@" >"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
    return 1
}

need() {
    install "$@" || fail "please install these first:  sudo apt-get install -y $*"
}

# The Debian packages of the tests' tools that are missing here.
# tshark asks who may capture unless its installation is noninteractive, as it is here; it brings dumpcap and editcap.
test_packages() {
    lacking=
    for pair in ip:iproute2 curl:curl prometheus:prometheus promtool:prometheus tcpdump:tcpdump tshark:tshark \
        ethtool:ethtool openssl:openssl nats-server:nats-server nginx:nginx-light h2load:nghttp2; do
        case "$lacking " in *" ${pair##*:} "*) continue ;; esac
        # A root's tools may be outside an ordinary user's PATH.
        PATH="$PATH:/usr/sbin:/sbin" have "${pair%%:*}" || lacking="$lacking ${pair##*:}"
    done
    [ -e /usr/include/zmq.h ] || lacking="$lacking libzmq3-dev"
    printf '%s' "$lacking"
}

if [ "$want" = tell ]; then
    packages=$(test_packages)
    if [ -z "$packages" ]; then
        say "Debian packages of the tests: all are there (Prometheus, nats-server, tshark, ...)"
    elif [ "$as_root" = none ]; then
        say "Debian packages of the tests that are missing:$packages; not installed without root or sudo, their tests are skipped"
    else
        say "Debian packages of the tests, installed${as_root:+ with sudo} as root:$packages; their services are not started"
    fi
    say "Python packages of the build and of the tests go into .venv alone"
    say "the whole suite takes about 20 minutes on two free cores, and some 40 beside other work"
    exit 0
fi

# -- Python ------------------------------------------------------------------------------------------------------------

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
can_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }
has_header() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' >/dev/null 2>&1
}
debian_python() { [ "$("$1" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')" = /usr ]; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if recent "$candidate"; then command -v "$candidate"; return; fi
    done
}

python=$venv/bin/python
if ! recent $python; then
    python=$(find_python)
    if [ -z "$python" ]; then
        need python3
        python=$(find_python)
    fi
    [ -n "$python" ] || fail "Python 3.11 or newer is needed; name one with  make PYTHON=/path/to/python3"
fi

# -- a wheel, when one fits ------------------------------------------------------------------------------------------

took() { echo "$(($(date +%s) - begun)) s"; }
begun=$(date +%s)
if [ "$want" = use ] && { [ -n "${RELEASE:-}" ] || [ ! -e $venv/stamp-package ]; } && [ -z "${EXTRAS:-}" ]; then
    wheels=$(sh ops/dist/fitting.sh "$python")
    if [ -n "$wheels" ]; then
        id=$("$python" ops/dist/unpack.py --id "$wheels")
        if [ "$(cat $venv/stamp-wheel 2>/dev/null)" = "$id" ]; then exit 0; fi
        "$python" -m venv --clear --without-pip $venv
        "$python" ops/dist/unpack.py "$wheels" $venv
        printf '%s' "$id" >$venv/stamp-wheel
        say "not compiled: $id from $wheels is in $venv after $(took)"
        exit 0
    fi
    say "no wheel fits in ${RELEASE:-dist/wheels}: compiling"
fi

# -- what the compiled rooms are built with ----------------------------------------------------------------------------

packages=
have gcc || packages="$packages gcc"
[ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
[ -e /usr/include/pcap/pcap.h ] || [ -e /usr/local/include/pcap/pcap.h ] || packages="$packages libpcap-dev"
# Debian's python3 may lack ensurepip; an environment made by another tool has it or pip.
complete() { can_venv "$1" || { [ "$1" = $venv/bin/python ] && "$1" -m pip --version >/dev/null 2>&1; }; }
if debian_python "$python"; then
    name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    has_header "$python" || packages="$packages $name-dev"
    complete "$python" || packages="$packages $name-venv"
else
    has_header "$python" || fail "$python has no C headers (Python.h); name another with  make PYTHON=/path/to/python3"
    complete "$python" || fail "$python has no ensurepip module; name another with  make PYTHON=/path/to/python3"
fi
# shellcheck disable=SC2086
[ -z "$packages" ] || need $packages

if [ "$want" = test ]; then
    packages=$(test_packages)
    # shellcheck disable=SC2086
    if [ -n "$packages" ] && ! install $packages; then
        say "not installed:$packages; the tests that need them will be skipped"
    elif have systemctl; then
        for service in prometheus nats-server; do
            case "$packages" in *$service*) $as_root systemctl disable --quiet $service.service >/dev/null 2>&1 || : ;; esac
        done
    fi
fi

# -- the virtual environment -------------------------------------------------------------------------------------------

if ! recent $venv/bin/python; then
    say "making $venv with $($python --version)"
    "$python" -m venv --clear $venv
    python=$venv/bin/python
fi
if ! $python -m pip --version >/dev/null 2>&1; then
    say "putting pip into $venv"
    $python -m ensurepip --default-pip >/dev/null || fail "no pip for $venv: remove $venv and repeat"
fi

# For the example in JavaScript; its test is skipped without.
if [ "$want" = test ] && have npm && ! { [ -d build/node/node_modules/zeromq ] && [ -d build/node/node_modules/har-schema ]; }; then
    say "installing the npm packages zeromq, for an example, and har-schema, for tests"
    mkdir -p build/node
    npm install --silent --no-audit --no-fund --prefix build/node zeromq@6 har-schema@2 >/dev/null 2>&1 || say "npm could not install zeromq and har-schema"
fi

pyproject() { $python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))$1, sep='\n')"; }
fresh() { [ -f "$venv/$1" ] && [ "$(cat "$venv/$1")" = "$2" ]; }

pins="$($python -c 'import sys; print(sys.version.replace("\n", ""))') $(cat pyproject.toml ops/build_modules.py | cksum)"
if ! fresh stamp-build-requirements "$pins"; then
    say "installing what the build needs"
    # python-libpcap is itself built here, against the Cython just installed: hence the two steps.
    pyproject '["build-system"]["requires"]' >$venv/requirements.txt
    grep -v '^python-libpcap' $venv/requirements.txt | $python -m pip install -q -r /dev/stdin
    grep '^python-libpcap' $venv/requirements.txt | $python -m pip install -q --no-build-isolation -r /dev/stdin
    printf '%s' "$pins" >$venv/stamp-build-requirements
fi

# Compiled modules by the checksum of what they are made of: another checkout of the same sources compiles nothing.
BUILD_CACHE=${BUILD_CACHE-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/capture-appliance/modules}
export BUILD_CACHE
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
sources=$venv/sources # their checksums when the rooms were last compiled
find appliance workers -name '*.pyx' -o -name '*.pxd' | LC_ALL=C sort | xargs cksum >$sources.now
built() {
    $python - <<'END'
import glob, os, sys, tomllib
modules = tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]["ext-modules"]
made = {os.path.splitext(module["sources"][0])[0]: 0 for module in modules}
made["appliance/native/cython_utility"] = 0  # of ops/build_modules.py
for path in glob.glob("appliance/**/*.so", recursive=True) + glob.glob("workers/**/*.so", recursive=True):
    name = os.path.join(os.path.dirname(path), os.path.basename(path).partition(".")[0])
    if name in made:
        made[name] += 1
    else:
        os.remove(path)  # of a module that is no more, or lies elsewhere now
sys.exit(not all(made.values()))
END
}
# By content, not by time: a file that an archive or a checkout put back may be older than what was made of it.
[ ! -e $sources ] || grep -vxFf $sources $sources.now | while read -r _ _ file; do touch "$file"; done
if ! fresh stamp-package "$pins"; then
    say "building the package (a minute or two)"
    # Extensions are compiled side by side, which setuptools takes only from a configuration file.
    printf '[build_ext]\nparallel = %s\n' "$cores" >$venv/build.cfg
    # A path in a .pth file, in place of a finder in Python, which would be loaded at each start of the interpreter.
    DIST_EXTRA_CONFIG=$PWD/$venv/build.cfg \
        $python -m pip install -q --no-build-isolation --config-settings editable_mode=compat -e .
    printf '%s' "$pins" >$venv/stamp-package
    rm -f $venv/stamp-wheel
    say "compiled with $($python --version) in $(took)"
elif ! built || ! cmp -s $sources.now $sources; then
    say "compiling what changed"
    $python -W ignore -c 'import setuptools; setuptools.setup()' -q build_ext --inplace --parallel "$cores"
fi
mv $sources.now $sources
built
$python -m compileall -q appliance workers

for extra in $(echo "${EXTRAS:-}" | tr , ' '); do
    fresh "stamp-$extra" "$pins" && continue
    say "installing what $extra needs"
    pyproject "[\"project\"][\"optional-dependencies\"][\"$extra\"]" >$venv/requirements.txt 2>/dev/null ||
        fail "EXTRAS=$extra: there is no such extra; pyproject.toml lists them (parquet, forward)"
    $python -m pip install -q -r $venv/requirements.txt
    printf '%s' "$pins" >"$venv/stamp-$extra"
done

if { [ "$want" = test ] || [ "$want" = quick ]; } && ! fresh stamp-test "$pins"; then
    say "installing what the tests need"
    pyproject '["project"]["optional-dependencies"]["test"]' | $python -m pip install -q -r /dev/stdin
    printf '%s' "$pins" >$venv/stamp-test
fi
