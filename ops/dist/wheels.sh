#!/bin/sh
# Writes dist/wheels: the package for each CPython that is here, and all that it needs to be installed without an index.
#
# usage: ops/dist/wheels.sh          Environment: PYTHONS (pythons.sh), DIST [dist], DIST_WORK [build/dist]
# Everything that comes from the package index is pinned by ops/dist/{requirements,build}.lock with its hash.
set -eu
cd "$(dirname "$0")/../.."
. ops/dist/common.sh

wheels=$dist/wheels
pcap=$work/libpcap
source=$work/source
mkdir -p "$wheels" "$work"
pythons=$(sh ops/dist/pythons.sh)
sh ops/dist/libpcap.sh "$pcap"
digest=$(sources_digest)
version=$(version)

# The sources alone, so that nothing that was built in the tree gets in. Compiled objects of a former run stay out, too;
# C files are made once and serve every interpreter.
rm -rf "$source"
mkdir -p "$source"
sources | tar cf - -T - | tar xf - -C "$source"
find "$source" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
cat >"$work/built.json" <<END
{"sources": "$digest", "source_date_epoch": $SOURCE_DATE_EPOCH, "libpcap": "$(basename "$pcap"/libpcap-*.done .done | cut -d- -f2), bundled",
 "compiler": "$(gcc --version | head -n 1)"}
END

rm -f "$wheels"/*.part
python=
for base in $pythons; do
    name=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    python=$work/$name/bin/python
    lock=$(cat ops/dist/build.lock | cksum)
    if [ "$(cat "$work/$name/lock" 2>/dev/null)" != "$lock" ]; then
        say "preparing $name ($base)"
        rm -rf "${work:?}/$name"
        "$base" -m venv "$work/$name"
        grep -v '^python-libpcap=' ops/dist/build.lock >"$work/requirements"
        quietly "$python" -m pip install -q --require-hashes --no-deps --only-binary :all: -r "$work/requirements"
        grep '^python-libpcap=' ops/dist/build.lock >"$work/requirements"
        C_INCLUDE_PATH=$pcap LIBRARY_PATH=$pcap \
            quietly "$python" -m pip install -q --require-hashes --no-deps --no-build-isolation -r "$work/requirements"
        printf '%s' "$lock" >"$work/$name/lock"
    fi

    say "building capture-appliance $version for $name"
    rm -rf "$work/raw" "$source/build"
    mkdir -p "$work/raw"
    printf '[build_ext]\nparallel = %s\n' "$(getconf _NPROCESSORS_ONLN)" >"$work/build.cfg"
    # -g0: the interpreter's own flags ask for debugging information, which would be 30 MB.
    (
        export CFLAGS="${CFLAGS:--O3 -g0} -ffile-prefix-map=$source=." LDFLAGS="${LDFLAGS:--Wl,-s} -L$pcap" C_INCLUDE_PATH="$pcap"
        DIST_EXTRA_CONFIG="$work/build.cfg" quietly "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$work/raw" "$source"
    )
    rm -rf "$work/repaired"
    LD_LIBRARY_PATH=$pcap PATH="$work/$name/bin:$PATH" quietly "$python" -m auditwheel repair -w "$work/repaired" "$work"/raw/*.whl
    "$python" ops/dist/bundle.py --add appliance/built.json="$work/built.json" --add "{dist-info}/licenses/LICENSE.libpcap=$pcap/LICENSE" \
        "$work"/repaired/*.whl
    tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag.replace("cpython-", "cp"))')
    rm -f "$wheels"/capture_appliance-*-"$tag"-*.whl
    mv "$work"/repaired/*.whl "$wheels/"
    quietly "$python" -m pip download -q --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary nkeys \
        -d "$work/download-$tag" -r ops/dist/requirements.lock
    for file in "$work/download-$tag"/*.tar.gz; do # pure Python that is published as source alone
        [ -e "$file" ] || continue
        made=$work/made
        rm -rf "$made"
        quietly "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$made" "$file"
        "$python" ops/dist/bundle.py "$made"/*.whl
        mv "$made"/*.whl "$wheels/"
    done
    cp "$work/download-$tag"/*.whl "$wheels/"
done
say "wheels: $(ls "$wheels" | wc -l) files, $(du -sh "$wheels" | cut -f 1) in $wheels"
