#!/bin/sh
# Tells ipmi_sim (lan_config_program) what its BMC's LAN settings are. It asks `FILE get NAME...` and wants lines `NAME:VALUE` back.
# FILE holds those lines for ip_addr_src, ip_addr, subnet_mask, mac_addr, default_gw_ip_addr and the like. Read-only: any set is refused.
set -u
file=$1 verb=$2
shift 2
[ "$verb" = get ] || exit 1
for name; do
  grep "^$name:" "$file" || exit 1
done
