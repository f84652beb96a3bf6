/**
 * The embedded PostgreSQL of a state directory:
 *
 *   <state>/lock           who may open it (flock; names the holder)
 *   <state>/postgres-18/   the programs, root's
 *   <state>/data/          the cluster, 0700, the unprivileged user's
 *   <state>/socket/        its Unix socket, 0700 (elsewhere when the path would be too long for a socket)
 *   <state>/postgres.log
 *
 * Kept running while its handle is open: when it dies it is started again.
 */
import {createHash} from 'node:crypto'
import {chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join, resolve} from 'node:path'
import pg from 'pg'
import {sleep} from '../../lib/clock.ts'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type Account, ensureAccount, requireReachable} from './account.ts'
import {installEmbeddedBinaries, type PostgresBinaries} from './postgres-binaries.ts'
import {adoptServer, initialiseCluster, type PostgresServer, type ServerPlace, socketUrl, startServer} from './postgres-server.ts'
import {lockState, type StateLock} from './state-lock.ts'

export type EmbeddedPostgres = {
  readonly url: string
  /** Changes when it was restarted. */
  readonly pid: number
  readonly adopted: boolean
  /** Calls `listener` each time the server ends by itself; it is being restarted then. */
  onExit(listener: (how: string) => void): void
  /** Graceful, and gives the lock back if this took it. */
  stop(): Promise<void>
}

export type EmbeddedPostgresOptions = {
  readonly stateDir: string
  readonly log: Log
  /** The unprivileged user to run as when this is root. */
  readonly user?: string
  /** A lock already held; without one it is taken, and released by `stop`. */
  readonly lock?: StateLock
  readonly settings?: Readonly<Record<string, string>>
}

const DATABASE = 'ingot'
/** sun_path has 108 bytes, and `/.s.PGSQL.5432` is appended. */
const SOCKET_DIR_LIMIT = 85
const LOG_LIMIT_BYTES = 10 * 1024 * 1024
const RESTART_PAUSE_MS = {first: 200, most: 5_000} as const

/** @throws IngotError DATABASE_LOCKED when another process holds the state directory */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const stateDir = resolve(options.stateDir)
  const ownLock = options.lock ? undefined : lockState(stateDir)
  try {
    const place = await preparePlace(stateDir, options)
    const first = (await adoptServer(place)) ?? (await startServer(place))
    options.log.info({postgres_pid: first.pid}, first.adopted ? 'took over the running PostgreSQL' : 'PostgreSQL runs')
    await ensureDatabase(place.socketDir)
    return keepRunning(place, first, ownLock)
  } catch (error) {
    ownLock?.release()
    throw error
  }
}

/** Where the embedded database of a state directory is reached while some Ingot runs it. */
export function embeddedUrl(stateDir: string): string {
  return socketUrl(socketFolder(resolve(stateDir)), DATABASE)
}

function keepRunning(place: ServerPlace, first: PostgresServer, ownLock: StateLock | undefined): EmbeddedPostgres {
  const listeners: ((how: string) => void)[] = []
  const stopping = new AbortController()
  let server = first
  const supervision = superviseUntilStopped()

  async function superviseUntilStopped(): Promise<void> {
    for (;;) {
      const how = await Promise.race([server.exited, aborted(stopping.signal)])
      if (stopping.signal.aborted) return
      place.log.error({postgres_pid: server.pid, how}, 'PostgreSQL ended; starting it again')
      for (const listener of listeners) listener(how)
      const next = await restart(place, stopping.signal)
      if (!next) return
      server = next
      place.log.info({postgres_pid: server.pid}, 'PostgreSQL runs again')
    }
  }

  return {
    url: socketUrl(place.socketDir, DATABASE),
    get pid() {
      return server.pid
    },
    adopted: first.adopted,
    onExit: listener => void listeners.push(listener),
    async stop() {
      stopping.abort()
      await supervision
      await server.stop()
      ownLock?.release()
    },
  }
}

async function restart(place: ServerPlace, signal: AbortSignal): Promise<PostgresServer | undefined> {
  for (let pauseMs: number = RESTART_PAUSE_MS.first; ; pauseMs = Math.min(pauseMs * 2, RESTART_PAUSE_MS.most)) {
    await sleep(pauseMs, signal)
    if (signal.aborted) return undefined
    try {
      return await startServer(place)
    } catch (error) {
      place.log.error({err: error}, 'PostgreSQL does not start; trying again')
    }
  }
}

async function preparePlace(stateDir: string, options: EmbeddedPostgresOptions): Promise<ServerPlace> {
  const account = ensureAccount(options.user ?? 'ingot', options.log)
  requireReachable(join(stateDir, 'data'), account)
  const binaries = installEmbeddedBinaries(stateDir)
  const dataDir = join(stateDir, 'data')
  await ensureCluster(binaries, account, dataDir, options.log)
  const socketDir = socketFolder(stateDir)
  ensurePrivateFolder(socketDir, account)
  const logFile = join(stateDir, 'postgres.log')
  if ((lstatSync(logFile, {throwIfNoEntry: false})?.size ?? 0) > LOG_LIMIT_BYTES) truncateSync(logFile)
  return {binaries, account, dataDir, socketDir, logFile, settings: options.settings ?? {}, log: options.log}
}

async function ensureCluster(binaries: PostgresBinaries, account: Account, dataDir: string, log: Log): Promise<void> {
  if (!existsSync(dataDir)) {
    log.info({dataDir}, 'making the database cluster')
    const fresh = `${dataDir}.new`
    rmSync(fresh, {recursive: true, force: true})
    await initialiseCluster(binaries, account, fresh)
    renameSync(fresh, dataDir)
  }
  const version = readFileSync(join(dataDir, 'PG_VERSION'), 'utf8').trim()
  if (version !== String(binaries.major)) {
    throw new IngotError(
      'DATABASE_UNSUITABLE',
      `${dataDir} was made by PostgreSQL ${version}, this Ingot carries ${binaries.major}`,
      {
        mend: 'Back it up with the Ingot that made it (`ingot db backup`), then restore into a new state directory.',
      },
    )
  }
  const {uid} = lstatSync(dataDir)
  if (uid !== account.uid) {
    throw new IngotError('DATABASE_UNSUITABLE', `${dataDir} belongs to uid ${uid}, but PostgreSQL would run as ${account.name}`, {
      mend: 'Name that user as "user" in ingot.json, or start Ingot as the user who did before.',
    })
  }
}

function socketFolder(stateDir: string): string {
  const inside = join(stateDir, 'socket')
  if (Buffer.byteLength(inside) <= SOCKET_DIR_LIMIT) return inside
  const hash = createHash('sha256').update(stateDir).digest('hex').slice(0, 16)
  const uid = process.getuid?.() ?? 0
  return uid === 0 ? `/run/ingot-${hash}` : join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), `ingot-${uid}-${hash}`)
}

/** In a shared folder somebody else may have made it first: only our own is accepted. */
function ensurePrivateFolder(path: string, account: Account): void {
  if (!existsSync(path)) mkdirSync(path, {mode: 0o700})
  const found = lstatSync(path)
  const own = process.getuid?.() ?? 0
  if (!found.isDirectory() || (found.uid !== own && found.uid !== account.uid)) {
    throw new IngotError(
      'PREFLIGHT_FAILED',
      `${path} belongs to uid ${found.uid}; the database's socket must lie in a folder of its own`,
    )
  }
  chmodSync(path, 0o700)
  chownSync(path, account.uid, account.gid)
}

async function ensureDatabase(socketDir: string): Promise<void> {
  const client = new pg.Client({connectionString: socketUrl(socketDir, 'postgres')})
  try {
    await client.connect()
    const {rowCount} = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`)
  } catch (error) {
    throw new IngotError('DATABASE_AWAY', `the embedded database does not answer: ${messageOf(error)}`, {cause: error})
  } finally {
    await client.end()
  }
}

function aborted(signal: AbortSignal): Promise<string> {
  return new Promise(resolve => signal.addEventListener('abort', () => resolve('stopped'), {once: true}))
}
