#!/bin/sh
# The chassis behind a lab BMC. ipmi_sim calls it (chassis_control) to read and set power and the boot override of one QEMU machine;
# the lab calls it too, so that both ways do the same.
# usage: chassis.sh DIR get power|boot ...    chassis.sh DIR set power|reset|shutdown|boot|identify VALUE ...
# DIR holds qemu.cmd (starts QEMU with BOOT=nic|disk), qemu.pid, monitor.in (QEMU's monitor, a FIFO), boot (the one-shot override) and
# chassis.log.
set -u
dir=$1 verb=$2
shift 2
cd "$dir" || exit 1

note() { echo "$(date +%s.%N) $*" >>chassis.log; }

# A pid alone may be another process by now: it must have been started with our pid file.
alive() {
  pid=$(cat qemu.pid 2>/dev/null) && [ -n "$pid" ] || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF "$dir/qemu.pid"
}

override() { cat boot 2>/dev/null || echo none; }

monitor() {
  # Opened for reading too, or the shell would wait here for a QEMU that has just gone.
  printf '%s\n' "$1" 1<>monitor.in
}

power_on() {
  alive && return 0
  case $(override) in
    default) first=disk ;; # IPMI's name for the default hard disk
    *) first=nic ;;
  esac
  echo none >boot # an override lasts for one start
  rm -f qemu.pid
  note "on $first"
  # QEMU may inherit nothing: ipmi_sim reads our output to its end, and its UDP socket must die with it. 9 is our own lock.
  if ! BOOT=$first sh qemu.cmd </dev/null >>qemu.log 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; then
    note 'on failed'
    return 1
  fi
  # QEMU reads the order anew at each reset: with the disk moved behind the network card the guest's own reboot boots as usual.
  [ "$first" = nic ] || monitor 'qom-set /machine/peripheral/disk0 bootindex 100'
}

power_off() {
  alive || return 0
  note off
  kill "$pid"
  tries=0
  while alive && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
  alive && kill -9 "$pid"
  while alive; do sleep 0.05; done
  rm -f qemu.pid
}

get() {
  case $1 in
    power) if alive; then echo power:1; else echo power:0; fi ;;
    boot) echo "boot:$(override)" ;;
    *) return 1 ;;
  esac
}

set_value() {
  case $1 in
    power) if [ "$2" = 1 ]; then power_on; else power_off; fi ;;
    reset) if alive; then power_off && power_on; fi ;;
    shutdown) if alive; then note soft_off && monitor system_powerdown; fi ;;
    boot) note "boot $2" && echo "$2" >boot ;;
    identify) note "identify $2" ;;
    *) return 1 ;;
  esac
}

exec 9>lock
flock 9
while [ $# -gt 0 ]; do
  case $verb in
    get) get "$1" ;;
    set) set_value "$1" "$2" && shift ;;
    *) false ;;
  esac || exit 1
  shift
done
