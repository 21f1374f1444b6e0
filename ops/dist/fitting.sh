#!/bin/sh
# Prints a folder of wheels that can be used instead of compiling, or nothing.   usage: ops/dist/fitting.sh PYTHON
#
# RELEASE names one, whatever it was built of. dist/wheels fits when it was built of the sources that are here.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
if [ -n "${RELEASE:-}" ]; then
    [ ! -d "$RELEASE/wheels" ] || RELEASE=$RELEASE/wheels
    "$1" ops/dist/unpack.py --id "$RELEASE" >/dev/null || fail "RELEASE=$RELEASE cannot be used"
    echo "$RELEASE"
elif made=$("$1" ops/dist/unpack.py --sources "$dist/wheels" 2>/dev/null) && [ -n "$made" ] && [ "$made" = "$(sources_digest)" ]; then
    echo "$dist/wheels"
fi
