/** Renders the shell script that starts one QEMU machine. Pure. */
import {shellQuote} from './commands.ts'
import type {DiskFile} from './disk-content.ts'

export type Nic = {
  readonly tap: string
  readonly mac: string
  /** As QEMU names the card; default `virtio-net-pci`. */
  readonly model?: 'virtio-net-pci' | 'e1000' | 'rtl8139'
  /** Whether UEFI boots it by the card's option ROM, an iPXE. Otherwise the firmware's own PXE and HTTP clients do. On BIOS it always does. */
  readonly ipxeRom?: boolean
}
export type Disk = DiskFile & {readonly serial: string}

export type QemuSpec = {
  readonly name: string
  readonly namespace: string
  readonly dir: string
  readonly accelerator: 'kvm' | 'tcg'
  readonly firmware: Firmware
  readonly smp: number
  readonly memory_mb: number
  readonly uuid: string
  readonly serial: string
  readonly manufacturer: string
  readonly product: string
  /** The first one is booted from. */
  readonly nics: readonly Nic[]
  readonly disks: readonly Disk[]
  /** Port on 127.0.0.1 where a BMC waits for the machine's KCS interface. */
  readonly ipmi_port: number | null
  /** fw_cfg entries, such as `opt/org.tianocore/IPv6PXESupport` = `n`. */
  readonly firmwareSettings: Readonly<Record<string, string>>
}

type FirmwareRow = {
  readonly binary: string
  readonly machine: string
  /** Where QEMU's emulated CPU is chosen; under KVM it is the host's. */
  readonly cpu: string
  readonly flash: {readonly code: string; readonly vars: string} | null
  /** The serial port as a device; null where the machine has one built in. */
  readonly serial: string | null
  readonly more: readonly string[]
}

const PC = {binary: 'qemu-system-x86_64', cpu: 'max', serial: 'isa-serial,chardev=serial0', more: [] as readonly string[]}

/** Out of Debian's `seabios`, `ovmf` and `qemu-efi-aarch64`. With `uefi-secure` Microsoft's keys are enrolled and Secure Boot is on. */
const FIRMWARES = {
  bios: {...PC, machine: 'pc,graphics=off', flash: null},
  uefi: {
    ...PC,
    machine: 'q35,graphics=off',
    flash: {code: '/usr/share/OVMF/OVMF_CODE_4M.fd', vars: '/usr/share/OVMF/OVMF_VARS_4M.fd'},
  },
  'uefi-secure': {
    ...PC,
    machine: 'q35,graphics=off,smm=on',
    flash: {code: '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd', vars: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd'},
    more: ['-global', 'driver=cfi.pflash01,property=secure,value=on'],
  },
  'uefi-arm64': {
    binary: 'qemu-system-aarch64',
    machine: 'virt',
    cpu: 'cortex-a57',
    flash: {code: '/usr/share/AAVMF/AAVMF_CODE.fd', vars: '/usr/share/AAVMF/AAVMF_VARS.fd'},
    serial: null,
    more: [],
  },
} as const satisfies Record<string, FirmwareRow>

export type Firmware = keyof typeof FIRMWARES

/** The file that a machine's firmware settings begin as a copy of; null where it keeps none. */
export function firmwareVars(firmware: Firmware): string | null {
  return FIRMWARES[firmware].flash?.vars ?? null
}

/** @returns a script for `sh`; run with BOOT=disk it tries the first disk before the network card */
export function renderQemuScript(spec: QemuSpec): string {
  const words = qemuArguments(spec).map(word => (BOOT_INDEX.test(word) ? `"${word}"` : shellQuote(word)))
  const lines = words.map(word => (word.startsWith('-') ? ` \\\n  ${word}` : ` ${word}`)).join('')
  return `#!/bin/sh
# Starts the lab machine ${spec.name} and returns once it runs. BOOT=disk puts its first disk before the network card.
set -eu
case \${BOOT:-nic} in
  disk) nic=2 disk=1 ;;
  *) nic=1 disk=2 ;;
esac
rm -f monitor.in monitor.out
mkfifo monitor.in monitor.out
printf '\\n=== power on %s ===\\n' "$(date +%s.%N)" >>serial.log
exec ip netns exec ${shellQuote(spec.namespace)} ${FIRMWARES[spec.firmware].binary}${lines}
`
}

/** These two arguments stay open to the shell; everything else is quoted. */
const BOOT_INDEX = /,bootindex=\$(nic|disk)\b/

function qemuArguments(spec: QemuSpec): string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-daemonize', '-name', `ingot-lab-${spec.name}`],
    ...['-pidfile', `${spec.dir}/qemu.pid`],
    ...machineArguments(spec),
    ...['-smp', String(spec.smp), '-m', String(spec.memory_mb), '-uuid', spec.uuid],
    ...['-smbios', `type=1,manufacturer=${spec.manufacturer},product=${spec.product},serial=${spec.serial},uuid=${spec.uuid}`],
    ...['-smbios', `type=2,manufacturer=${spec.manufacturer},product=${spec.product},serial=${spec.serial}-B`],
    ...['-chardev', `file,id=serial0,path=${spec.dir}/serial.log,append=on`],
    ...serialArguments(spec.firmware),
    ...['-chardev', `pipe,id=monitor0,path=${spec.dir}/monitor`, '-mon', 'chardev=monitor0,mode=readline'],
    ...['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng0'],
    ...spec.nics.flatMap((nic, index) => nicArguments(spec.firmware, nic, index)),
    ...spec.disks.flatMap(diskArguments),
    ...(spec.ipmi_port === null ? [] : ipmiArguments(spec.ipmi_port)),
    ...Object.entries(spec.firmwareSettings).flatMap(([name, value]) => ['-fw_cfg', `name=${name},string=${value}`]),
  ]
}

function machineArguments(spec: QemuSpec): string[] {
  const {machine, cpu, flash, more}: FirmwareRow = FIRMWARES[spec.firmware]
  const isHosts = spec.accelerator === 'kvm' && spec.firmware !== 'uefi-arm64'
  return [
    ...['-machine', machine],
    ...(isHosts ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi,tb-size=256', '-cpu', cpu]),
    ...more,
    ...(flash === null ? [] : ['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${flash.code}`]),
    ...(flash === null ? [] : ['-drive', `if=pflash,format=raw,unit=1,file=${spec.dir}/vars.fd`]),
  ]
}

function serialArguments(firmware: Firmware): string[] {
  const {serial} = FIRMWARES[firmware]
  return serial === null ? ['-serial', 'chardev:serial0'] : ['-device', serial]
}

function nicArguments(firmware: Firmware, nic: Nic, index: number): string[] {
  // Without its option ROM (an iPXE) the card is booted by the firmware's own PXE client.
  const rom = firmware === 'bios' || nic.ipxeRom ? '' : ',romfile='
  const order = index === 0 ? ',bootindex=$nic' : ''
  return [
    ...['-netdev', `tap,id=net${index},ifname=${nic.tap},script=no,downscript=no`],
    ...['-device', `${nic.model ?? 'virtio-net-pci'},id=nic${index},netdev=net${index},mac=${nic.mac}${rom}${order}`],
  ]
}

function diskArguments(disk: Disk, index: number): string[] {
  const order = index === 0 ? ',bootindex=$disk' : ''
  return [
    // cache=unsafe leaves out only the host's own fsync: what the guest flushed has left QEMU and outlives its kill.
    ...[
      '-drive',
      `if=none,id=drive${index},file=${disk.path},format=${disk.format},cache=unsafe,discard=unmap,detect-zeroes=unmap`,
    ],
    ...['-device', `virtio-blk-pci,id=disk${index},drive=drive${index},serial=${disk.serial}${order}`],
  ]
}

/** The machine's side of the BMC: the operating system finds a KCS interface (/dev/ipmi0), ipmi_sim answers behind it. */
function ipmiArguments(port: number): string[] {
  return [
    ...['-chardev', `socket,id=ipmi0,host=127.0.0.1,port=${port},reconnect=1`],
    ...['-device', 'ipmi-bmc-extern,id=bmc0,chardev=ipmi0', '-device', 'isa-ipmi-kcs,bmc=bmc0'],
  ]
}
