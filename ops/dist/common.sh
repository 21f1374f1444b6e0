# What the scripts of this folder share; read with `.` from the root of the tree.
say() { printf 'dist: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
# quietly COMMAND…: its output is shown only when it fails.
quietly() {
    quiet_log=$(mktemp)
    if "$@" >"$quiet_log" 2>&1; then
        rm -f "$quiet_log"
    else
        tail -n 40 "$quiet_log" >&2
        rm -f "$quiet_log"
        return 1
    fi
}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore LC_ALL=C.UTF-8 TZ=UTC PYTHONHASHSEED=0
umask 022
# The time that everything in the artefacts carries: of the last commit, else of the newest heading of the changelog.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
fi
export SOURCE_DATE_EPOCH
work=${DIST_WORK:-$PWD/build/dist}
dist=${DIST:-$PWD/dist}
# The files that the package is built of, sorted: from the repository, or from an unpacked archive without one.
sources() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -co --exclude-standard -- appliance workers pyproject.toml ops/build_modules.py LICENSE README.md MANIFEST.in
    else
        find appliance workers pyproject.toml ops/build_modules.py LICENSE README.md MANIFEST.in \
            \( -name '*.so' -o -name '*.c' -o -name __pycache__ -prune \) -o -type f -print 2>/dev/null
    fi | sort | while read -r file; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
}
# One number for all of them: a wheel that was built of others does not fit this tree.
sources_digest() { sources | while read -r file; do sha256sum "$file"; done | sha256sum | cut -c 1-16; }
version() { sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml | head -n 1; }
