/**
 * A BMC for a lab machine: Debian's `ipmi_sim` at an address of its own on the bridge.
 *
 * Three sides: RMCP+ over UDP for Ingot and ipmitool; `chassis.sh` for power; and QEMU's KCS device over TCP, so that the operating
 * system in the machine finds /dev/ipmi0 and reads the BMC's address there. ipmi_sim knows cipher suites 0 to 5, not 17.
 */
import {mkdirSync, readFileSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {sleep} from '../lib/clock.ts'
import type {CommandOptions, CommandResult} from './commands.ts'
import {CHASSIS_SCRIPT, type LabMachine} from './machine.ts'
import type {LabNetwork, LabProcess} from './network.ts'

export type BmcOptions = {
  readonly network: LabNetwork
  readonly machine: LabMachine
  readonly address: string
  /** What the BMC says of itself in `ipmitool lan print 1`. */
  readonly mac?: string
  readonly port?: number
  readonly user?: string
  readonly password?: string
}

export type LabBmc = {
  readonly address: string
  readonly port: number
  readonly mac: string
  readonly user: string
  readonly password: string
  /** Runs ipmitool in the namespace against this BMC, with cipher suite 3. */
  ipmitool(args: readonly string[], options?: CommandOptions): Promise<CommandResult>
  /** Starts ipmi_sim again after `stop`; the machine's power is as it was. */
  start(): Promise<void>
  /** Ends ipmi_sim, as when a BMC hangs: the machine keeps running. */
  stop(): Promise<void>
}

const LAN_SCRIPT = fileURLToPath(new URL('./lan-config.sh', import.meta.url))

/** Gives the address to the bridge and starts the BMC; it answers when this resolves. */
export async function createLabBmc(options: BmcOptions): Promise<LabBmc> {
  const {network, machine, address} = options
  const identity = {
    address,
    port: options.port ?? 623,
    mac: options.mac ?? machine.mac.replace(/^..:..:../, '52:54:fe'),
    user: options.user ?? 'admin',
    password: options.password ?? 'lab-secret',
  }
  const dir = join(machine.dir, 'bmc')
  mkdirSync(join(dir, 'state'), {recursive: true})
  writeFileSync(join(dir, 'lan'), renderLanSettings(network, identity))
  writeFileSync(join(dir, 'sim.emu'), EMULATOR)
  writeFileSync(join(dir, 'lan.conf'), renderConfig(dir, machine, identity), {mode: 0o600})
  await network.addAddress(address)

  let running: LabProcess | null = null
  const ipmitool: LabBmc['ipmitool'] = (args, commandOptions = {}) =>
    network.exec(
      ['ipmitool', '-I', 'lanplus', '-C', '3', '-H', address, '-p', String(identity.port), '-U', identity.user, '-E', ...args],
      {...commandOptions, env: {...commandOptions.env, IPMITOOL_PASSWORD: identity.password}},
    )
  const start = async () => {
    if (running) return
    const logFile = join(dir, 'ipmi_sim.log')
    running = network.spawn(
      ['ipmi_sim', '-n', '-c', join(dir, 'lan.conf'), '-f', join(dir, 'sim.emu'), '-s', join(dir, 'state')],
      {logFile},
    )
    await untilAnswering(running, ipmitool, logFile)
  }
  const stop = async () => {
    await running?.stop()
    running = null
  }
  await start()
  return {...identity, ipmitool, start, stop}
}

async function untilAnswering(sim: LabProcess, ipmitool: LabBmc['ipmitool'], logFile: string): Promise<void> {
  let ended = false
  void sim.exited.then(() => {
    ended = true
  })
  for (let tries = 0; tries < 100 && !ended; tries++) {
    const {code} = await ipmitool(['-N', '1', '-R', '1', 'mc', 'info'], {anyExit: true})
    if (code === 0) return
    await sleep(100)
  }
  throw new Error(`ipmi_sim ${ended ? 'ended' : 'does not answer'}: ${readFileSync(logFile, 'utf8').trim()}`)
}

type BmcIdentity = Pick<LabBmc, 'address' | 'port' | 'mac' | 'user' | 'password'>

/** See `man 5 ipmi_lan`. `lan_config_program` is missing there; ipmi_sim 2.0.33 reads it. */
function renderConfig(dir: string, machine: LabMachine, bmc: BmcIdentity): string {
  return `name "${machine.name}"
set_working_mc 0x20
  startlan 1
    addr ${bmc.address} ${bmc.port}
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid ${machine.uuid.replaceAll('-', '')}
    lan_config_program "sh ${LAN_SCRIPT} ${dir}/lan"
  endlan
  chassis_control "sh ${CHASSIS_SCRIPT} ${machine.dir}"
${machine.ipmi_port === null ? '' : `  serial 15 127.0.0.1 ${machine.ipmi_port} codec VM\n`}\
  user 1 false "" "" user 10 none md2 md5 straight
  user 2 true "${bmc.user}" "${bmc.password}" admin 10 none md2 md5 straight
`
}

/** One management controller, no sensors, an event log (ipmitool and freeipmi ask for it). See `man 5 ipmi_sim_cmd`. */
const EMULATOR = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

function renderLanSettings(network: LabNetwork, bmc: BmcIdentity): string {
  const [gateway = '', length = '24'] = network.bridgeAddress.split('/')
  const mask = (0xffffffff << (32 - Number(length))) >>> 0
  const octets = [24, 16, 8, 0].map(shift => (mask >>> shift) & 0xff).join('.')
  return `ip_addr_src:static
ip_addr:${bmc.address}
subnet_mask:${octets}
mac_addr:${bmc.mac}
default_gw_ip_addr:${gateway}
default_gw_mac_addr:00:00:00:00:00:00
backup_gw_ip_addr:0.0.0.0
backup_gw_mac_addr:00:00:00:00:00:00
`
}
