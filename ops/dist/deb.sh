#!/bin/sh
# Writes dist/capture-appliance_VERSION_ARCH.deb from dist/wheels.   usage: ops/dist/deb.sh
#
# The package holds the wheels of all interpreters; on the sensor those of its own are unpacked beside the version before,
# tried and made current (appliance-versions). So one package serves every release whose Python it has wheels for, and an
# upgrade that fails leaves what ran. Environment: DEBFULLNAME and DEBEMAIL, the maintainer.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh

wheels=$dist/wheels
tree=$work/deb
version=$(version)
architecture=$(dpkg --print-architecture)
package=$dist/capture-appliance_${version}_$architecture.deb
[ -n "$(ls "$wheels"/capture_appliance-"$version"-*.whl 2>/dev/null)" ] || fail "no wheel of version $version in $wheels: make dist first"

put() { # put MODE FROM TO
    mkdir -p "$tree$(dirname "$3")"
    sed 's|/usr/local/|/usr/|g' "$2" >"$tree$3"
    chmod "$1" "$tree$3"
}

rm -rf "$tree" "$package"
mkdir -p "$tree/DEBIAN"
home=/usr/lib/capture-appliance
mkdir -p "$tree$home/wheels"
cp "$wheels"/*.whl "$tree$home/wheels/"
put 644 ops/dist/unpack.py $home/tools/unpack.py
put 644 ops/dist/trial.py $home/tools/trial.py
put 755 ops/dist/appliance.sh /usr/bin/appliance
put 755 ops/dist/versions.sh /usr/sbin/appliance-versions
for unit in ops/systemd/*.service; do put 644 "$unit" "/lib/systemd/system/${unit##*/}"; done
put 644 ops/systemd/capture-appliance.sysusers /usr/lib/sysusers.d/capture-appliance.conf
put 644 ops/systemd/capture-appliance.tmpfiles /usr/lib/tmpfiles.d/capture-appliance.conf

# Pages and configuration come from the package itself, run once here from an environment of its own.
python=$(sh ops/dist/pythons.sh | head -n 1)
try=$work/deb-try
rm -rf "$try"
"$python" ops/dist/unpack.py "$wheels" "$try"
"$try/bin/python" -P ops/dist/pages.py "$tree/usr/share" man/man1 bash-completion/completions zsh/vendor-completions ops/dist/versions.sh
mkdir -p "$tree/etc/capture-appliance" "$tree/etc/default"
"$try/bin/python" -P -m appliance config >"$tree/etc/capture-appliance/appliance.toml"
chmod 640 "$tree/etc/capture-appliance/appliance.toml"
put 644 ops/dist/deb/default /etc/default/capture-appliance

# What belongs to a sensor and does not run on it.
share=/usr/share/capture-appliance
for folder in grafana/dashboards grafana/provisioning prometheus schema forward; do
    for file in $(find "ops/$folder" -type f ! -name '*.pyc'); do put 644 "$file" "$share/${file#ops/}"; done
done
doc=/usr/share/doc/capture-appliance
for page in $(cd ops/docs && find . -name '*.md' | sort); do put 644 "ops/docs/$page" "$doc/${page#./}"; done
for example in ops/examples/*; do [ ! -f "$example" ] || put 644 "$example" "$doc/examples/${example##*/}"; done
"$try/bin/python" ops/dist/licences.py --copyright "$wheels" >"$tree$doc/copyright"
{
    printf 'capture-appliance (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n' "$version"
    printf ' -- %s <%s>  %s\n' "${DEBFULLNAME:-Capture appliance}" "${DEBEMAIL:-capture-appliance@packages.invalid}" \
        "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$tree$doc/changelog.gz"
# The libraries of the system that compiled modules of the wheels ask for, as packages: pyzmq wants the one of C++.
needed=$(find "$try" -name '*.so*' -type f -exec objdump -p {} + 2>/dev/null | sed -n 's/^ *NEEDED *//p' | sort -u)
libraries=
for library in $needed; do
    [ -z "$(find "$try" -name "$library" -print -quit)" ] || continue # it comes along
    owner=$(dpkg -S "*/$library" 2>/dev/null | grep -v -e -dev: -e diversion | head -n 1 | cut -d : -f 1)
    [ -n "$owner" ] || fail "no Debian package has $library, which a wheel needs"
    case $owner in libc6) continue ;; esac # with its version, below
    case "$libraries," in *" $owner,"*) ;; *) libraries="$libraries, $owner" ;; esac
done
rm -rf "$try"
find "$tree/usr/share/man" -type f -exec gzip -9n {} +

# The minor versions that have wheels; what lies between them and has none is ruled out.
minors=$(cd "$wheels" && ls capture_appliance-*.whl | sed 's/.*-cp3\([0-9]*\)-.*/\1/' | sort -n)
oldest=$(echo "$minors" | head -n 1)
newest=$(echo "$minors" | tail -n 1)
depends="python3 (>= 3.$oldest), python3 (<< 3.$((newest + 1)))"
for minor in $(seq "$oldest" "$newest"); do
    echo "$minors" | grep -qx "$minor" || depends="$depends, python3 (<< 3.$minor) | python3 (>= 3.$((minor + 1)))"
done
# Of the oldest release: each wheel names what it needs itself, and unpack.py takes none that does not fit.
glibc=$(cd "$wheels" && ls capture_appliance-*.whl | sed 's/.*manylinux_2_\([0-9]*\)_.*/\1/' | sort -n | head -n 1)
cat >"$tree/DEBIAN/control" <<END
Package: capture-appliance
Version: $version
Section: net
Priority: optional
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-Capture appliance} <${DEBEMAIL:-capture-appliance@packages.invalid}>
Depends: $depends, libc6 (>= 2.$glibc)$libraries, passwd
Recommends: ethtool, iproute2
Suggests: prometheus
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f 1)
Description: capture of HTTP from a network interface as a feed of events
 Takes the packets of a TAP, a mirror port or a capture file, puts TCP streams
 together, and publishes each HTTP transaction as one JSON event, with an exact
 account of every frame and with metrics for Prometheus.
 .
 Everything it needs is in the package. Versions lie side by side and a switch
 is one rename: see appliance-versions(8).
END
printf '%s\n' /etc/capture-appliance/appliance.toml /etc/default/capture-appliance >"$tree/DEBIAN/conffiles"
echo "interest-noawait /usr/bin/python3" >"$tree/DEBIAN/triggers"
for script in postinst prerm postrm; do install -m 755 "ops/dist/deb/$script" "$tree/DEBIAN/$script"; done
(cd "$tree" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -print | LC_ALL=C sort | sed 's|^\./||' | xargs md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# The wheels are compressed already: the lowest level takes a tenth of the time for the same size. One thread: same bytes.
quietly dpkg-deb --root-owner-group -Zxz -z1 --threads-max=1 --build "$tree" "$package"
say "deb: $(du -h "$package" | cut -f 1) $package"
