# Functions and constants of board/build and board/qemu. Sourced, not run.
# shellcheck shell=sh disable=SC2034,SC2153 # constants are used by the scripts that source this

# Downloads and what is built from them alone are kept by content outside the source tree, so that
# a fresh clone does not fetch or build them again. It may be removed at any time.
cache=${EDGEWEIR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/edgeweir}

# The NOR flash of QEMU's virt machine: two banks of 64 MiB, seen as one device with erase blocks of
# 256 KiB. The first bank holds the boot loader and is not written.
flash_parts="0.flash:64M(boot)ro,256k(env)ro,1M(config),16M(data),-(rest)"
flash_bank_bytes=67108864
erase_bytes=262144
env_bytes=$erase_bytes
data_at=$((env_bytes + 1048576))    # in the second bank, after env and config
data_bytes=16777216

# The disk: one sector of boot state, twice, and two slots. Sectors of 512 bytes.
#   vda1 state    vda2 boot-a    vda3 root-a    vda4 boot-b    vda5 root-b
state_sector=2048
boot_sectors=49152     # 24 MiB
root_sectors=16384     # 8 MiB: the bound of a root image
boot_a_sector=4096
root_a_sector=$((boot_a_sector + boot_sectors))
boot_b_sector=$((root_a_sector + root_sectors))
root_b_sector=$((boot_b_sector + boot_sectors))
disk_sectors=$((root_b_sector + root_sectors + 2048))
root_bytes_max=$((root_sectors * 512))
boot_bytes_max=$((boot_sectors * 512))

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

say() {
    echo "${0##*/}: $*" >&2
}

# load_board NAME: reads the few lines of a board.
load_board() {
    board=$1
    [ -f "board/$board/board.conf" ] ||
        fail "no board $board; there are: $(cd board && echo */board.conf | sed 's#/board.conf##g')"
    # shellcheck disable=SC1090
    . "board/$board/board.conf"
    out=${CARGO_TARGET_DIR:-target}/board/$board
}

# hash_of FILE...: names a result by what it is made from.
hash_of() {
    cat "$@" | sha256sum | cut -c1-16
}

# Debian's archive for foreign architectures, without touching this machine's own apt: lists and
# configuration of our own under the cache, the mirror as configured here.
apt_private() {
    apt_dir=$cache/apt
    if [ ! -f "$apt_dir/ready" ] || [ -n "$(find "$apt_dir/ready" -mmin +720)" ]; then
        mkdir -p "$apt_dir/lists/partial" "$apt_dir/archives/partial"
        unset APT_CONFIG
        # shellcheck disable=SC2016 # apt's own fields
        line=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' \
            'Identifier: Packages' | grep '^Debian|Debian|[a-z]*|main|' | grep -v -e -updates -e -backports | head -n 1)
        [ -n "$line" ] || fail "apt knows no Debian archive here"
        codename=$(echo "$line" | cut -d'|' -f3)
        uri=$(echo "$line" | cut -d'|' -f5)
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $codename main" >"$apt_dir/sources.list"
        cat >"$apt_dir/apt.conf" <<CONF
Dir::State::Lists "$apt_dir/lists";
Dir::State::status "/dev/null";
Dir::Cache "$apt_dir";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "$apt_dir/sources.list";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; "armhf"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
        say "reading Debian's package lists for arm64 and armhf"
        if APT_CONFIG=$apt_dir/apt.conf apt-get -q update >"$apt_dir/update.log" 2>&1; then
            touch "$apt_dir/ready"
        elif [ -f "$apt_dir/ready" ]; then
            say "no newer package lists to be had; going on with those that are there"
        else
            cat "$apt_dir/update.log" >&2
            fail "apt-get update failed"
        fi
    fi
    export APT_CONFIG="$apt_dir/apt.conf"
}

# about PACKAGE:ARCH: what apt knows of the one that would be fetched. Asking takes a second or two,
# so the answer is kept until the lists are read anew.
about() {
    shown=$apt_dir/shown/$1
    if [ ! -f "$shown" ] || [ "$apt_dir/ready" -nt "$shown" ]; then
        mkdir -p "$apt_dir/shown"
        apt-cache show --no-all-versions "$1" >"$shown.$$"
        mv "$shown.$$" "$shown"
    fi
    cat "$shown"
}

# version_of PACKAGE:ARCH: the version that would be fetched.
version_of() {
    about "$1" | sed -n 's/^Version: //p' | head -n 1
}

# fetch_deb PACKAGE:ARCH [VERSION]: the path of a downloaded package, in $deb.
fetch_deb() {
    deb_package=${1%:*} deb_arch=${1#*:}
    deb_version=${2:-$(version_of "$1")}
    [ -n "$deb_version" ] || fail "apt has no $1"
    deb=$cache/debs/${deb_package}_${deb_version}_$deb_arch.deb
    [ -f "$deb" ] && return
    mkdir -p "$cache/debs/new.$$"
    say "fetching $1 $deb_version"
    (cd "$cache/debs/new.$$" && apt-get -q download "$1=$deb_version" >log 2>&1) ||
        { cat "$cache/debs/new.$$/log" >&2; fail "$1=$deb_version cannot be fetched"; }
    mv "$cache/debs/new.$$"/*.deb "$deb"
    rm -rf "$cache/debs/new.$$"
}

# make_kernel: Debian's kernel of the board, the modules that it needs and the MTD modules that
# Debian's kernels lack, under $kernel: Image, modules/*.ko, release.
make_kernel() {
    apt_private
    kernel_version=$(version_of "$KERNEL:$DEBIAN_ARCH")
    kernel_package=$(about "$KERNEL:$DEBIAN_ARCH" |
        sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
    release=${kernel_package#linux-image-}
    kernel=$cache/kernel-$release-$kernel_version-$(hash_of board/base/kernel.sh)
    [ -d "$kernel" ] && return
    fetch_deb "linux-image-$release:$DEBIAN_ARCH" "$kernel_version"; image_deb=$deb
    fetch_deb "linux-headers-$release:$DEBIAN_ARCH" "$kernel_version"; headers_deb=$deb
    series=$(echo "$kernel_version" | cut -d. -f1,2)
    fetch_deb "linux-headers-${release%-*}-common:all" "$kernel_version"; common_deb=$deb
    fetch_deb "linux-kbuild-$series:amd64" "$kernel_version"; kbuild_deb=$deb
    fetch_deb "linux-source-$series:all" "$kernel_version"; source_deb=$deb
    rm -rf "$kernel.new"
    mkdir -p "$kernel.new"
    say "MTD modules for $release"
    sh board/base/kernel.sh "$DEBIAN_ARCH" "$release" "$image_deb" "$headers_deb" "$common_deb" \
        "$kbuild_deb" "$source_deb" "$kernel.new" >"$kernel.log" 2>&1 ||
        { tail -n 30 "$kernel.log" >&2; fail "the kernel's modules were not built, see $kernel.log"; }
    mv "$kernel.new" "$kernel"
}

# What every kernel is told; the slot is added by whoever boots it. Tests that a kernel makes of its
# own ciphers take a second of a boot, and nothing here depends on them.
kernel_args="console=ttyAMA0 quiet loglevel=3 panic=1 cryptomgr.notests"

hex() {
    printf '0x%x' "$1"
}

# QEMU's options for the board's watchdog device.
watchdog_device() {
    case $WATCHDOG in
        i6300esb) echo "-device i6300esb -action watchdog=reset" ;;
        *) echo "-action watchdog=reset" ;;
    esac
}

# fill_flash FILE ENV: the second bank of flash, erased but for the boot loader's environment and
# an empty file system for data.
fill_flash() {
    head -c $flash_bank_bytes /dev/zero | tr '\0' '\377' >"$1"
    dd if="$2" of="$1" conv=notrunc status=none
    # An empty jffs2: the mark of an erased block at the start of each. Without it the first mount
    # erases them all, which keeps the chip busy for half a minute.
    block=$data_at
    while [ "$block" -lt $((data_at + data_bytes)) ]; do
        printf '\205\031\003\040\014\000\000\000\261\260\036\344' |
            dd of="$1" bs=4 seek=$((block / 4)) conv=notrunc status=none
        block=$((block + erase_bytes))
    done
}
