#!/bin/sh
# Builds every artefact.   usage: ops/dist/dist.sh
#
#   dist/wheels/*.whl   the appliance for each CPython that is here or in ROOTS, and all that it needs
#   dist/*.deb          a package for every Debian and Ubuntu release whose Python is among them
#   dist/*.oci.tar      an OCI image; left out, and said so, where it cannot be made (no root, no mmdebstrap)
#   dist/sbom.json      CycloneDX     dist/LICENSES.txt    dist/SHA256SUMS
#
# Two builds of the same commit give the same bytes: SOURCE_DATE_EPOCH is the commit's time unless it is set.
# Environment: PYTHONS (pythons.sh); ROOTS, releases whose Python gets wheels too, as "noble trixie forky" (foreign.sh).
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
begun=$(date +%s)
missing=
for pair in gcc:gcc flex:flex bison:bison dpkg-deb:dpkg strip:binutils; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] || fail "these are needed to build the artefacts:  apt-get install$missing"

# What a former build left, of another version maybe, would be summed as ours.
rm -rf "$dist/wheels" "$dist"/*.deb "$dist"/*.oci.tar "$dist/SHA256SUMS" "$dist/sbom.json" "$dist/LICENSES.txt"
sh ops/dist/wheels.sh
for suite in ${ROOTS:-}; do sh ops/dist/foreign.sh "$suite"; done
sh ops/dist/deb.sh
status=
if [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null && command -v setcap >/dev/null; then
    sh ops/dist/oci.sh
    status=$work/oci/status
else
    say "no OCI image: it needs root, mmdebstrap and libcap2-bin"
fi
python3 ops/dist/licences.py "$dist/wheels" >"$dist/LICENSES.txt"
# shellcheck disable=SC2086
python3 ops/dist/sbom.py "$dist/wheels" $status >"$dist/sbom.json"
(cd "$dist" && find . -type f ! -name SHA256SUMS ! -name '*.part' | sed 's|^\./||' | sort | xargs sha256sum >SHA256SUMS)
say "$(wc -l <"$dist/SHA256SUMS") artefacts in $dist after $(($(date +%s) - begun)) s; check with  sha256sum -c SHA256SUMS"
