/** One Ingot on a host of the ground, as an operator runs it: `init`, `serve`, and whatever befalls its processes. */
import type {ChildProcess} from 'node:child_process'
import {once} from 'node:events'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {sleep} from '../lib/clock.ts'
import {saveConfigFile} from '../lib/config.ts'
import {silentLog} from '../lib/log.ts'
import {createArtefacts} from '../services/artefacts/index.ts'
import {embeddedUrl} from '../services/supervisor/embedded-postgres.ts'
import {type Api, createApi} from './api.ts'
import type {Host, HostProcess} from './ground.ts'

export type Part = 'supervisor' | 'wire' | 'control' | 'postmaster' | 'backend'

export type Node = {
  readonly host: Host
  readonly stateDir: string
  readonly databaseUrl: string
  readonly logFile: string
  readonly api: Api
  readonly bootUrl: string
  /** Resolves when the API answers. */
  start(): Promise<void>
  /** Whether `serve` runs. */
  readonly isUp: boolean
  stop(): Promise<void>
  pids(part: Part): number[]
  /** kill -9 of every process of that kind. @returns how many there were */
  kill(part: Part): number
  /** kill -9 of all there is, PostgreSQL too: the host lost power. */
  killAll(): Promise<void>
  signal(part: Part, signal: NodeJS.Signals): void
}

const PROJECT = fileURLToPath(new URL('..', import.meta.url))
const START_LIMIT_MS = 90_000
export const BOOT_PORT = 8480
export const API_PORT = 8481

export type NodeOptions = {
  readonly host: Host
  readonly dir: string
  /** A node with a database of its own; otherwise the one whose database, keys and artefacts it shares. */
  readonly beside?: {readonly node: Node; readonly databaseUrl?: string}
  /** What runs instead of `ingot serve`: a script that takes the state directory. */
  readonly script?: string
  readonly workers?: number
  readonly env?: Record<string, string>
}

/** Prepares it; `start` starts it. The API token is the same on every node. */
export async function createNode(options: NodeOptions): Promise<Node> {
  const {host, beside} = options
  const stateDir = join(options.dir, `node${host.number}`)
  mkdirSync(stateDir, {recursive: true, mode: 0o755})
  const apiListen = `${host.address}:${API_PORT}`
  const databaseUrl = beside ? (beside.databaseUrl ?? beside.node.databaseUrl) : embeddedUrl(stateDir)
  const token = beside ? beside.node.api.token : await initialise(host, stateDir, apiListen)
  if (beside) {
    mkdirSync(join(stateDir, 'keys'), {mode: 0o700})
    copyFileSync(join(beside.node.stateDir, 'keys', 'sealing.key'), join(stateDir, 'keys', 'sealing.key'))
    chmodSync(join(stateDir, 'keys', 'sealing.key'), 0o600)
    symlinkSync(join(beside.node.stateDir, 'artefacts'), join(stateDir, 'artefacts'))
  } else await importSmallArtefacts(stateDir)
  saveConfigFile(stateDir, {
    ...(beside ? {database_url: databaseUrl} : {}),
    interfaces: [{name: host.interface}],
    boot: {listen: `0.0.0.0:${BOOT_PORT}`},
    api: {listen: apiListen},
    ...(options.workers === undefined ? {} : {workers: options.workers}),
  })
  const logFile = join(options.dir, `node${host.number}.log`)
  const api = createApi(`http://${apiListen}`, token)
  let server: ChildProcess | undefined

  const node: Node = {
    host,
    stateDir,
    databaseUrl,
    logFile,
    api,
    bootUrl: `http://${host.address}:${BOOT_PORT}`,
    get isUp() {
      return server !== undefined
    },
    async start() {
      const log = openSync(logFile, 'a')
      const program = options.script
        ? [join(PROJECT, options.script), stateDir]
        : [join(PROJECT, 'bin', 'ingot.ts'), 'serve', '--state', stateDir]
      const child = host.spawn([process.execPath, ...program], {log, env: {INGOT_LOG: 'info', ...options.env}})
      closeSync(log)
      server = child
      child.once('exit', () => {
        if (server === child) server = undefined
      })
      const end = performance.now() + START_LIMIT_MS
      while (!(await api.answers())) {
        if (!server || performance.now() > end) throw new Error(`node ${host.number} did not come up:\n${tail(logFile)}`)
        await sleep(50)
      }
    },
    async stop() {
      const [pid] = node.pids('supervisor')
      const child = server
      if (!child || !pid) return
      const gone = once(child, 'exit')
      process.kill(pid, 'SIGTERM')
      const limit = setTimeout(() => void node.killAll(), 30_000)
      await gone
      clearTimeout(limit)
    },
    pids: part =>
      host
        .processes()
        .filter(PARTS[part])
        .map(({pid}) => pid),
    kill(part) {
      const pids = node.pids(part)
      for (const pid of pids) send(pid, 'SIGKILL')
      return pids.length
    },
    async killAll() {
      const child = server
      const gone = child ? once(child, 'exit') : undefined
      while (host.processes().length > 0) {
        for (const {pid} of host.processes()) send(pid, 'SIGKILL')
        await sleep(20)
      }
      await gone
    },
    signal(part, signal) {
      for (const pid of node.pids(part)) send(pid, signal)
    },
  }
  return node
}

/** By what `ps` shows of them. */
const PARTS: Record<Part, (process: HostProcess) => boolean> = {
  supervisor: ({command}) => / serve --state |serve-mortal/.test(command) && !command.startsWith('nsenter'),
  wire: ({command}) => command.startsWith('ingot wire'),
  control: ({command}) => command.startsWith('ingot control'),
  postmaster: ({command}) => /postgres .*-D /.test(command),
  backend: ({command}) => /^postgres: ingot ingot/.test(command),
}

async function initialise(host: Host, stateDir: string, apiListen: string): Promise<string> {
  const words = ['init', '--json', '--yes', '--state', stateDir, '--api-listen', apiListen]
  const said = await host.run([process.execPath, join(PROJECT, 'bin', 'ingot.ts'), ...words])
  return (JSON.parse(said) as {token: string}).token
}

/** Loaders, ramdisk and image of a few kilobytes: what they hold is nothing to a simulated machine, that they come whole is. */
async function importSmallArtefacts(stateDir: string): Promise<void> {
  const artefacts = createArtefacts({dir: join(stateDir, 'artefacts'), log: silentLog})
  const names = [
    ['loaders/undionly.kpxe', 'loader'],
    ['loaders/snponly.efi', 'loader'],
    ['ramdisk/vmlinuz', 'kernel'],
    ['ramdisk/initrd', 'initrd'],
    ['images/debian-12/manifest.json', 'image'],
    ['images/debian-12/manifest.lines', 'image'],
  ] as const
  for (const [name, kind] of names) {
    const file = join(stateDir, 'artefact.tmp')
    writeFileSync(file, `${name}\n`.repeat(200))
    await artefacts.importFile(name, file, {kind, version: '1', source: 'simulated'})
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    // It may have ended with its parent a moment ago.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function tail(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(-20).join('\n') : '(no log)'
}
