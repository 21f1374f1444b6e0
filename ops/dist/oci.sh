#!/bin/sh
# Writes dist/capture-appliance_VERSION_ARCH.oci.tar: an image of Debian with the package in it.   usage: ops/dist/oci.sh
#
# No container engine takes part: mmdebstrap makes the root file system, oci.py writes it down as an OCI image layout.
# `podman load -i`, `skopeo copy oci-archive:`, and `docker load` of a recent engine take it. Needs root and mmdebstrap.
# Environment: DEBIAN_MIRROR; SUITE of Debian [bookworm].
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh

version=$(version)
architecture=$(dpkg --print-architecture)
package=$dist/capture-appliance_${version}_$architecture.deb
image=$dist/capture-appliance_${version}_$architecture.oci.tar
suite=${SUITE:-bookworm}
[ -e "$package" ] || fail "no $package: make dist first"
command -v mmdebstrap >/dev/null || fail "mmdebstrap is needed: apt-get install mmdebstrap"
command -v setcap >/dev/null || fail "setcap is needed: apt-get install libcap2-bin"
mkdir -p "$work/oci"
cp "$package" "$work/oci/package.deb"
cp ops/dist/oci/entrypoint.sh "$work/oci/entrypoint.sh"

depends=$(dpkg-deb -f "$package" Depends | sed 's/ *([^)]*)//g; s/, */,/g')
say "making the root file system of the image"
# apt and its lists stay outside: an image is not upgraded in place. Manual pages and documents stay out, licences stay.
quietly mmdebstrap --variant=essential --mode=root --format=tar --include="$depends" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='groupadd --root "$1" --gid 10001 capture-appliance' \
    --customize-hook='useradd --root "$1" --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /var/lib/capture-appliance --shell /usr/sbin/nologin capture-appliance' \
    --customize-hook="copy-in $work/oci/package.deb /tmp" \
    --customize-hook='chroot "$1" dpkg --install /tmp/package.deb' \
    --customize-hook='rm -rf "$1"/tmp/package.deb "$1"/usr/lib/capture-appliance/wheels "$1"/var/log/dpkg.log "$1"/usr/lib/capture-appliance/.lock' \
    --customize-hook='cp "$1"/usr/bin/setpriv "$1"/usr/lib/capture-appliance/setpriv && setcap cap_net_raw=p "$1"/usr/lib/capture-appliance/setpriv' \
    --customize-hook="cp $work/oci/entrypoint.sh \"\$1\"/usr/bin/capture-appliance && chmod 755 \"\$1\"/usr/bin/capture-appliance" \
    --customize-hook="cp \"\$1\"/var/lib/dpkg/status $work/oci/status" \
    "$suite" "$work/oci/root.tar" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
python3 ops/dist/oci.py "$work/oci/root.tar" "$image" "$version" "$architecture"
say "oci: $(du -h "$image" | cut -f 1) $image"
