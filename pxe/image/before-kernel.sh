#!/bin/sh
# mmdebstrap essential hook: how the kernel's initrd is to be made, before the kernel package makes it.
# KERNEL=cloud: only what virtual machines boot from. generic: everything, for real hardware.
set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d"
echo 'COMPRESS=lz4' >"$root/etc/initramfs-tools/conf.d/ingot"
if [ "$KERNEL" = cloud ]; then
  echo 'MODULES=list' >>"$root/etc/initramfs-tools/conf.d/ingot"
  printf '%s\n' virtio_pci virtio_blk virtio_scsi nvme sd_mod ahci ext4 >"$root/etc/initramfs-tools/modules"
fi
