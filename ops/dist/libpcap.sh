#!/bin/sh
# Builds the libpcap that the wheels carry: capture from interfaces and files, and no other library behind it.
#
# usage: ops/dist/libpcap.sh FOLDER   writes FOLDER/libpcap.so*, FOLDER/pcap/*.h, FOLDER/pcap.h and FOLDER/LICENSE
# Debian's own libpcap would bring D-Bus, libsystemd and six more into each wheel. The release is pinned below with its
# checksum and comes as Debian's source package. Needs gcc, make, flex and bison.
set -eu
version=1.10.3
sha256=2a8885c403516cf7b0933ed4b14d6caa30e02052489ebd414dc75ac52e7559e6
target=$1
case $target in /*) ;; *) target=$PWD/$target ;; esac
[ ! -e "$target/libpcap-$version.done" ] || exit 0
cd "$(dirname "$0")/../.."
. ops/dist/common.sh
. ops/dist/archives.sh
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
archive=$target/libpcap_$version.orig.tar.gz
mkdir -p "$target"

if ! echo "$sha256  $archive" | sha256sum -c --status 2>/dev/null; then
    say "fetching libpcap $version"
    source_of "libpcap=$version-1" bookworm "$place" || fail "libpcap's source cannot be had from Debian; put it at $archive"
    cp "$place/libpcap_$version.orig.tar.gz" "$archive"
fi
echo "$sha256  $archive" | sha256sum -c --status || fail "$archive has another checksum than is pinned"

say "building libpcap $version"
mkdir "$place/source"
tar xzf "$archive" -C "$place/source" --strip-components=1
(
    cd "$place/source"
    CFLAGS="-O2 -g0 -fPIC -ffile-prefix-map=$place=." LDFLAGS=-Wl,-s ./configure --disable-dbus --disable-rdma \
        --disable-usb --disable-bluetooth --disable-remote --disable-netmap --without-libnl --without-dag --without-snf --without-dpdk
    make shared
) >"$place/log" 2>&1 || { tail -n 5 "$place/log" >&2; exit 1; }
rm -rf "$target/pcap" "$target"/libpcap.so*
cp -r "$place/source/pcap" "$place/source/pcap.h" "$place/source/LICENSE" "$target/"
cp "$place/source/libpcap.so.$version" "$target/libpcap.so.1"
ln -s libpcap.so.1 "$target/libpcap.so"
strip --strip-unneeded "$target/libpcap.so.1"
: >"$target/libpcap-$version.done"
