#!/bin/sh
# Installs what cross-builds, firmware images and their tests need: Debian packages by name. Does
# nothing, in well under a second, when nothing is missing. Works as root or with sudo.
#
#   board/setup.sh            install what is missing
#   board/setup.sh --check    only say what is missing; exit 1 if anything is
set -eu

# What each is for:
#   gcc-*, libc6-dev-*-cross        linkers and C libraries of the two targets
#   rustc-web ... libstd-rust-web-dev   Debian's Rust with its sources: the way to build that needs
#                                   nothing but apt (cross/build takes others where they are there)
#   qemu-system-arm                 the boards qemu-aarch64 and qemu-armv7
#   qemu-user-static                unit tests of both architectures
#   u-boot-qemu, u-boot-tools       boot loader, signed FIT images; openssl makes its keys
#   signify-openbsd                 signs updates
#   squashfs-tools, cpio, xz-utils, fdisk, kmod, device-tree-compiler    make images
#   make, gcc, libc6-dev            MTD modules for Debian's kernels
#   busybox-static, shellcheck      check the scripts of the images, and run them
#   systemd                         checks its unit
packages="
gcc-aarch64-linux-gnu
gcc-arm-linux-gnueabihf
libc6-dev-arm64-cross
libc6-dev-armhf-cross
rustc-web
cargo-web
rust-web-src
libstd-rust-web-dev
qemu-system-arm
qemu-user-static
u-boot-qemu
u-boot-tools
openssl
signify-openbsd
squashfs-tools
cpio
xz-utils
fdisk
kmod
device-tree-compiler
make
gcc
libc6-dev
shellcheck
busybox-static
systemd
"

fail() {
    echo "board/setup.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root or sudo is needed to install:$missing"
    fi
}

# shellcheck disable=SC2086 # a list of names
command -v dpkg-query >/dev/null ||
    fail "this set-up knows Debian and its kin only; install by other means:" $packages
missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done

if [ "${1:-}" = --check ]; then
    [ -z "$missing" ] || fail "missing:$missing; run board/setup.sh"
    exit 0
fi

if [ -n "$missing" ]; then
    echo "board/setup.sh: installing$missing" >&2
    # Standard output is that of who calls this.
    as_root apt-get -q update >&2
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q install -y --no-install-recommends $missing >&2
fi
