#!/bin/sh
# Runs every test, several at a time.   usage: sh ops/test.sh [OPTIONS OF PYTEST]
#
# Many tests wait for timers and for processes, so there are two more workers than cores. Each has namespaces of its own.
# Where these cannot be made, as without root, one test runs after another.
set -eu
cd "$(dirname "$0")/.."
if tests/in_namespaces.sh -c '' >/dev/null 2>&1; then
    workers=$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 2))
    exec .venv/bin/python -m pytest -q --tx "$workers*popen//python=tests/in_namespaces.sh" \
        --dist loadfile --no-loadscope-reorder "$@"
fi
exec .venv/bin/python -m pytest -q "$@"
