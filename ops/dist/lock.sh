#!/bin/sh
# Resolves the dependencies anew and writes ops/dist/{requirements,build}.lock.   usage: ops/dist/lock.sh
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
pythons=
for base in $(sh ops/dist/pythons.sh); do
    name=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    rm -rf "${work:?}/$name"
    "$base" -m venv "$work/$name"
    # What is published as source alone is asked for its own needs by the tools that would build it.
    quietly "$work/$name/bin/python" -m pip install -q setuptools wheel Cython
    pythons="$pythons $work/$name/bin/python"
done
# shellcheck disable=SC2086
${pythons##* } ops/dist/lock.py $pythons
say "requirements.lock: $(grep -c == ops/dist/requirements.lock) packages; ops/dist/build.lock: $(grep -c == ops/dist/build.lock)"
