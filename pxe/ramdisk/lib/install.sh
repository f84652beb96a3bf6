# Stage install: an image onto one disk, this machine's own files into it, and firmware told to boot it.
# Everything that can be refused is fetched before the first byte is written; the partition table is written last.

install() {
  settle_disks
  claim install
  image=$(answer image /run/claim)
  must_ask GET "$image" - /run/image.lines 67108864
  must_ask GET "$(answer config /run/claim)" - /run/config.tar 16777216
  ingot-ramdisk find "$(answer disk /run/claim)" >/run/result
  require_result disk DISK_NOT_FOUND
  wipe_before
  ingot-ramdisk find "$(answer disk /run/claim)" >/run/result
  disk=$(answer disk /run/result) serial=$(answer serial /run/result)

  log "writing $image to $disk"
  ingot-ramdisk write "$BOOT_URL" /run/bearer /run/image.lines "$(digest_in "$image")" /run/first-mib "/dev/$disk" | follow
  require_result written WRITE_FAILED
  cp /run/result /run/written
  configure "/dev/$disk" "$(answer root_offset /run/written)"
  ingot-ramdisk seal /run/first-mib "/dev/$disk" >/run/result
  require_result sealed WRITE_FAILED
  log "written: $disk"
  send_event "$(printf '{"kind":"disk_written","disk":"%s","serial":%s,"bytes":%s,"image_digest":"%s"}' "$disk" "$serial" \
    "$(answer written /run/written)" "$(answer image_digest /run/written)")"

  method=$(set_local_boot "/dev/$disk")
  log "local boot: $method"
  hwclock -u -w 2>/dev/null # the installed system starts with the right time
  send_event "{\"kind\":\"local_boot_set\",\"method\":\"$method\"}"
  obey
}

# A reinstall may ask for all disks to be wiped first; `preserve` leaves those alone that the image does not go to.
wipe_before() {
  mode=$(answer wipe /run/claim)
  case $mode in full | fast) ;; *) return ;; esac
  log "wiping all disks before the install: $mode"
  ingot-ramdisk wipe "$mode" | follow
  require_result wiped WIPE_FAILED
  log "wiped: $(answer wiped /run/result)"
}

# An artefact's path ends in its digest; then the manifest must have it. Prints `-` when the path names none.
digest_in() {
  case ${1##*/} in
    *[!0-9a-f]* | '') echo - ;;
    *) if [ "${#1}" -ge 64 ]; then echo "${1##*/}"; else echo -; fi ;;
  esac
}

# The root file system is reached through a loop device: there is no partition table yet.
configure() { # device offset
  /bin/modprobe -aq loop ext4
  loop=$(losetup -f)
  losetup -o "$2" "$loop" "$1" || failed CONFIG_FAILED 'no loop device for the root file system'
  mount -t ext4 "$loop" /mnt || failed CONFIG_FAILED 'the root file system of the image cannot be mounted'
  (umask 0; tar -xpf /run/config.tar -C /mnt) >/run/tar.log 2>&1 || failed CONFIG_FAILED "$(tail -n 1 /run/tar.log)"
  umount /mnt || failed CONFIG_FAILED 'the root file system of the image cannot be unmounted'
  losetup -d "$loop" || failed CONFIG_FAILED 'the loop device is still held'
  sync
  rm -f /run/config.tar
}

# UEFI: an entry of our own, next in line. BIOS has no such thing: its own order decides, and the boot service answers `local` meanwhile.
set_local_boot() { # device
  if [ "$(firmware)" = uefi ]; then
    /bin/modprobe -q efivarfs
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars 2>/dev/null
    ingot-ramdisk efi "$1" >/run/efi
    if [ -n "$(answer efi /run/efi)" ]; then
      sync
      umount /sys/firmware/efi/efivars
      echo efi_boot_entry
      return
    fi
    log "$(cat /run/efi)" >&2
  fi
  echo firmware_order
}
