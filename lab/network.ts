/**
 * A rack's network inside one Linux network namespace: a bridge that Ingot (or a baseline) serves, and taps for QEMU machines.
 *
 *     namespace NAME:   br0 10.77.0.1/22 ── tap0 ── machine
 *                        │  10.77.0.201       tap1 ── machine
 *                        └─ BMCs, Ingot, clients: processes run by exec and spawn
 *
 * Everything is written into a run record first; `close` removes it, and `cleanupStale` does so for a run that was killed.
 */
import {type ChildProcess, spawn} from 'node:child_process'
import {closeSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join, resolve} from 'node:path'
import {type CommandOptions, type CommandResult, runCommand} from './commands.ts'
import {identifyProcess, isRunning, type ProcessIdentity, processesInNamespace, stopProcesses} from './processes.ts'
import {openRunRecord, RUN_DIR, type Run, type RunRecord, readRun, readStaleRuns} from './run-record.ts'

export type LabNetworkOptions = {
  /** Name of the namespace: lower-case letters, digits, dashes. */
  readonly name: string
  /** Address and prefix length of the bridge, `10.77.0.1/22`. */
  readonly bridgeAddress: string
  readonly ipv6?: string
  /** How many taps: tap0 … */
  readonly taps: number
  /** Where machines keep their disks and logs. Default: a new directory under the system's temporary one. */
  readonly dir?: string
  readonly runDir?: string
}

export type SpawnOptions = {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** File that gets standard output and error; without it they are pipes of `child`. */
  readonly logFile?: string
}

export type LabProcess = {
  readonly child: ChildProcess
  readonly pid: number
  /** Resolves when it ended, however it ended. */
  readonly exited: Promise<{code: number | null; signal: NodeJS.Signals | null}>
  stop(graceMs?: number): Promise<void>
}

export type LabNetwork = {
  readonly name: string
  readonly dir: string
  readonly bridge: 'br0'
  readonly bridgeAddress: string
  readonly taps: readonly string[]
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>
  /** Starts a process that lives until `stop` or `close`; it has its own process group, so that Ctrl-C reaches only the lab. */
  spawn(argv: readonly string[], options?: SpawnOptions): LabProcess
  /** Gives the bridge one more address, of the bridge's own prefix length. */
  addAddress(address: string): Promise<void>
  /** A TCP port on 127.0.0.1 of the namespace that no one else here was given. */
  nextPort(): number
  /** Ends every process in the namespace and removes it, and `dir` if the lab made it. May be called again. */
  close(options?: {keepFiles?: boolean}): Promise<void>
}

/** @throws when a living run holds the name, or a namespace of that name was not made by the lab */
export async function createLabNetwork(options: LabNetworkOptions): Promise<LabNetwork> {
  const {name, bridgeAddress} = options
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) throw new Error(`'${name}' is not a usable namespace name`)
  const runDir = options.runDir ?? RUN_DIR
  for (const run of readStaleRuns(name, runDir)) if (run.name === name) await removeRun(run)
  if (namespaceInode(name) !== null) throw new Error(`the network namespace '${name}' exists already and is not stale`)

  const record = openRunRecord(name, runDir)
  const taps = Array.from({length: options.taps}, (_, index) => `tap${index}`)
  try {
    const dir = makeDirectory(options, record)
    await buildNamespace(options, taps, record)
    return withNamespace({name, dir, bridge: 'br0', bridgeAddress, taps}, record)
  } catch (error) {
    await removeRun(readRun(record.path))
    throw error
  }
}

/**
 * Removes what crashed runs left: processes, namespaces, directories. A run whose owner lives is left alone.
 *
 * @param namePrefix at least three characters; an empty prefix would be everybody's
 * @returns the names that were removed
 */
export async function cleanupStale(namePrefix: string, runDir: string = RUN_DIR): Promise<string[]> {
  if (namePrefix.length < 3) throw new Error(`the prefix '${namePrefix}' is too short to mean one's own runs only`)
  const runs = readStaleRuns(namePrefix, runDir)
  for (const run of runs) await removeRun(run)
  return runs.map(run => run.name)
}

/** Only a directory that was not there before is recorded, and so removed later. */
function makeDirectory(options: LabNetworkOptions, record: RunRecord): string {
  const dir = options.dir === undefined ? mkdtempSync(join(tmpdir(), `ingot-lab-${options.name}-`)) : resolve(options.dir)
  const isNew = options.dir === undefined || mkdirSync(dir, {recursive: true}) !== undefined
  if (isNew) record.add({kind: 'directory', path: dir})
  return dir
}

async function buildNamespace(options: LabNetworkOptions, taps: readonly string[], record: RunRecord): Promise<void> {
  const {name} = options
  const inside = (...args: string[]) => runCommand(['ip', '-n', name, ...args])
  await runCommand(['ip', 'netns', 'add', name])
  record.add({kind: 'namespace', inode: namespaceInode(name) ?? 0})
  await inside('link', 'set', 'lo', 'up')
  await inside('link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0', 'mcast_snooping', '0')
  await inside('addr', 'add', options.bridgeAddress, 'dev', 'br0')
  // nodad: a tentative address sends no router advertisement, and every iPXE boot then waits 16 s for one.
  if (options.ipv6) await inside('addr', 'add', options.ipv6, 'dev', 'br0', 'nodad')
  await inside('link', 'set', 'br0', 'up')
  for (const tap of taps) {
    await inside('tuntap', 'add', 'dev', tap, 'mode', 'tap')
    await inside('link', 'set', tap, 'master', 'br0', 'up')
  }
}

function withNamespace(
  network: Pick<LabNetwork, 'name' | 'dir' | 'bridge' | 'bridgeAddress' | 'taps'>,
  record: RunRecord,
): LabNetwork {
  const enter = ['ip', 'netns', 'exec', network.name]
  const prefixLength = network.bridgeAddress.split('/')[1] ?? '32'
  let lastPort = 9100
  let closed = false
  return {
    ...network,
    exec: (argv, options) => runCommand([...enter, ...argv], options),
    spawn: (argv, options = {}) => spawnInside([...enter, ...argv], options, record),
    addAddress: async address => {
      await runCommand(['ip', '-n', network.name, 'addr', 'add', `${address}/${prefixLength}`, 'dev', network.bridge])
    },
    nextPort: () => ++lastPort,
    close: async ({keepFiles = false} = {}) => {
      if (closed) return
      const run = readRun(record.path)
      await removeRun(keepFiles ? {...run, directories: []} : run)
      closed = true
    },
  }
}

function spawnInside(argv: readonly string[], options: SpawnOptions, record: RunRecord): LabProcess {
  const [command = '', ...args] = argv
  const log = options.logFile === undefined ? null : openSync(options.logFile, 'a')
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', log ?? 'pipe', log ?? 'pipe'],
    env: {...process.env, ...options.env},
    ...(options.cwd === undefined ? {} : {cwd: options.cwd}),
  })
  if (log !== null) closeSync(log)
  const exited = new Promise<{code: number | null; signal: NodeJS.Signals | null}>(resolveExit => {
    child.on('error', () => resolveExit({code: null, signal: null}))
    child.on('exit', (code, signal) => resolveExit({code, signal}))
  })
  const pid = child.pid
  if (pid === undefined) throw new Error(`${argv.join(' ')} did not start`)
  // `ip netns exec` becomes the command: pid and start time stay the same.
  const identity = identifyProcess(pid)
  if (identity) record.add({kind: 'process', ...identity, what: args[3] ?? command})
  return {child, pid, exited, stop: async graceMs => (identity ? stopProcesses([identity], graceMs) : undefined)}
}

/** In the order that leaves a second try possible: processes, namespace, files, and the record last. */
async function removeRun(run: Run): Promise<void> {
  // While the name stands for the recorded inode the namespace is ours, and so is all that runs in it (QEMU is started by a BMC, not
  // by us). Without that proof only processes recorded with their start time are.
  const ours = run.namespaceInode === null || namespaceInode(run.name) === run.namespaceInode
  const inside = ours ? processesOf(run.name) : []
  await stopProcesses([...run.processes.filter(isRunning), ...inside])
  // A BMC that was just told to power on may have started QEMU meanwhile.
  if (ours) await stopProcesses(processesOf(run.name))
  if (ours && namespaceInode(run.name) !== null) await runCommand(['ip', 'netns', 'del', run.name])
  for (const directory of run.directories) rmSync(directory, {recursive: true, force: true})
  rmSync(run.path, {force: true})
}

function processesOf(name: string): ProcessIdentity[] {
  const inode = namespaceInode(name)
  return inode === null ? [] : processesInNamespace(inode)
}

function namespaceInode(name: string): number | null {
  return statSync(join('/run/netns', name), {throwIfNoEntry: false})?.ino ?? null
}
