#!/bin/sh
# Called by udhcpc with its event as the argument and the lease in the environment.
# shellcheck disable=SC2154 # interface, ip, mask, router, dns come from udhcpc
case $1 in
  deconfig) ip link set "$interface" up ;;
  bound | renew)
    ip addr add "$ip/${mask:-24}" broadcast + dev "$interface" 2>/dev/null
    [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
    : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    echo "$ip" >/run/address
    ;;
esac
