/**
 * One PostgreSQL server as a process: makes a cluster, starts it, takes over a running one, stops it. It listens on a Unix socket
 * only, in a 0700 folder that belongs to its user, so every connection that gets there is trusted.
 *
 * It lives in a session of its own: Ctrl-C in a terminal reaches Ingot, which then stops it in order. When Ingot is killed instead,
 * the server goes on, and the next Ingot takes it over.
 */
import {type ChildProcess, execFile, spawn} from 'node:child_process'
import {chownSync, closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync} from 'node:fs'
import {join} from 'node:path'
import {promisify} from 'node:util'
import {sleep} from '../../lib/clock.ts'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {Account} from './account.ts'
import type {PostgresBinaries} from './postgres-binaries.ts'

export const DATABASE_USER = 'ingot'

export type ServerPlace = {
  readonly binaries: PostgresBinaries
  readonly account: Account
  readonly dataDir: string
  readonly socketDir: string
  readonly logFile: string
  /** Settings beside those that make it ours: `{fsync: 'off'}`. */
  readonly settings?: Readonly<Record<string, string>>
  readonly log: Log
}

export type PostgresServer = {
  readonly pid: number
  readonly adopted: boolean
  /** Resolves, with how it ended, when the process is gone; never rejects. */
  readonly exited: Promise<string>
  /** Fast shutdown (SIGINT): breaks connections, writes everything. Harder ones follow when it takes too long. */
  stop(): Promise<void>
}

const POLL_MS = 20
const RECOVERY_LIMIT_MS = 600_000
const STOP_STEPS = [
  {signal: 'SIGINT', waitMs: 60_000},
  {signal: 'SIGQUIT', waitMs: 10_000},
  {signal: 'SIGKILL', waitMs: 10_000},
] as const

/** Makes `dataDir` into a new cluster. The caller renames it into place, so that an interrupted one is never used. */
export async function initialiseCluster(binaries: PostgresBinaries, account: Account, dataDir: string): Promise<void> {
  mkdirSync(dataDir, {mode: 0o700})
  chownSync(dataDir, account.uid, account.gid)
  const parameters = ['-D', dataDir, '-U', DATABASE_USER, '--auth-local=trust', '--auth-host=reject', '--encoding=UTF8']
  try {
    await promisify(execFile)(binaries.initdb, [...parameters, '--locale=C', '--data-checksums'], {
      ...identity(account),
      env: environment(binaries),
      cwd: dataDir,
    })
  } catch (error) {
    throw new IngotError('DATABASE_UNSUITABLE', `initdb failed: ${messageOf(error)}`, {cause: error})
  }
}

/** Starts the server and waits until it takes connections, through crash recovery if there is any. */
export async function startServer(place: ServerPlace): Promise<PostgresServer> {
  await clearStaleLocks(place)
  const output = openSync(place.logFile, 'a', 0o600)
  const child = spawn(place.binaries.postgres, ['-D', place.dataDir, ...settingArguments(place)], {
    ...identity(place.account),
    env: environment(place.binaries),
    cwd: place.dataDir,
    detached: true,
    stdio: ['ignore', output, output],
  })
  closeSync(output)
  const exited = exitOf(child)
  if (child.pid === undefined) throw new IngotError('DATABASE_UNSUITABLE', `PostgreSQL did not start: ${await exited}`)
  child.unref()
  const server = describeServer(child.pid, false, exited)
  await waitUntilReady(server, place)
  return server
}

/** The server that already runs on `dataDir`, left by an Ingot that was killed; undefined when there is none. */
export async function adoptServer(place: ServerPlace): Promise<PostgresServer | undefined> {
  const pid = readPidFile(place.dataDir)?.pid
  if (pid === undefined || !worksIn(pid, place.dataDir)) return undefined
  const server = describeServer(pid, true, watchForeign(pid, place.dataDir))
  if (readPidFile(place.dataDir)?.status === 'stopping' || programReplaced(pid)) {
    place.log.info({postgres_pid: pid}, 'an orphaned PostgreSQL is stopped first: it is ending, or older than the installed one')
    await server.stop()
    return undefined
  }
  await waitUntilReady(server, place)
  return server
}

/** The Unix socket's address of one database, as `pg` and libpq read it. */
export function socketUrl(socketDir: string, database: string): string {
  return `postgresql://${DATABASE_USER}@/${database}?host=${encodeURIComponent(socketDir)}`
}

/** `postmaster.pid`: pid, data directory, start, port, socket folder, address, memory key, status; one a line. */
export function readPidFile(dataDir: string): {pid: number; socketDir: string; status: string} | undefined {
  try {
    const lines = readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')
    const pid = Number(lines[0])
    return pid > 0 ? {pid, socketDir: (lines[4] ?? '').trim(), status: (lines[7] ?? '').trim()} : undefined
  } catch {
    return undefined
  }
}

function settingArguments(place: ServerPlace): string[] {
  const settings = {
    listen_addresses: '',
    unix_socket_directories: place.socketDir,
    unix_socket_permissions: '0700',
    cluster_name: 'ingot',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '%m [%p] ',
    // Errors go to whoever sent the statement; a statement in a log could carry a secret.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_checkpoints: 'off',
    ...place.settings,
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

function describeServer(pid: number, adopted: boolean, exited: Promise<string>): PostgresServer {
  return {pid, adopted, exited, stop: () => stopServer(pid, exited)}
}

async function stopServer(pid: number, exited: Promise<string>): Promise<void> {
  for (const {signal, waitMs} of STOP_STEPS) {
    sendSignal(pid, signal)
    const timeout = new AbortController()
    const gone = await Promise.race([exited.then(() => true), sleep(waitMs, timeout.signal).then(() => false)])
    timeout.abort()
    if (gone) return
  }
  throw new Error(`PostgreSQL (pid ${pid}) does not end`)
}

async function waitUntilReady(server: PostgresServer, place: ServerPlace): Promise<void> {
  let end: string | undefined
  void server.exited.then(how => {
    end = how
  })
  for (let waitedMs = 0; waitedMs < RECOVERY_LIMIT_MS; waitedMs += POLL_MS) {
    if (end !== undefined) {
      throw new IngotError('DATABASE_UNSUITABLE', `PostgreSQL ended while starting (${end}): ${lastLines(place.logFile)}`)
    }
    const file = readPidFile(place.dataDir)
    if (file?.pid === server.pid && file.status === 'ready') return
    if (waitedMs > 0 && waitedMs % 10_000 === 0) place.log.info({postgres_pid: server.pid}, 'PostgreSQL is still recovering')
    await sleep(POLL_MS)
  }
  throw new IngotError('DATABASE_AWAY', `PostgreSQL (pid ${server.pid}) is not ready after ${RECOVERY_LIMIT_MS / 1000} s`)
}

/**
 * A pid file whose server is dead may name a number that somebody else has by now (always so in a restarted container), and
 * PostgreSQL would refuse. It is removed only when no process works in the data directory any more: a backend may outlive its
 * server for a moment.
 */
async function clearStaleLocks({dataDir, socketDir}: ServerPlace): Promise<void> {
  for (let waitedMs = 0; processesIn(dataDir).length > 0; waitedMs += POLL_MS) {
    if (waitedMs > 30_000) {
      const pids = processesIn(dataDir).join(', ')
      throw new IngotError('DATABASE_LOCKED', `PostgreSQL processes without a server still use ${dataDir}: pid ${pids}`)
    }
    await sleep(POLL_MS)
  }
  rmSync(join(dataDir, 'postmaster.pid'), {force: true})
  // Its pid may still stand for a zombie that nobody has reaped yet, which PostgreSQL takes for a living server.
  rmSync(join(socketDir, '.s.PGSQL.5432.lock'), {force: true})
}

/** PostgreSQL's processes all work in the data directory. */
function processesIn(dataDir: string): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => worksIn(pid, dataDir))
}

function worksIn(pid: number, dataDir: string): boolean {
  return readLink(`/proc/${pid}/cwd`) === dataDir && !isZombie(pid)
}

function programReplaced(pid: number): boolean {
  return readLink(`/proc/${pid}/exe`).endsWith(' (deleted)')
}

function isZombie(pid: number): boolean {
  try {
    return / [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\)/, ''))
  } catch {
    return true
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

/** A process that is not our child tells nobody when it ends; so look. */
async function watchForeign(pid: number, dataDir: string): Promise<string> {
  while (worksIn(pid, dataDir)) await new Promise(resolve => setTimeout(resolve, 100).unref())
  return 'ended'
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise(resolve => {
    child.once('error', error => resolve(messageOf(error)))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function identity(account: Account): {uid?: number; gid?: number} {
  return process.getuid?.() === 0 ? {uid: account.uid, gid: account.gid} : {}
}

function environment(binaries: PostgresBinaries): Record<string, string> {
  return {PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', ...binaries.environment}
}

function lastLines(path: string): string {
  if (!existsSync(path)) return 'it left no log'
  return readFileSync(path, 'utf8').trim().split('\n').slice(-3).join(' | ')
}
