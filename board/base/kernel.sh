#!/bin/sh
# Takes a kernel of Debian apart and builds the modules for NOR flash that it lacks, from Debian's
# source of the same version. Called by make_kernel; the result is kept by the hash of this file.
#
#   kernel.sh ARCH RELEASE IMAGE.deb HEADERS.deb COMMON.deb KBUILD.deb SOURCE.deb RESULT
set -eu

arch=$1 release=$2 image_deb=$3 headers_deb=$4 common_deb=$5 kbuild_deb=$6 source_deb=$7 result=$8
case $arch in
    arm64) karch=arm64 cross=aarch64-linux-gnu- ;;
    armhf) karch=arm cross=arm-linux-gnueabihf- ;;
    *) echo "kernel.sh: unknown architecture $arch" >&2; exit 1 ;;
esac

# What the images insert, in an order that needs no modprobe on the device; depmod finds the rest.
initramfs_modules="virtio_mmio virtio_blk squashfs"
root_modules="virtio_net mtd chipreg jffs2 softdog"
[ "$arch" = armhf ] || root_modules="$root_modules virtio_pci i6300esb"

work=$result.work
rm -rf "$work"
mkdir -p "$work/tree" "$work/mtd" "$result/modules"
for deb in "$image_deb" "$headers_deb" "$common_deb" "$kbuild_deb"; do
    dpkg-deb -x "$deb" "$work/tree"
done

# Headers and image are of one version; their makefiles name absolute places.
headers=$work/tree/usr/src/linux-headers-$release
common=$work/tree/usr/src/$(basename "$common_deb" | cut -d_ -f1)
kbuild=$work/tree/usr/lib/$(basename "$kbuild_deb" | cut -d_ -f1)
sed -i "s#/usr/src/linux-headers-[^ /]*-common#$common#g" "$headers/Makefile"
for place in "$headers" "$common"; do
    for link in scripts tools; do
        [ ! -L "$place/$link" ] || ln -sfn "$kbuild/$link" "$place/$link"
    done
done

from=$(dpkg-deb --fsys-tarfile "$source_deb" | tar -tf - | grep 'linux-source.*\.tar\.xz$')
top=$(basename "$from" .tar.xz)
dpkg-deb --fsys-tarfile "$source_deb" | tar -xOf - "$from" | xz -dc |
    tar -C "$work/mtd" --strip-components=4 --wildcards -xf - \
        "$top/drivers/mtd/chips/*" "$top/drivers/mtd/maps/physmap*" \
        "$top/drivers/mtd/parsers/cmdlinepart.c"
mv "$work/mtd/physmap-core.c" "$work/mtd/physmap.c"
# modpost counts the table with the sizes of the machine it was built for; only autoloading, which
# the images do not use, needs it.
[ "$arch" != armhf ] || sed -i '/MODULE_DEVICE_TABLE/d' "$work/mtd/physmap.c"
cat >"$work/mtd/Makefile" <<'MAKE'
ccflags-y := -DCONFIG_MTD_PHYSMAP_OF=1 -DCONFIG_MTD_CFI_INTELEXT=1 -DCONFIG_MTD_CFI_UTIL=1
obj-m := cfi_util.o cfi_cmdset_0001.o gen_probe.o cfi_probe.o physmap.o cmdlinepart.o
MAKE
make -C "$headers" M="$work/mtd" ARCH="$karch" CROSS_COMPILE="$cross" modules

mv "$work/tree/boot/vmlinuz-$release" "$result/Image"
mkdir -p "$work/tree/lib/modules/$release/extra"
cp "$work"/mtd/*.ko "$work/tree/lib/modules/$release/extra/"
/sbin/depmod -b "$work/tree" "$release"

order() {
    for module in "$@"; do
        # Built into the kernel where it is no file.
        /sbin/modprobe -d "$work/tree" -S "$release" --show-depends "$module" 2>/dev/null |
            sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++'
}
for stage in initramfs root; do
    [ "$stage" = initramfs ] && list=$initramfs_modules || list=$root_modules
    # shellcheck disable=SC2086 # lists of names
    order $list >"$work/$stage.paths"
done
grep -vxFf "$work/initramfs.paths" "$work/root.paths" >"$work/root.only" || true
for stage in initramfs root; do
    [ "$stage" = initramfs ] && list=$work/initramfs.paths || list=$work/root.only
    while read -r path; do
        "${cross}objcopy" --strip-debug "$path" "$result/modules/$(basename "$path")"
        basename "$path" .ko
    done <"$list" >"$result/$stage.modules"
done
for module in cfi_util cfi_cmdset_0001 gen_probe cfi_probe physmap cmdlinepart; do
    "${cross}objcopy" --strip-debug "$work/mtd/$module.ko" "$result/modules/$module.ko"
done
echo "$release" >"$result/release"
rm -rf "$work"
