#!/bin/sh
# What udhcpc runs when it has an address: only the address itself is needed, all servers are on the link.
# shellcheck disable=SC2154 # udhcpc sets the variables
[ "$1" = bound ] && ip addr add "$ip/$mask" dev "$interface"
exit 0
