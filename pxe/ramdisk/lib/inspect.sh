# Stage inspect: facts about this machine. Opens disks for reading only.

inspect() {
  if [ -z "${INSPECTED:-}" ]; then
    settle_disks
    load_ipmi
    ingot-ramdisk facts "$BOOT_MAC" >/run/facts
    must_ask POST /ramdisk/facts /run/facts /run/answer 65536
    INSPECTED=yes
    log "facts sent: then $(answer 'then')"
    obey
  fi
}
