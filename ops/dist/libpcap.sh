#!/bin/sh
# Builds the libpcap that the wheels carry: capture from interfaces and files, and no other library behind it.
#
# usage: ops/dist/libpcap.sh FOLDER   writes FOLDER/libpcap.so*, FOLDER/pcap/*.h, FOLDER/pcap.h and FOLDER/LICENSE
# Debian's own libpcap would bring D-Bus, libsystemd and six more into each wheel. The release is pinned below with its
# checksum and comes as Debian's source package. Needs gcc, make, flex and bison.
set -eu
version=1.10.3
sha256=2a8885c403516cf7b0933ed4b14d6caa30e02052489ebd414dc75ac52e7559e6
epoch=${SOURCE_DATE_EPOCH:-0}
target=$1
case $target in /*) ;; *) target=$PWD/$target ;; esac
[ ! -e "$target/libpcap-$version.done" ] || exit 0

say() { printf 'dist: %s\n' "$*" >&2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
archive=$target/libpcap_$version.orig.tar.gz
mkdir -p "$target" "$work/state/lists/partial" "$work/cache/archives/partial"

if ! echo "$sha256  $archive" | sha256sum -c --status 2>/dev/null; then
    say "fetching libpcap $version"
    mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$work/sources.list"
    (
        cd "$work"
        options="-qq -o Dir::Etc::sourcelist=$work/sources.list -o Dir::Etc::sourceparts=/dev/null
            -o Dir::State::lists=$work/state/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User=root"
        # shellcheck disable=SC2086
        apt-get $options update && apt-get $options source --download-only "libpcap=$version-1"
    ) >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; say "libpcap's source cannot be had from Debian; put it at $archive"; exit 1; }
    cp "$work/libpcap_$version.orig.tar.gz" "$archive"
fi
echo "$sha256  $archive" | sha256sum -c --status || { say "$archive has another checksum than is pinned"; exit 1; }

say "building libpcap $version"
mkdir "$work/source"
tar xzf "$archive" -C "$work/source" --strip-components=1
(
    cd "$work/source"
    SOURCE_DATE_EPOCH=$epoch CFLAGS="-O2 -g0 -fPIC -ffile-prefix-map=$work=." LDFLAGS=-Wl,-s ./configure --disable-dbus --disable-rdma \
        --disable-usb --disable-bluetooth --disable-remote --disable-netmap --without-libnl --without-dag --without-snf --without-dpdk
    make shared
) >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
rm -rf "$target/pcap" "$target"/libpcap.so*
cp -r "$work/source/pcap" "$work/source/pcap.h" "$work/source/LICENSE" "$target/"
cp "$work/source/libpcap.so.$version" "$target/libpcap.so.1"
ln -s libpcap.so.1 "$target/libpcap.so"
strip --strip-unneeded "$target/libpcap.so.1"
: >"$target/libpcap-$version.done"
