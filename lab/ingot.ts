/** Ingot itself in a lab network: initialised, served and asked exactly as an operator would, on its embedded PostgreSQL. */
import {existsSync, mkdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {type Client, createClient} from '../cli/client.ts'
import {sleep} from '../lib/clock.ts'
import type {CommandResult} from './commands.ts'
import type {LabNetwork, LabProcess} from './network.ts'

export type LabIngot = {
  readonly stateDir: string
  readonly token: string
  readonly client: Client
  readonly logFile: string
  /** Resolves when it answers. Seconds from start to answer. */
  start(): Promise<number>
  /** As an operator stops it. */
  stop(): Promise<void>
  /** kill -9 of the supervisor alone: its children end by themselves, PostgreSQL goes on. */
  killSupervisor(): Promise<void>
  /** kill -9 of everything at once: supervisor, children, PostgreSQL. */
  killEverything(): Promise<void>
  /** Pids of its processes, by what they are. */
  pids(): Promise<{supervisor: number; wire: number | undefined; control: number | undefined; postgres: number[]}>
  /** Runs `ingot …` in the network, with the token in its environment. */
  cli(args: readonly string[]): Promise<CommandResult>
}

const INGOT = fileURLToPath(new URL('../bin/ingot', import.meta.url))
const START_LIMIT_MS = 60_000

export type LabIngotOptions = {
  readonly network: LabNetwork
  readonly stateDir: string
  /** Of the machines; the bridge's address lies in it and is where they boot from. */
  readonly prefix: string
  readonly dns?: readonly string[]
}

/** Runs `ingot init`; Ingot is not started yet. */
export async function createLabIngot(options: LabIngotOptions): Promise<LabIngot> {
  const {network, stateDir} = options
  const [address = ''] = network.bridgeAddress.split('/')
  mkdirSync(stateDir, {recursive: true})
  const dns = (options.dns ?? [address]).flatMap(server => ['--dns', server])
  const init = await network.exec(
    [
      INGOT,
      'init',
      '--json',
      '--state',
      stateDir,
      '--interface',
      network.bridge,
      '--prefix',
      options.prefix,
      '--gateway',
      address,
      ...dns,
      '--ra',
    ],
    {timeout_ms: 120_000},
  )
  const {token} = JSON.parse(init.stdout) as {token: string}
  const logFile = join(network.dir, 'ingot.log')
  process.env.INGOT_TOKEN = token
  const client = createClient({api: `unix:${join(stateDir, 'api.sock')}`})
  let server: LabProcess | undefined

  async function start(): Promise<number> {
    const startedMs = performance.now()
    server = network.spawn([INGOT, 'serve', '--state', stateDir], {logFile})
    let ended = false
    void server.exited.then(() => {
      ended = true
    })
    for (;;) {
      try {
        await client.get('/v1/prefixes')
        return (performance.now() - startedMs) / 1000
      } catch (error) {
        if (ended || performance.now() - startedMs > START_LIMIT_MS) {
          throw new Error(`Ingot did not come up; its log ends with:\n${tail(logFile)}`, {cause: error})
        }
      }
      await sleep(50)
    }
  }

  async function pids() {
    const found = await network.exec(['ps', '-eo', 'pid=,ppid=,args='])
    const rows = found.stdout.split('\n').map(line => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    const all = rows.flatMap(row => (row ? [{pid: Number(row[1]), ppid: Number(row[2]), args: row[3] ?? ''}] : []))
    const supervisor = server?.pid ?? 0
    const children = all.filter(row => row.ppid === supervisor)
    const postmaster = all.find(row => row.args.includes(stateDir) && /\bpostgres\b.* -D /.test(row.args))
    return {
      supervisor,
      wire: children.find(row => row.args.startsWith('ingot wire'))?.pid,
      control: children.find(row => row.args.startsWith('ingot control'))?.pid,
      postgres: all.filter(row => row.pid === postmaster?.pid || row.ppid === postmaster?.pid).map(row => row.pid),
    }
  }

  return {
    stateDir,
    token,
    client,
    logFile,
    start,
    async stop() {
      await server?.stop(90_000)
      server = undefined
    },
    async killSupervisor() {
      if (!server) return
      process.kill(server.pid, 'SIGKILL')
      await server.exited
    },
    async killEverything() {
      const {supervisor, wire, control, postgres} = await pids()
      for (const pid of [supervisor, wire, control, ...postgres]) if (pid) kill(pid)
      await server?.exited
    },
    pids,
    cli: args =>
      network.exec([INGOT, ...args], {env: {INGOT_TOKEN: token, INGOT_STATE: stateDir}, anyExit: true, timeout_ms: 600_000}),
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It may have ended with its parent a moment ago.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function tail(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(-20).join('\n') : '(no log)'
}
