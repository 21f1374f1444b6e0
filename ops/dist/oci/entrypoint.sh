#!/bin/sh
# Starts the appliance with CAP_NET_RAW where the container has it; reading files needs none.
set -eu
with="/usr/lib/capture-appliance/setpriv --inh-caps=+net_raw --ambient-caps=+net_raw"
# shellcheck disable=SC2086
if $with true 2>/dev/null; then
    exec $with /usr/bin/appliance "$@"
fi
exec /usr/bin/appliance "$@"
