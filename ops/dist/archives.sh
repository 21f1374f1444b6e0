#!/bin/sh
# The archives of Debian and Ubuntu, for roots and for sources; read with `.` after common.sh.
# Environment: DEBIAN_MIRROR, UBUNTU_MIRROR; OLD_MIRROR=yes accepts indexes whose time is over, as a snapshot has them.

check_time=true
[ "${OLD_MIRROR:-}" != yes ] || check_time=false
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# mirror_of SUITE and parts_of SUITE: where its packages are, and which of its parts are needed.
mirror_of() {
    case $1 in
    jammy | noble | questing) echo "${UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu}" ;;
    *) echo "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" ;;
    esac
}
parts_of() { case $1 in jammy | noble | questing) echo main,universe ;; *) echo main ;; esac; }

# keys_of SUITE: the file of the keys that its archive is signed with.
keys_of() {
    case $1 in jammy | noble | questing) ubuntu_keys ;; *) echo $debian_keys ;; esac
}

# apt_of FOLDER SUITE KIND KEYS: makes a state of apt for that suite alone, of deb or deb-src. Then apt_in uses it.
apt_of() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    echo "$3 [signed-by=$4] $(mirror_of "$2") $2 $(parts_of "$2" | tr , ' ')" >"$1/sources.list"
    quietly apt_in "$1" apt-get update
}
apt_in() {
    apt_folder=$1
    shift
    apt_program=$1
    shift
    (cd "$apt_folder" && "$apt_program" -qq -o "Dir::Etc::sourcelist=$apt_folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Sandbox::User=root -o "Dir::State::lists=$apt_folder/lists" -o "Dir::Cache=$apt_folder/cache" \
        -o Dir::State::status=/dev/null -o Acquire::Check-Valid-Until=$check_time "$@")
}

# The keys of Ubuntu's archive, as Debian has them in a package of its newer releases.
ubuntu_keys() {
    keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    folder=$work/ubuntu-keyring
    [ -e $keys ] || keys=$folder$keys
    if [ ! -e "$keys" ]; then
        apt_of "$folder" trixie deb $debian_keys
        quietly apt_in "$folder" apt-get download ubuntu-keyring
        quietly dpkg-deb -x "$folder"/ubuntu-keyring_*.deb "$folder"
    fi
    echo "$keys"
}

# root_of SUITE PACKAGES FORMAT TARGET: makes a root with these packages.
root_of() {
    quietly mmdebstrap --mode=root --variant=minbase "--aptopt=Acquire::Check-Valid-Until \"$check_time\"" --components="$(parts_of "$1")" \
        --keyring="$(keys_of "$1")" --include="$2" --format="$3" "$1" "$4" "$(mirror_of "$1")"
}

# source_of PACKAGE[=VERSION] SUITE FOLDER: its files into FOLDER, as the archive has signed them; not unpacked.
source_of() {
    apt_of "$3" "$2" deb-src "$(keys_of "$2")"
    quietly apt_in "$3" apt-get source --download-only "$1"
}
