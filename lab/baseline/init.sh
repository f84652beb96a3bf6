#!/bin/sh
# The first process of the baseline's ramdisk: gets an address, streams the image onto the disk with wget | zstd | dd, reboots.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

read -r settings </proc/cmdline
argument() {
  for word in $settings; do
    case $word in "$1"=*) echo "${word#*=}" ;; esac
  done
}
event() { wget -q -O /dev/null "$url/event?e=$1&mac=$mac"; }

url=$(argument lab.url) disk=$(argument lab.disk)
while [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set lo up
ip link set eth0 up
mac=$(cat /sys/class/net/eth0/address)
udhcpc -i eth0 -q -n -t 20 -T 1 -s /bin/udhcpc.sh
event ramdisk
event write_start
if { wget -q -O - "$url/disk.raw.zst" || echo broken; } | zstd -dc | gnu-dd of="$disk" bs=1M iflag=fullblock conv=fsync,notrunc; then
  event written
  reboot -f
fi
event write_failed
sleep 3600
