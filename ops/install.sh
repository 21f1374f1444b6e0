#!/bin/sh
# Puts the appliance where a system expects it, or takes it away.   usage: ops/install.sh install|uninstall|rollback
#
#   PREFIX/lib/capture-appliance   versions side by side, each a virtual environment of its own; `current` is a link
#   PREFIX/bin/appliance           what starts the current one
#   PREFIX/sbin/appliance-versions lists them, goes back to the one before
#   /etc/capture-appliance         appliance.toml, kept when it was changed
#   units, sysusers.d, tmpfiles.d, man pages and completions where they are looked for; PREFIX/share/doc/capture-appliance
#
# A new version is unpacked beside the current one and tried; then one rename makes it current. An installation that
# fails, or is killed at any point, leaves the sensor as it was.
# Environment: PREFIX [/usr/local]; DESTDIR, a tree to install into, for packages and tests; EXTRAS, such as
# parquet,forward [those that are installed]; RELEASE, a folder of wheels to install instead of building; RESTART=yes
# restarts the running units afterwards. The Python of .venv is the one that will run it.
set -eu
cd "$(dirname "$0")/.."
. ops/dist/common.sh
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
case $prefix in /*) ;; *) echo "install: PREFIX=$prefix: a path from the root is needed, as /usr/local" >&2; exit 2 ;; esac
case $prefix in
/usr | /usr/local) lib=$prefix/lib/systemd/system sysusers=$prefix/lib/sysusers.d tmpfiles=$prefix/lib/tmpfiles.d ;;
*) lib=/etc/systemd/system sysusers=/etc/sysusers.d tmpfiles=/etc/tmpfiles.d ;;
esac
home=$prefix/lib/capture-appliance
doc=$prefix/share/doc/capture-appliance
etc=/etc/capture-appliance
extras_file=$root$home/extras
extras=${EXTRAS:-$(cat "$extras_file" 2>/dev/null || :)}

say() { printf 'install: %s\n' "$*" >&2; }
live() { [ -z "$root" ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; }

# Sets `wheels` to a folder with the wheels of everything: a release, dist/wheels when built of these sources, or made here.
gather() {
    python=.venv/bin/python
    [ -x $python ] || { say "run make setup first"; exit 1; }
    wheels=$(sh ops/dist/fitting.sh $python)
    if [ -n "$wheels" ]; then
        case ",$extras," in
        *,parquet,*) say "$wheels has no wheels for parquet: building" ;;
        *) say "installing from $wheels"; return ;;
        esac
    fi
    wheels=build/wheels
    rm -rf build/lib.* build/bdist.* $wheels
    mkdir -p $wheels
    say "building the wheel"
    # What make setup has compiled is not compiled again: setuptools finds it where it would put it.
    built=$($python -c 'import sys, sysconfig
print(f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}")')
    find appliance workers -name '*.so' | while read -r module; do
        [ -e "${module%%.*}.pyx" ] || continue # of a module that is gone
        mkdir -p "$built/${module%/*}"
        cp "$module" "$built/$module"
    done
    quietly $python -m pip wheel -q --no-deps --no-build-isolation -w $wheels .
    wheel=$(echo $wheels/capture_appliance-*.whl)
    say "fetching what it needs${extras:+, with $extras}"
    quietly $python -m pip wheel -q -w $wheels "$wheel${extras:+[$extras]}"
}

put() { # put MODE FROM TO: with PREFIX for /usr/local
    mkdir -p "$root$(dirname "$3")"
    sed "s|/usr/local/|$prefix/|g" "$2" >"$root$3.new"
    chmod "$1" "$root$3.new"
    mv "$root$3.new" "$root$3"
}

install_all() {
    umask 022
    gather
    base=$($python -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    case $base in /root/* | /home/*)
        say "note: $base is in somebody's home, where the service's user cannot come;"
        say "      for the units:  make clean install PYTHON=/usr/bin/python3"
        ;;
    esac
    put 644 ops/dist/unpack.py "$home/tools/unpack.py"
    put 644 ops/dist/trial.py "$home/tools/trial.py"
    put 755 ops/dist/versions.sh "$prefix/sbin/appliance-versions"
    put 755 ops/dist/appliance.sh "$prefix/bin/appliance.next"
    # In another tree there is no configuration of this machine to try.
    [ -z "$root" ] || export CONFIGURATION=
    PYTHON=$base DESTDIR=$root "$root$prefix/sbin/appliance-versions" install "$wheels"
    mv "$root$prefix/bin/appliance.next" "$root$prefix/bin/appliance"
    printf '%s\n' "$extras" >"$extras_file"
    # Before there were versions, one environment lay here itself. A sensor that still runs from it keeps it.
    if ! grep -qsF "$home/lib/" /proc/[0-9]*/maps >/dev/null 2>&1; then
        for old in bin include lib lib64 share pyvenv.cfg; do rm -rf "${root}${home:?}/$old"; done
    fi

    mkdir -p "$root$etc"
    current=$root$home/current/bin/python
    "$current" -P ops/dist/pages.py "$root$prefix/share" man/man1 bash-completion/completions zsh/site-functions \
        ops/dist/versions.sh
    for unit in ops/systemd/*.service; do put 644 "$unit" "$lib/${unit##*/}"; done
    put 644 ops/systemd/capture-appliance.sysusers "$sysusers/capture-appliance.conf"
    put 644 ops/systemd/capture-appliance.tmpfiles "$tmpfiles/capture-appliance.conf"
    for page in $(cd ops/docs && find . -name '*.md'); do put 644 "ops/docs/$page" "$doc/${page#./}"; done
    put 644 LICENSE "$doc/LICENSE"
    "$root$prefix/bin/appliance" config >"$root$doc/appliance.toml"
    [ -e "$root$etc/appliance.toml" ] || cp "$root$doc/appliance.toml" "$root$etc/appliance.toml"
    chmod 640 "$root$etc/appliance.toml"
    if live; then
        systemd-sysusers capture-appliance.conf
        systemd-tmpfiles --create capture-appliance.conf
        chgrp capture-appliance "$etc/appliance.toml"
        systemctl daemon-reload
        if [ "${RESTART:-}" = yes ]; then
            say "restarting the sensors that run"
            systemctl try-restart 'capture-appliance@*'
        elif systemctl -q is-active 'capture-appliance@*'; then
            say "the sensors that run go on with the version before, until  systemctl restart 'capture-appliance@*'"
        else
            say "next: edit $etc/appliance.toml, then  systemctl enable --now capture-appliance@INTERFACE"
        fi
    fi
}

uninstall_all() {
    if live; then
        # stop takes a pattern, disable does not: the template stands for all that were enabled of it.
        systemctl stop 'capture-appliance@*' 'capture-nic@*' || :
        systemctl --quiet disable capture-appliance@.service capture-nic@.service || :
    fi
    if cmp -s "$root$doc/appliance.toml" "$root$etc/appliance.toml"; then
        rm -f "$root$etc/appliance.toml"
    elif [ -e "$root$etc/appliance.toml" ]; then
        say "kept, because it was changed: $root$etc/appliance.toml"
    fi
    rm -rf "$root${home:?}" "$root${doc:?}"
    rm -f "$root$prefix/share/man/man8/appliance-versions.8" "$root$prefix/share/man/man1/appliance.1" "$root$prefix"/share/man/man1/appliance-*.1 \
        "$root$prefix/share/bash-completion/completions/appliance" "$root$prefix/share/zsh/site-functions/_appliance"
    rm -f "$root$prefix/bin/appliance" "$root$prefix/sbin/appliance-versions" "$root$sysusers/capture-appliance.conf" "$root$tmpfiles/capture-appliance.conf"
    for unit in ops/systemd/*.service; do rm -f "$root$lib/${unit##*/}"; done
    # Folders that are empty now were ours, or are nobody's; in a living system those of the system stay.
    for folder in "$etc" "$doc" "$lib" "$sysusers" "$tmpfiles" "$prefix/bin" "$prefix/sbin" "$home" \
        "$prefix/share/man/man1" "$prefix/share/man/man8" "$prefix/share/bash-completion/completions" "$prefix/share/zsh/site-functions"; do
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
rollback) "$root$prefix/sbin/appliance-versions" rollback ;;
*) sed -n '2s/.*usage: //p' "$0" >&2; exit 2 ;;
esac
