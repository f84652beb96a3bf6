# Stage test: a burn-in. Memory and processors are worked hard and checked; disks are opened for reading only.

burn_in() {
  if [ -z "${BURNED:-}" ]; then
    settle_disks
    must_ask GET /ramdisk/order - /run/order 65536
    seconds=$(number seconds 60)
    burn memory "$seconds" "$(number memory_percent 80)" "$(number min_memory_mb_s 0)"
    memory=$RESULT
    burn cpu "$seconds" "$(number min_cpu_mb_s 0)"
    cpu=$RESULT
    burn disks "$seconds" "$(number min_disk_mb_s 0)"
    send_event "{\"kind\":\"tested\",\"memory\":$memory,\"cpu\":$cpu,\"disks\":$RESULT}"
    BURNED=yes
    obey
  fi
}

burn() { # what arguments…
  log "burn-in: $*"
  send_progress "burn_$1" 0 "$*"
  ingot-ramdisk burn "$@" >/run/result
  require_result burned TEST_FAILED
  RESULT=$(answer burned /run/result)
}

# A number of the order; what it does not name or what is none is the default.
number() { # key default
  value=$(answer "$1" /run/order)
  case $value in
    '' | *[!0-9]*) echo "$2" ;;
    *) echo "$value" ;;
  esac
}
