# Requests to the boot service. Every one may be repeated: no answer and 5xx are asked again for ever, 4xx is a decision.

# Leaves STATUS and the body in the file. `body` is a file or `-`.
ask_once() { # method path body answer limit
  STATUS=$(ingot-ramdisk http "$1" "$BOOT_URL$2" /run/bearer "$3" "$4" "$5")
}

ask() { # method path body answer limit
  pause=1
  while :; do
    ask_once "$@"
    case $STATUS in
      [1-4][0-9][0-9])
        [ "$STATUS" != 429 ] && [ "$STATUS" != 408 ] && return
        ;;
    esac
    log "$1 $2: $STATUS, asking again in $pause s"
    sleep "$pause"
    [ "$pause" -ge 16 ] || pause=$((pause * 2))
  done
}

# Asks, and gives up on a refusal: 4xx means that this boot has no business here any more.
must_ask() {
  ask "$@"
  case $STATUS in
    2*) ;;
    *) refused "$1 $2 was answered $STATUS" ;;
  esac
}

# The value of a `key value` line of the last answer; empty when there is none.
answer() { # key [file]
  while read -r key value; do
    if [ "$key" = "$1" ]; then
      printf '%s\n' "$value"
      return
    fi
  done <"${2:-/run/answer}"
}

say_hello() {
  read -r uptime _ </proc/uptime
  printf '{"mac":"%s","firmware":"%s","uptime_s":%s}' "$BOOT_MAC" "$(firmware)" "$uptime" >/run/body
  must_ask POST /ramdisk/hello /run/body /run/answer 65536
  STAGE=$(answer stage)
  set_clock "$(answer time)"
  log "hello: stage $STAGE"
}

set_clock() {
  case $1 in
    '' | *[!0-9]*) ;;
    *) date -u -s "@$1" >/dev/null ;;
  esac
}

quote() {
  printf '%s' "$1" | ingot-ramdisk quote
}

send_event() { # json
  printf '%s' "$1" >/run/event
  must_ask POST /ramdisk/events /run/event /run/answer 65536
}

# Progress is worth one try and never a delay.
send_progress() { # step percent detail
  log "$1 $2 %"
  printf '{"kind":"progress","step":"%s","percent":%s,"detail":%s}' "$1" "$2" "$(quote "$3")" >/run/progress
  ask_once POST /ramdisk/events /run/progress /run/progress.answer 65536
}

# Reads what a long command of ingot-ramdisk prints: progress goes to the boot service, the rest to /run/result.
follow() {
  : >/run/result
  while read -r key rest; do
    if [ "$key" = progress ]; then
      step=${rest%% *} rest=${rest#* }
      send_progress "$step" "${rest%% *}" "${rest#* }"
    else
      printf '%s %s\n' "$key" "$rest" >>/run/result
    fi
  done
}

# Ends the stage when the last command failed, or said nothing of what it was asked for.
require_result() { # key cause
  verdict=$(answer failed /run/result)
  [ -z "$verdict" ] || failed "${verdict%% *}" "${verdict#* }"
  [ -n "$(answer "$1" /run/result)" ] || failed "$2" "the command ended without a result"
}

send_log() {
  write_log_tail
  ask_once POST /ramdisk/log /run/log.tail /run/answer 65536
}

failed() { # cause detail
  log "failed: $1: $2"
  printf '{"kind":"failed","cause":%s,"detail":%s}' "$(quote "$1")" "$(quote "$2")" >/run/event
  ask POST /ramdisk/events /run/event /run/answer 65536
  send_log
  sleep 30
  leave poweroff
}

refused() { # what
  log "refused: $1"
  send_log
  sleep 60
  leave reboot
}

# The one permission to write. 409 is the answer to a boot whose job is gone or was claimed before: nothing is touched.
claim() {
  # The secret is made here and brought along, so that a claim whose answer was lost can be asked for again.
  secret=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
  (umask 077; printf '{"session":"%s"}' "$secret" >/run/body)
  ask POST /ramdisk/claim /run/body /run/answer 65536
  case $STATUS in
    200) ;;
    409)
      log "claim refused: $(answer refused)"
      leave reboot
      ;;
    *) refused "the claim was answered $STATUS" ;;
  esac
  cp /run/answer /run/claim
  session=$(answer session /run/claim)
  [ -n "$session" ] || refused 'the claim was granted without a session'
  [ "$(answer action /run/claim)" = "$1" ] || refused "the claim is for another action than $1"
  (umask 077; printf '%s\n' "$session" >/run/bearer)
  log "claimed: $1"
}

# What the last answer wants done with the machine.
obey() {
  case $(answer 'then') in
    poweroff) leave poweroff ;;
    reboot) leave reboot ;;
  esac
}
