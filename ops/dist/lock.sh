#!/bin/sh
# Resolves the dependencies anew and writes ops/dist/{requirements,build}.lock.   usage: ops/dist/lock.sh
#
# For CPython 3.11 to 3.14: with the interpreters that are here, and for the others the files of the same versions.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
pythons=
others="3.11 3.12 3.13 3.14"
for base in $(sh ops/dist/pythons.sh); do
    name=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    rm -rf "${work:?}/$name"
    "$base" -m venv "$work/$name"
    # What is published as source alone is asked for its own needs by the tools that would build it.
    quietly "$work/$name/bin/python" -m pip install -q setuptools wheel Cython packaging
    pythons="$pythons $work/$name/bin/python"
    others=$(echo " $others " | sed "s/ ${name#python} / /")
done
# shellcheck disable=SC2086
${pythons##* } ops/dist/lock.py $pythons $others
say "requirements.lock: $(grep -c == ops/dist/requirements.lock) packages; ops/dist/build.lock: $(grep -c == ops/dist/build.lock)"
