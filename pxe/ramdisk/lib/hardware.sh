# Drivers by what the hardware asks for. Network cards first: hello must not wait for a RAID controller to spin its disks up.

load_drivers() {
  load_rounds other
  load_rounds storage &
  STORAGE_LOADER=$!
}

# One round loads what is visible, the next what became visible (PCI first, then what sits on a virtio or VMBus bridge).
load_rounds() { # other|storage
  seen=''
  for _ in 1 2 3 4; do
    aliases=$(modaliases "$1")
    [ "$aliases" != "$seen" ] || break
    seen=$aliases
    # shellcheck disable=SC2086 # one word for each alias
    /bin/modprobe -abq $aliases 2>/dev/null
  done
}

# What the buses ask for. PCI base class 01 is mass storage.
modaliases() { # other|storage
  set +f
  if [ "$1" = storage ]; then wanted=''; else wanted=-v; fi
  {
    cat /sys/bus/pci/devices/*/modalias | grep $wanted '^pci:.*bc01sc'
    cat /sys/bus/virtio/devices/*/modalias /sys/bus/vmbus/devices/*/modalias /sys/bus/xen/devices/*/modalias \
      /sys/bus/mdio_bus/devices/*/modalias
    [ "$1" != storage ] || echo scsi:t-0x00
  } 2>/dev/null | sort -u
}

# A driver's modprobe returns when its first scan is over (the kernel waits for asynchronous probes), but RAID and SAS controllers announce
# disks later, one by one: behind those the list has to stand still for 5 s, behind NVMe for 1 s. At most a minute.
settle_disks() {
  wait "$STORAGE_LOADER"
  still=0 before='' waited=0
  quiet=$(quiet_quarters)
  while [ "$still" -lt "$quiet" ] && [ "$waited" -lt 240 ]; do
    now=$(ls /sys/block /sys/bus/scsi/devices 2>/dev/null)
    if [ "$now" = "$before" ]; then still=$((still + 1)); else still=0; fi
    before=$now waited=$((waited + 1))
    [ "$still" -ge "$quiet" ] || sleep 0.25
  done
  log "disks: $(set +f; cd /sys/block && echo *)"
}

# How many quarter seconds of silence are believed.
quiet_quarters() {
  set +f
  quarters=0
  if [ -n "$(ls /sys/class/nvme 2>/dev/null)" ]; then quarters=4; fi
  # Anything but these announces its disks late.
  if cat /sys/class/scsi_host/*/proc_name 2>/dev/null | grep -qv -x -e ahci -e ata_piix -e ata_generic -e virtio_scsi; then quarters=20; fi
  echo "$quarters"
}

# The BMC's own interface, if firmware announces one (ACPI IPI0001 or an SMBIOS type 38 record).
load_ipmi() {
  for device in $(set +f; echo /sys/bus/acpi/devices/IPI0001:* /sys/bus/platform/devices/dmi-ipmi-si*) none; do
    [ ! -e "$device" ] || break
  done
  [ "$device" != none ] || return 0
  /bin/modprobe -abq ipmi_si ipmi_ssif ipmi_devintf 2>/dev/null
  tries=0
  while [ ! -e /dev/ipmi0 ] && [ "$tries" -lt 20 ]; do
    sleep 0.25
    tries=$((tries + 1))
  done
}

firmware() {
  if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi
}
