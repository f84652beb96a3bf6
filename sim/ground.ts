/**
 * The ground on which it all stands: network namespaces joined by cables, in a process namespace that takes everything with it when its
 * first process ends, however it ends.
 *
 *     this process: machines, BMCs, relays            10.64.0.0/14, every address of it ours
 *        │ cable 10.62.N.2 ── 10.62.N.1 rack0         a host of Ingot, one each
 *
 * A host is a namespace and a routing table, not another kernel: clock, memory and processors are shared.
 */
import {type ChildProcess, spawn} from 'node:child_process'
import {once} from 'node:events'
import {readdirSync, readFileSync, readlinkSync} from 'node:fs'
import {fileURLToPath} from 'node:url'
import {runCommand} from '../lab/commands.ts'
import type {Ipv4} from '../lib/addresses.ts'
import {sleep} from '../lib/clock.ts'

/** Machines, BMCs and relays live here. */
export const SIMULATED = '10.64.0.0/14'
const INSIDE = 'INGOT_SIM_GROUND'

export type Host = {
  readonly number: number
  /** Its address on the cable. */
  readonly address: Ipv4
  readonly interface: 'rack0'
  /** Starts a program on it; the child is `nsenter`, and ends as the program does. */
  spawn(argv: readonly string[], options?: {env?: Record<string, string>; log?: number}): ChildProcess
  /** Runs a program on it to its end. */
  run(argv: readonly string[], env?: Record<string, string>): Promise<string>
  processes(): HostProcess[]
}

/** `pid` as this process numbers it; `command` as `ps` shows it. */
export type HostProcess = {readonly pid: number; readonly command: string}

export function isInside(): boolean {
  return process.env[INSIDE] === '1'
}

/** Runs this very script again, with its arguments, inside a ground of its own. @returns its exit code */
export async function runInside(script: string, args: readonly string[]): Promise<number> {
  if (process.getuid?.() !== 0) throw new Error('it makes network namespaces, which only root may: run it as root')
  const own = ['--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  const child = spawn('unshare', [...own, process.execPath, fileURLToPath(script), ...args], {
    stdio: 'inherit',
    env: {...process.env, [INSIDE]: '1'},
  })
  const forward = (signal: NodeJS.Signals) => child.kill(signal)
  // Ctrl-C reaches the whole terminal group; the one inside answers it.
  process.on('SIGINT', () => undefined)
  process.on('SIGTERM', forward)
  const [code] = (await once(child, 'exit')) as [number | null]
  process.off('SIGTERM', forward)
  return code ?? 1
}

/** To be called once, inside. */
export async function layGround(): Promise<void> {
  await ip('link', 'set', 'lo', 'up')
  await ip('route', 'add', 'local', SIMULATED, 'dev', 'lo')
}

/** A host with a cable to the machines. @param number from 0 */
export async function addHost(number: number): Promise<Host> {
  // Its first process waits for its children, so that what is killed there leaves no zombie that looks alive.
  const own = ['--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  const holder = spawn('unshare', [...own, 'sh', '-c', 'sleep infinity & wait'], {stdio: 'ignore'})
  if (holder.pid === undefined) throw new Error('no host could be made')
  const first = await firstProcess(holder.pid)
  const enter = ['nsenter', '--target', String(first), '--net', '--pid', '--mount']
  const address = `10.62.${number}.1` as Ipv4
  const cable = `host${number}`
  await ip('link', 'add', cable, 'type', 'veth', 'peer', 'name', 'rack0', 'netns', String(first))
  await ip('addr', 'add', `10.62.${number}.2/30`, 'dev', cable)
  await ip('link', 'set', cable, 'up')
  const inside = (...args: string[]) => runCommand([...enter, 'ip', ...args])
  await inside('link', 'set', 'lo', 'up')
  await inside('addr', 'add', `${address}/30`, 'dev', 'rack0')
  await inside('link', 'set', 'rack0', 'up')
  await inside('route', 'add', SIMULATED, 'via', `10.62.${number}.2`)
  return {
    number,
    address,
    interface: 'rack0',
    spawn(argv, {env = {}, log} = {}) {
      const [command = '', ...args] = [...enter, ...argv]
      const output = log ?? 'inherit'
      return spawn(command, args, {stdio: ['ignore', output, output], env: {...process.env, ...env}})
    },
    run: async (argv, env = {}) => (await runCommand([...enter, ...argv], {env, timeout_ms: 120_000})).stdout,
    processes: () => processesOf(first),
  }
}

/** The process that `unshare` forked, once it has left our namespaces. */
async function firstProcess(unsharePid: number): Promise<number> {
  const mine = readlinkSync('/proc/self/ns/net')
  for (let tries = 0; tries < 1_000; tries++) {
    const [child] = readFileSync(`/proc/${unsharePid}/task/${unsharePid}/children`, 'utf8').trim().split(' ')
    if (child && readlinkSync(`/proc/${child}/ns/net`) !== mine) return Number(child)
    await sleep(10)
  }
  throw new Error('a host did not come about')
}

/** Every process of a host but its first two, as this process numbers them. */
function processesOf(first: number): HostProcess[] {
  const own = readlinkSync(`/proc/${first}/ns/pid`)
  return readdirSync('/proc').flatMap(name => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === first) return []
    try {
      if (readlinkSync(`/proc/${pid}/ns/pid`) !== own) return []
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      return command === '' || command === 'sleep infinity' ? [] : [{pid, command}]
    } catch {
      // It ended while we looked.
      return []
    }
  })
}

async function ip(...args: string[]): Promise<void> {
  await runCommand(['ip', ...args])
}
