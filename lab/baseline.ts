/**
 * The hand-made way that Ingot is measured against: dnsmasq, nginx and a ramdisk that runs `wget | zstd | dd` and reboots.
 * It gets the same kernel, disk image and machine as Ingot; it checks nothing, remembers nothing, and knows one machine.
 */
import {renameSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {sleep} from '../lib/clock.ts'
import {buildBaselineRamdisk} from './baseline/ramdisk.ts'
import {type BaselineRequest, type BaselineServers, startBaselineServers} from './baseline/servers.ts'
import type {LabMachine, MachineUsage} from './machine.ts'
import type {LabNetwork} from './network.ts'

export type BaselineOptions = {
  readonly network: LabNetwork
  /** Off, with its first disk large enough for the image. */
  readonly machine: LabMachine
  /** The address the machine gets, from the bridge's network. */
  readonly address: string
  readonly kernel: string
  /** `lib/modules/<version>` of that kernel. */
  readonly modulesDir: string
  /** The whole disk, compressed by zstd: its OS takes an address by DHCP, POSTs `<bridge address>/first-boot`, and admits `sshKey`. */
  readonly image: string
  /** Private key file for root's SSH. */
  readonly sshKey: string
  readonly deadline_ms?: number
}

export const BASELINE_PHASES = ['script', 'ramdisk', 'write_start', 'written', 'local_boot', 'phone_home', 'ssh'] as const
export type BaselinePhase = (typeof BASELINE_PHASES)[number]

/** Seconds since power-on. */
export type BaselineResult = {readonly phases_s: Record<BaselinePhase, number>; readonly usage: MachineUsage | null}

/** Provisions the machine once and leaves it running. */
export async function runBaseline(options: BaselineOptions): Promise<BaselineResult> {
  const {network, machine} = options
  const dir = join(network.dir, `baseline-${machine.name}`)
  rmSync(dir, {recursive: true, force: true}) // of an earlier run on this machine
  const servers = await startBaselineServers(network, dir, {mac: machine.mac, address: options.address})
  try {
    await publish(options, servers)
    await machine.powerOn()
    const poweredOnMs = machine.powerEvents().findLast(({event}) => event.startsWith('on '))?.at_ms ?? Number.NaN
    const times = await watch(options, servers, performance.now() + (options.deadline_ms ?? 900_000))
    const phases = BASELINE_PHASES.map(phase => [phase, (times[phase] - poweredOnMs) / 1000])
    return {phases_s: Object.fromEntries(phases) as Record<BaselinePhase, number>, usage: machine.usage()}
  } finally {
    await servers.stop()
  }
}

async function publish({machine, kernel, modulesDir, image}: BaselineOptions, {root, url}: BaselineServers): Promise<void> {
  await buildBaselineRamdisk({modulesDir, out: join(root, 'initrd')})
  symlinkSync(kernel, join(root, 'vmlinuz'))
  symlinkSync(image, join(root, 'disk.raw.zst'))
  const settings = `console=ttyS0,115200 quiet panic=5 net.ifnames=0 lab.url=${url} lab.disk=/dev/vda initrd=initrd`
  setScript(root, machine.mac, `kernel ${url}/vmlinuz ${settings}\ninitrd ${url}/initrd\nboot\n`)
}

/** In one step, as a fetch may come at any moment. */
function setScript(root: string, mac: string, script: string): void {
  const path = join(root, scriptPath(mac))
  writeFileSync(`${path}.new`, `#!ipxe\n${script}`)
  renameSync(`${path}.new`, path)
}

/** Sees the phases in nginx's log and, once the disk is written, sends the machine to it. */
async function watch(
  {network, machine, address, sshKey}: BaselineOptions,
  servers: BaselineServers,
  deadline: number,
): Promise<Record<BaselinePhase, number>> {
  const wait = async (what: string, match: (requests: BaselineRequest[]) => BaselineRequest | undefined) => {
    for (;;) {
      const requests = servers.requests()
      const found = match(requests)
      if (found) return found.at_ms
      const serial = machine.serialText({sincePowerOn: true})
      const refused = requests.some(({request}) => request.includes('e=write_failed'))
      if (refused || !machine.isPowered() || serial.includes('Kernel panic') || performance.now() > deadline) {
        throw new Error(`the baseline never came to ${what}; serial port: ${serial.slice(-2000)}`)
      }
      await sleep(50)
    }
  }
  const event = (name: string) => wait(name, requests => requests.find(({request}) => request.includes(`/event?e=${name}&`)))
  const scripts = (requests: BaselineRequest[]) => requests.filter(({request}) => request.includes(scriptPath(machine.mac)))

  const script = await wait('its script', requests => scripts(requests)[0])
  const ramdisk = await event('ramdisk')
  const write_start = await event('write_start')
  const written = await event('written')
  setScript(servers.root, machine.mac, 'exit 1\n')
  const local_boot = await wait('its disk', requests => scripts(requests)[1])
  const phone_home = await wait('its first boot', requests =>
    requests.find(({request}) => request.startsWith('POST /first-boot')),
  )
  const ssh = await untilSsh(network, address, sshKey, deadline)
  return {script, ramdisk, write_start, written, local_boot, phone_home, ssh}
}

/** @returns when root could log in with the key, by the host’s clock */
export async function untilSsh(network: LabNetwork, address: string, key: string, deadline: number): Promise<number> {
  // The baseline trusts whoever answers: nobody told it the new host's keys.
  const options = [
    'BatchMode=yes',
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'LogLevel=ERROR',
    'ConnectTimeout=2',
  ]
  const argv = ['ssh', '-i', key, ...options.flatMap(option => ['-o', option]), `root@${address}`, 'true']
  for (;;) {
    const {code, stderr} = await network.exec(argv, {anyExit: true})
    if (code === 0) return Date.now()
    if (performance.now() > deadline) throw new Error(`the baseline's machine answers no SSH: ${stderr}`)
    await sleep(100)
  }
}

function scriptPath(mac: string): string {
  return `hosts/${mac.replaceAll(':', '-')}.ipxe`
}
