# Stage clean: every fixed disk is zeroed and read back.

clean() {
  settle_disks
  claim clean
  mode=$(answer wipe /run/claim)
  [ "$mode" = fast ] || mode=full
  log "wiping all disks: $mode"
  ingot-ramdisk wipe "$mode" | follow
  require_result wiped WIPE_FAILED
  log "wiped: $(answer wiped /run/result)"
  send_event "{\"kind\":\"wiped\",\"disks\":$(answer wiped /run/result)}"
  obey
}
