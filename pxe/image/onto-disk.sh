#!/bin/sh
# onto-disk.sh ROOT OVERLAY UUID ESP: makes the unpacked root file system ready for a disk whose root has this UUID, and fills the EFI
# system partition image with mtools (many kernels have no vfat, and a mount could be left behind). Mounts nothing.
set -eu
root=$1 overlay=$2 uuid=$3 esp=$4
unset TMPDIR

cp -r --no-preserve=ownership "$overlay/." "$root/"
find "$root/usr/lib/ingot" -type f -exec chmod 755 {} +
chroot "$root" systemctl -q enable ingot-first-boot.service ingot-grow-root.service ingot-host-keys.service

cat >"$root/etc/fstab" <<EOF
UUID=$uuid / ext4 errors=remount-ro 0 1
LABEL=INGOT-ESP /boot/efi vfat umask=0077,noauto,x-systemd.automount,x-systemd.idle-timeout=60 0 2
EOF
mkdir -p "$root/boot/efi" "$root/boot/grub/i386-pc"

# What update-grub writes needs a running root device; this is its shape until the first kernel upgrade on the machine runs it.
kernel=$(cd "$root/boot" && echo vmlinuz-*)
version=${kernel#vmlinuz-}
cat >"$root/boot/grub/grub.cfg" <<EOF
serial --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
set default=0
menuentry 'Debian GNU/Linux' {
  search --no-floppy --fs-uuid --set=root $uuid
  linux /boot/vmlinuz-$version root=UUID=$uuid ro console=tty0 console=ttyS0,115200 quiet
  initrd /boot/initrd.img-$version
}
EOF

# The shipped files are what they were when the packages were installed: nothing to bring up to date at the first boot (systemd's
# ConditionNeedsUpdate compares these with /usr).
touch -r "$root/usr" "$root/etc/.updated" "$root/var/.updated"

# BIOS: core.img finds its root by UUID. The modules that our grub.cfg needs are in it; the others lie beside it for people.
cat >"$root/tmp/early.cfg" <<EOF
search.fs_uuid $uuid root
set prefix=(\$root)/boot/grub
EOF
chroot "$root" grub-mkimage -O i386-pc -p /boot/grub -c /tmp/early.cfg -o /boot/grub/i386-pc/core.img \
  biosdisk part_gpt ext2 search search_fs_uuid normal linux serial terminal configfile echo boot test
cp "$root"/usr/lib/grub/i386-pc/boot.img "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
rm "$root/tmp/early.cfg"

# UEFI: Debian's signed shim and GRUB, under the removable-media name, so that Secure Boot may be on and no firmware entry is needed.
rm -f "$esp"
truncate -s 64M "$esp"
mkfs.vfat -F 32 -n INGOT-ESP -i 1160705E --invariant "$esp" >/dev/null
cat >"$root/tmp/esp.cfg" <<EOF
search.fs_uuid $uuid root
set prefix=(\$root)/boot/grub
configfile \$prefix/grub.cfg
EOF
mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
mcopy -i "$esp" "$root/usr/lib/shim/shimx64.efi.signed" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$esp" "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/BOOT/grubx64.efi
mcopy -i "$esp" "$root/tmp/esp.cfg" ::/EFI/debian/grub.cfg
rm "$root/tmp/esp.cfg"
