#!/bin/sh
# Puts the appliance where a system expects it, or takes it away.   usage: ops/install.sh install|uninstall
#
#   PREFIX/lib/capture-appliance   a virtual environment of its own      PREFIX/bin/appliance   what starts it
#   /etc/capture-appliance         appliance.toml, kept when it was changed
#   units, sysusers.d, tmpfiles.d  where systemd looks for them          PREFIX/share/doc/capture-appliance
#
# Environment: PREFIX [/usr/local]; DESTDIR, a tree to install into, for packages and tests; EXTRAS, such as
# parquet,forward. `make setup` has to have built the package; the Python it was built with is the one that will run it.
set -eu
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
extras=${EXTRAS:-}
case $prefix in /*) ;; *) echo "install: PREFIX=$prefix: a path from the root is needed, as /usr/local" >&2; exit 2 ;; esac
case $prefix in
/usr | /usr/local) lib=$prefix/lib/systemd/system sysusers=$prefix/lib/sysusers.d tmpfiles=$prefix/lib/tmpfiles.d ;;
*) lib=/etc/systemd/system sysusers=/etc/sysusers.d tmpfiles=/etc/tmpfiles.d ;;
esac
home=$prefix/lib/capture-appliance
doc=$prefix/share/doc/capture-appliance
etc=/etc/capture-appliance
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf 'install: %s\n' "$*" >&2; }
live() { [ -z "$root" ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; }

build() {
    python=.venv/bin/python
    [ -x $python ] || { say "run make setup first"; exit 1; }
    mkdir -p build/wheels
    say "building the wheel"
    # What make setup has compiled is not compiled again: setuptools finds it where it would put it.
    built=$($python -c 'import sys, sysconfig
print(f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}")')
    rm -rf build/lib.* build/bdist.* build/wheels/capture_appliance-*
    for room in appliance/*.so workers/*.so; do
        mkdir -p "$built/${room%/*}"
        cp "$room" "$built/$room"
    done
    $python -m pip wheel -q --no-deps --no-build-isolation -w build/wheels .
    libpcap=$($python -c "import tomllib
print(*(r for r in tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'] if r.startswith('python-libpcap')))")
    $python -m pip wheel -q --no-deps --no-build-isolation --find-links build/wheels -w build/wheels "$libpcap"
}

put() { # put MODE FROM TO: with PREFIX for /usr/local
    mkdir -p "$root$(dirname "$3")"
    sed "s|/usr/local/|$prefix/|g" "$2" >"$root$3"
    chmod "$1" "$root$3"
}

install_all() {
    umask 022
    build
    say "installing into $root$home"
    rm -rf "${root}${home:?}"
    mkdir -p "$root$(dirname "$home")"
    base=$($python -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    case $base in /root/* | /home/*)
        say "note: $base is in somebody's home, where the service's user cannot come;"
        say "      for the units:  make clean install PYTHON=/usr/bin/python3"
        ;;
    esac
    "$base" -m venv --without-pip "$root$home"
    wheel=$(echo build/wheels/capture_appliance-*.whl)
    $python -m pip --python "$root$home/bin/python" install -q --no-compile --find-links build/wheels "$wheel${extras:+[$extras]}"
    # Neither scripts nor compiled files may name the tree they were made in.
    find "$root$home/bin" ! -name 'python*' ! -type d -delete
    sed -i '/^command = /d' "$root$home/pyvenv.cfg"
    "$root$home/bin/python" -m compileall -q -s "$root" -p / "$root$home/lib" || :

    mkdir -p "$root$prefix/bin" "$root$etc"
    cat >"$root$prefix/bin/appliance" <<'END'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/capture-appliance/bin/python" -P -m appliance "$@"
END
    chmod 755 "$root$prefix/bin/appliance"
    for unit in ops/systemd/*.service; do put 644 "$unit" "$lib/${unit##*/}"; done
    put 644 ops/systemd/capture-appliance.sysusers "$sysusers/capture-appliance.conf"
    put 644 ops/systemd/capture-appliance.tmpfiles "$tmpfiles/capture-appliance.conf"
    for page in ops/docs/*.md LICENSE; do put 644 "$page" "$doc/${page##*/}"; done
    "$root$prefix/bin/appliance" config >"$root$doc/appliance.toml"
    [ -e "$root$etc/appliance.toml" ] || cp "$root$doc/appliance.toml" "$root$etc/appliance.toml"
    chmod 640 "$root$etc/appliance.toml"
    if live; then
        systemd-sysusers capture-appliance.conf
        systemd-tmpfiles --create capture-appliance.conf
        chgrp capture-appliance "$etc/appliance.toml"
        systemctl daemon-reload
        say "next: edit $etc/appliance.toml, then  systemctl enable --now capture-appliance@INTERFACE"
    fi
}

uninstall_all() {
    if live; then systemctl disable --now 'capture-appliance@*' 'capture-nic@*' 2>/dev/null || :; fi
    if cmp -s "$root$doc/appliance.toml" "$root$etc/appliance.toml"; then
        rm -f "$root$etc/appliance.toml"
    elif [ -e "$root$etc/appliance.toml" ]; then
        say "kept, because it was changed: $root$etc/appliance.toml"
    fi
    rm -rf "$root${home:?}" "$root${doc:?}"
    rm -f "$root$prefix/bin/appliance" "$root$sysusers/capture-appliance.conf" "$root$tmpfiles/capture-appliance.conf"
    for unit in ops/systemd/*.service; do rm -f "$root$lib/${unit##*/}"; done
    # Folders that are empty now were ours, or are nobody's; in a living system those of the system stay.
    for folder in "$etc" "$doc" "$lib" "$sysusers" "$tmpfiles" "$prefix/bin" "$home"; do
        if [ -n "$root" ]; then
            (cd "$root" && while [ "$folder" != / ] && [ "$folder" != . ]; do
                rmdir "./$folder" 2>/dev/null || :
                folder=$(dirname "$folder")
            done)
        else
            case $folder in */capture-appliance) rmdir "$folder" 2>/dev/null || : ;; esac
        fi
    done
    if live; then systemctl daemon-reload; fi
    [ -n "$root" ] || say "not removed: /var/lib/capture-appliance and the user capture-appliance"
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) sed -n '2s/.*usage: //p' "$0" >&2; exit 2 ;;
esac
