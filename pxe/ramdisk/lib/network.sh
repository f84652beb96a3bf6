# The way to the boot service: DHCP on the interface the machine was booted from, on the others when that one stays silent.

read_command_line() {
  BOOT_URL='' TOKEN='' BOOT_MAC=''
  read -r words </proc/cmdline
  for word in $words; do
    case $word in
      ingot.url=*) BOOT_URL=${word#*=} ;;
      ingot.token=*) TOKEN=${word#*=} ;;
      ingot.mac=*) BOOT_MAC=${word#*=} ;;
    esac
  done
  (umask 077; printf '%s\n' "$TOKEN" >/run/bearer)
}

join_network() {
  ip link set lo up
  tries=4
  while :; do
    for nic in $(interfaces); do ip link set "$nic" up; done
    for nic in $(interfaces); do
      if ask_dhcp "$nic" "$tries"; then
        [ -n "$BOOT_MAC" ] || read -r BOOT_MAC <"/sys/class/net/$nic/address"
        log "network up: $nic $(cat /run/address)"
        name_boot_server
        return
      fi
    done
    log "no DHCP answer on: $(interfaces | tr '\n' ' ')"
    tries=8
    sleep 1
  done
}

# Interfaces with hardware behind them, the boot interface first.
interfaces() {
  first='' rest=''
  for path in $(set +f; echo /sys/class/net/*); do
    [ -e "$path/device" ] || continue
    read -r mac <"$path/address"
    if [ "$mac" = "$BOOT_MAC" ]; then first=${path##*/}; else rest="$rest ${path##*/}"; fi
  done
  for nic in $first $rest; do echo "$nic"; done
}

# udhcpc sends 01+MAC as client identifier by itself, and stays in the background to renew once it has an address.
ask_dhcp() { # interface tries
  udhcpc -i "$1" -n -t "$2" -T 1 -s /lib/ingot/udhcpc.sh -p "/run/udhcpc.$1" -V ingot-ramdisk >/dev/null 2>&1
}

# Our HTTP client reads /etc/hosts and no DNS.
name_boot_server() {
  host=${BOOT_URL#http://}
  host=${host%%[:/]*}
  case $host in
    *[!0-9.]*) nslookup "$host" 2>/dev/null | awk -v host="$host" '/^Address/ && $2 ~ /^[0-9.]+$/ {print $2, host}' >/etc/hosts ;;
  esac
}
