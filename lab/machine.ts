/** A machine of the lab: a QEMU in the network's namespace, described by a script that a BMC (or `powerOn`) runs. */
import {randomUUID} from 'node:crypto'
import {accessSync, closeSync, constants, copyFileSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {runCommand} from './commands.ts'
import {type ByteRange, type DiskFormat, digestDisk, firstNonZeroByte} from './disk-content.ts'
import type {LabNetwork} from './network.ts'
import {identifyProcess} from './processes.ts'
import {type Disk, type Firmware, firmwareVars, type Nic, renderQemuScript} from './qemu-command.ts'

export const CHASSIS_SCRIPT = fileURLToPath(new URL('./chassis.sh', import.meta.url))

export type MachineOptions = {
  readonly network: LabNetwork
  readonly name: string
  readonly tap: string
  readonly mac: string
  readonly firmware: Firmware
  readonly disks: readonly {readonly size_bytes: number; readonly serial: string; readonly format?: DiskFormat}[]
  readonly smp?: number
  readonly memory_mb?: number
  /** DMI system UUID and serial number; defaults: a random one, and `SN-` with the MAC's digits. */
  readonly uuid?: string
  readonly serial?: string
  readonly manufacturer?: string
  readonly product?: string
  /** Of the card it boots from. */
  readonly nic?: Pick<Nic, 'model' | 'ipxeRom'>
  /** Network cards besides the one it boots from. */
  readonly moreNics?: readonly Nic[]
  /** Whether a BMC (`createLabBmc`) will be at its KCS interface. Without one the OS would wait for an answer in vain. */
  readonly bmc?: boolean
  readonly firmwareSettings?: Readonly<Record<string, string>>
  /** Default: a directory of its own in the network's. */
  readonly dir?: string
}

export type MachineUsage = {readonly rss_bytes: number; readonly peak_rss_bytes: number; readonly cpu_s: number}
export type PowerEvent = {readonly at_ms: number; readonly event: string}

export type LabMachine = {
  readonly name: string
  readonly dir: string
  readonly mac: string
  readonly uuid: string
  readonly serial: string
  readonly firmware: Firmware
  readonly disks: readonly Disk[]
  readonly ipmi_port: number | null
  isPowered(): boolean
  /** QEMU's pid while powered. */
  pid(): number | null
  powerOn(options?: {first?: 'disk'}): Promise<void>
  powerOff(): Promise<void>
  /** What came out of the serial port: all of it, or since the last power-on. */
  serialText(options?: {sincePowerOn?: boolean}): string
  /** Whether every byte of the disk reads as zero. The machine must be off. */
  diskIsZero(index?: number): Promise<boolean>
  /** SHA-256 of the disk, or of a range of it. The machine must be off. */
  diskDigest(index?: number, range?: ByteRange): Promise<string>
  /** Fills a part of the disk with one byte value. The machine must be off. */
  fillDisk(fill: {index?: number; offset: number; length: number; byte: number}): Promise<void>
  /** What QEMU uses of the host while it runs; null when off. */
  usage(): MachineUsage | null
  /** What the chassis did and when, with the host's clock: `on nic`, `off`, `boot pxe` … */
  powerEvents(): PowerEvent[]
}

/** Makes the disks and the start script; the machine stays off. */
export async function createQemuMachine(options: MachineOptions): Promise<LabMachine> {
  const {network, name, mac, firmware} = options
  const dir = checkedPath(options.dir ?? join(network.dir, name))
  mkdirSync(dir, {recursive: true})
  if (runningPid(join(dir, 'qemu.pid')) !== null) throw new Error(`a machine of an earlier run still runs in ${dir}`)
  for (const file of ['boot', 'chassis.log', 'qemu.log', 'serial.log']) rmSync(join(dir, file), {force: true})
  const identity = {
    uuid: options.uuid ?? randomUUID(),
    serial: options.serial ?? `SN-${mac.replaceAll(':', '')}`,
    manufacturer: options.manufacturer ?? 'LabCo',
    product: options.product ?? 'LabBox',
  }
  for (const word of Object.values(identity)) checkedWord(word)
  const disks = await makeDisks(dir, options.disks)
  resetFirmware(firmware, dir)
  const ipmi_port = options.bmc ? network.nextPort() : null
  const script = renderQemuScript({
    name,
    namespace: network.name,
    dir,
    accelerator: chooseAccelerator(),
    firmware,
    smp: options.smp ?? 1,
    memory_mb: options.memory_mb ?? 512,
    ...identity,
    nics: [{...options.nic, tap: options.tap, mac}, ...(options.moreNics ?? [])],
    disks,
    ipmi_port,
    firmwareSettings: options.firmwareSettings ?? {},
  })
  writeFileSync(join(dir, 'qemu.cmd'), script)
  return {name, dir, mac, firmware, disks, ipmi_port, uuid: identity.uuid, serial: identity.serial, ...operations(dir, disks)}
}

/** As it left the factory: what an earlier run left in its firmware decides nothing. */
export function resetFirmware(firmware: Firmware, dir: string): void {
  const vars = firmwareVars(firmware)
  if (vars !== null) copyFileSync(vars, join(dir, 'vars.fd'))
}

/** KVM only where the CPU has it: a /dev/kvm that opens on a CPU without vmx or svm makes guests crawl. */
export function chooseAccelerator(): 'kvm' | 'tcg' {
  if (!/^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'))) return 'tcg'
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    closeSync(openSync('/dev/kvm', 'r+'))
    return 'kvm'
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return 'tcg'
  }
}

type Operations = Omit<LabMachine, 'name' | 'dir' | 'mac' | 'uuid' | 'serial' | 'firmware' | 'disks' | 'ipmi_port'>

function operations(dir: string, disks: readonly Disk[]): Operations {
  const chassis = (...args: string[]) => runCommand(['sh', CHASSIS_SCRIPT, dir, 'set', ...args])
  const pid = () => runningPid(join(dir, 'qemu.pid'))
  const diskAt = (index: number) => {
    const disk = disks[index]
    if (!disk) throw new RangeError(`the machine has no disk ${index}`)
    if (pid() !== null) throw new Error('the machine is on: its disk can only be read when it is off')
    return disk
  }
  return {
    pid,
    isPowered: () => pid() !== null,
    powerOn: async ({first} = {}) => {
      await chassis(...(first === 'disk' ? ['boot', 'default'] : []), 'power', '1').catch(error => {
        throw new Error(`${readText(join(dir, 'qemu.log')).trim()} (see ${dir}/qemu.log)`, {cause: error})
      })
    },
    powerOff: async () => {
      await chassis('power', '0')
    },
    serialText: ({sincePowerOn = false} = {}) => {
      const text = readText(join(dir, 'serial.log'))
      return sincePowerOn ? text.slice(Math.max(0, text.lastIndexOf('\n=== power on '))) : text
    },
    diskIsZero: async (index = 0) => (await firstNonZeroByte(diskAt(index))) === null,
    diskDigest: async (index = 0, range) => digestDisk(diskAt(index), range),
    fillDisk: async ({index = 0, offset, length, byte}) => {
      const disk = diskAt(index)
      await runCommand(['qemu-io', '-f', disk.format, '-c', `write -P ${byte} ${offset} ${length}`, disk.path])
    },
    usage: () => readUsage(pid()),
    powerEvents: () => parseEvents(readText(join(dir, 'chassis.log'))),
  }
}

async function makeDisks(dir: string, wanted: MachineOptions['disks']): Promise<Disk[]> {
  const disks: Disk[] = []
  for (const [index, {size_bytes, serial, format = 'qcow2'}] of wanted.entries()) {
    const path = join(dir, `disk${index}.${format}`)
    await runCommand(['qemu-img', 'create', '-q', '-f', format, path, String(size_bytes)])
    disks.push({path, format, size_bytes, serial: checkedWord(serial)})
  }
  return disks
}

/** As chassis.sh does: the pid counts only while it is a process that was started with this pid file. */
function runningPid(pidFile: string): number | null {
  const pid = Number(readText(pidFile).trim())
  if (!Number.isInteger(pid) || pid <= 0 || identifyProcess(pid) === null) return null
  return readText(`/proc/${pid}/cmdline`).split('\0').includes(pidFile) ? pid : null
}

function readUsage(pid: number | null): MachineUsage | null {
  if (pid === null) return null
  const status = readText(`/proc/${pid}/status`)
  const stat = readText(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const kib = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024
  // utime and stime, fields 14 and 15, in the kernel's USER_HZ, which is 100 on every x86 Linux.
  return {rss_bytes: kib('VmRSS'), peak_rss_bytes: kib('VmHWM'), cpu_s: (Number(fields[11]) + Number(fields[12])) / 100}
}

function parseEvents(log: string): PowerEvent[] {
  return log
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const space = line.indexOf(' ')
      return {at_ms: Number(line.slice(0, space)) * 1000, event: line.slice(space + 1)}
    })
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ESRCH') return ''
    throw error
  }
}

/** QEMU splits its options at commas, and ipmi_sim hands the path to a shell without quotes. */
function checkedPath(path: string): string {
  if (!/^\/[\w./+:@-]+$/.test(path)) throw new Error(`'${path}' must be absolute, of letters, digits and ./+:@_- only`)
  return path
}

function checkedWord(word: string): string {
  if (!/^[\w.-]+$/.test(word)) throw new Error(`'${word}' must be of letters, digits, dots, dashes and underscores`)
  return word
}
