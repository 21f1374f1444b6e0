#!/bin/sh
# Prints the CPython interpreters, 3.11 to 3.14, that wheels can be built with here: one for each minor version.
#
# usage: ops/dist/pythons.sh          Environment: PYTHONS, paths to choose from instead of those found.
# An interpreter counts when it has its C headers, pip and venv.
set -eu

fits() { # fits PYTHON: prints its minor version
    "$1" -c 'import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14) or not os.path.exists(header):
    raise SystemExit(1)
print(sys.version_info.minor)' 2>/dev/null
}

found=
for candidate in ${PYTHONS:-/usr/bin/python3.1[1-4] /usr/local/bin/python3.1[1-4] "${HOME:-/root}"/.pyenv/versions/3.1[1-4].*/bin/python3 \
    "$(command -v python3 || :)"}; do
    [ -x "$candidate" ] || continue
    minor=$(fits "$candidate") || continue
    case " $found " in *" $minor "*) continue ;; esac
    found="$found $minor"
    echo "$candidate"
done
[ -n "$found" ] || { echo "dist: no CPython 3.11 to 3.14 with headers, pip and venv is here; name some with PYTHONS=" >&2; exit 1; }
