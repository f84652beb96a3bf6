# What happened, on the console and in memory for `POST /ramdisk/log`; and the machine's ways out.

log() {
  read -r uptime _ </proc/uptime
  printf '[%s] ingot: %s\n' "$uptime" "$*" | tee -a /run/log
}

# The tail of our own log and of the kernel's, without the token that the kernel's command line carries.
write_log_tail() {
  {
    cat /run/log
    echo '--- kernel'
    dmesg
  } | sed 's/ingot\.token=[^ ]*/ingot.token=(removed)/g' | tail -c 262144 >/run/log.tail
}

leave() { # poweroff|reboot
  log "leaving: $1"
  sync
  "$1" -f
  sleep 3600
}
