#!/bin/sh
# Starts the current version. The link is followed here, once: the processes of a run all come from one version, also
# those that are started again after another one became current.
here=$(dirname "$(readlink -f "$0")")
exec "$(readlink -f "$here/../lib/capture-appliance/current")/bin/python" -P -m appliance "$@"
