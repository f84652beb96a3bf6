/**
 * Starts Debian's `ipmi_sim` (package openipmi): a BMC that we did not write, with cipher suites up to 3. Its power and boot device are
 * a chassis command; without one of the caller's, two files in the state directory.
 */
import {type ChildProcess, spawn} from 'node:child_process'
import {mkdir, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {setTimeout as pause} from 'node:timers/promises'
import {probe} from '../services/power/ipmi/probe.ts'
import {exampleFrus} from '../sim/bmc/fru.ts'
import {encodeRecords, exampleSensors} from '../sim/bmc/sensors.ts'

export type IpmiSimOptions = {
  readonly address: string
  readonly port: number
  /** Exists or is made; holds the configuration (mode 0600, as the password is in it) and the simulator's own state. */
  readonly stateDir: string
  readonly username: string
  readonly password: string
  /**
   * Run by a shell as `COMMAND get power|boot …`, printing `power:0` or `boot:none`, and as `COMMAND set power|reset|shutdown|boot|identify VALUE …`.
   * It must not keep the simulator's pipes open: a child that stays needs its three descriptors redirected.
   */
  readonly chassisCommand?: string
  /** TCP port on `address` where the machine's serial console listens: served as serial over LAN. */
  readonly serialPort?: number
  /** TCP port on `address` where QEMU's `ipmi-bmc-extern` connects, so that the guest sees this BMC. */
  readonly guestPort?: number
  /** Gives it sensors, an inventory and a filled event log to be read; without, it has none. */
  readonly withHealth?: boolean
}

export type IpmiSim = {
  readonly address: string
  readonly port: number
  readonly pid: number
  /** The directory of the built-in chassis: files `power` (0 or 1), `boot` (none, pxe, default, cdrom, bios), `orders`. */
  readonly stateDir: string
  /** Kills it and waits for its end. */
  stop(): Promise<void>
}

const START_DEADLINE_MS = 20_000
/** ipmi_sim 2.0.33 takes 20 bytes and then compares fewer. */
const PASSWORD_BYTES = 19

/** Resolves when it answers over UDP. @throws Error with the simulator's own words when it ends or stays silent */
export async function startIpmiSim(options: IpmiSimOptions): Promise<IpmiSim> {
  const {address, port, stateDir} = options
  const paths = {conf: join(stateDir, 'lan.conf'), emu: join(stateDir, 'mc.emu'), chassis: join(stateDir, 'chassis.sh')}
  await mkdir(join(stateDir, 'nvram'), {recursive: true})
  await writeFile(paths.chassis, CHASSIS_SCRIPT, {mode: 0o700})
  await writeFile(paths.emu, emulatedController(options.withHealth === true))
  await writeFile(paths.conf, configuration(options, options.chassisCommand ?? `${paths.chassis} ${stateDir}`), {mode: 0o600})

  const args = ['-n', '-c', paths.conf, '-f', paths.emu, '-s', join(stateDir, 'nvram')]
  const child = spawn('ipmi_sim', args, {stdio: ['ignore', 'pipe', 'pipe']})
  const said: string[] = []
  child.stdout.on('data', bytes => said.push(String(bytes)))
  child.stderr.on('data', bytes => said.push(String(bytes)))
  const ended = new Promise<string>(resolve => {
    child.once('error', error => resolve(`cannot start ipmi_sim (package openipmi): ${error.message}`))
    child.once('exit', (code, signal) => resolve(`ipmi_sim ended with ${code ?? signal}: ${said.join('').slice(-2000)}`))
  })

  const up = await Promise.race([answers(address, port), ended])
  if (up !== true) {
    await stopChild(child, ended)
    throw new Error(up === false ? `ipmi_sim does not answer on ${address}:${port}: ${said.join('').slice(-2000)}` : up)
  }
  return {address, port, pid: child.pid ?? 0, stateDir, stop: () => stopChild(child, ended)}
}

/** A probe ends at once while the port is still closed, so it is repeated until the deadline. */
async function answers(address: string, port: number): Promise<boolean> {
  const deadline = AbortSignal.timeout(START_DEADLINE_MS)
  while (!deadline.aborted) {
    const {found} = await probe({address, port, family: 4}, deadline)
    if (found === 'ipmi_20') return true
    await pause(20)
  }
  return false
}

async function stopChild(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await ended
}

function configuration(options: IpmiSimOptions, chassisCommand: string): string {
  const {address, port, username, password, serialPort, guestPort} = options
  for (const text of [address, username, password, chassisCommand]) {
    if (/["\\\r\n]/.test(text)) throw new Error('ipmi_sim cannot hold a quote, a backslash or a line break in its configuration')
  }
  if (Buffer.byteLength(password) > PASSWORD_BYTES)
    throw new Error(`ipmi_sim compares ${PASSWORD_BYTES} bytes of a password at most`)
  return `name "ingot"
set_working_mc 0x20
  startlan 1
    addr ${address} ${port}
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa1234567${port.toString(16).padStart(8, '0')}
  endlan
  chassis_control "${chassisCommand}"
${guestPort === undefined ? '' : `  serial 15 ${address} ${guestPort} codec VM\n`}${
  serialPort === undefined ? '' : `  sol "tcp:${address}:${serialPort}" 115200 history=16384\n`
}  user 2 true "${username}" "${password}" admin 10 none md2 md5 straight
`
}

/** One management controller at the BMC's address (`man 5 ipmi_sim_cmd`). */
function emulatedController(withHealth: boolean): string {
  return `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
${withHealth ? HEALTH.join('\n') : ''}
mc_enable 0x20
`
}

/** Four masks of fifteen bits. */
const NO_EVENTS = Array(4).fill('0'.repeat(15)).join(' ')

const words = (bytes: Buffer) => [...bytes].map(byte => `0x${byte.toString(16)}`).join(' ')

/** The sensors and records of our own simulator, as this one takes them; values are of the raw kind. */
const HEALTH: readonly string[] = (() => {
  const sensors = exampleSensors().filter(({available}) => available !== false)
  const inventory = exampleFrus('0001').get(0)?.bytes ?? Buffer.alloc(0)
  return [
    ...sensors.flatMap(({number, type, eventType, raw}) => [
      `sensor_add 0x20 0 ${number} ${type} ${eventType}`,
      `sensor_set_event_support 0x20 0 ${number} disable scanning none ${NO_EVENTS}`,
      ...(eventType === 1 ? [`sensor_set_value 0x20 0 ${number} ${raw} 0`] : []),
    ]),
    ...encodeRecords(sensors, new Map()).map(record => `main_sdr_add 0x20 ${words(record)}`),
    `mc_add_fru_data 0x20 0 ${inventory.length} data ${words(inventory)}`,
    'sel_add 0x20 2 0x00 0x2e 0x93 0x68 0x20 0x00 0x04 0x01 0x01 0x01 0x59 0xff 0xff',
  ]
})()

/** The simulator never consumes a one-time boot device: whoever powers a machine from this state must. */
const CHASSIS_SCRIPT = `#!/bin/sh
# Chassis of a simulated BMC: chassis.sh DIR get NAME... | chassis.sh DIR set NAME VALUE...
dir=$1; verb=$2; shift 2
read_file() { cat "$dir/$1" 2>/dev/null || echo "$2"; }
case $verb in
get)
  for name in "$@"; do
    case $name in
    power) echo "power:$(read_file power 0)" ;;
    boot) echo "boot:$(read_file boot none)" ;;
    *) echo "there is no $name"; exit 1 ;;
    esac
  done ;;
set)
  while [ $# -gt 1 ]; do
    echo "$1 $2" >> "$dir/orders"
    case $1 in
    power | boot) echo "$2" > "$dir/$1" ;;
    shutdown) echo 0 > "$dir/power" ;;
    reset | identify) ;;
    *) echo "there is no $1"; exit 1 ;;
    esac
    shift 2
  done ;;
esac
`
