/**
 * Real databases for tests. One PostgreSQL serves a whole test run: the first file that asks starts it, later ones find it, and a
 * watcher removes it when the run ends, however it ends. Each test database is a clone of a migrated template (some 50 ms).
 *
 * `INGOT_TEST_POSTGRES=15` uses Debian's PostgreSQL 15 instead of the embedded 18. fsync is off: only `startTestServer` can have it on.
 */
import {spawn} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir, userInfo} from 'node:os'
import {join} from 'node:path'
import pg from 'pg'
import {sleep} from '../../lib/clock.ts'
import {createDb, type Db} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLog} from '../../lib/log.ts'
import {migrateDatabase} from '../../lib/schema-state.ts'
import {type Account, findAccount} from '../../services/supervisor/account.ts'
import {installEmbeddedBinaries, type PostgresBinaries, systemBinaries} from '../../services/supervisor/postgres-binaries.ts'
import {
  initialiseCluster,
  type PostgresServer,
  type ServerPlace,
  socketUrl,
  startServer,
} from '../../services/supervisor/postgres-server.ts'
import {lockState, type StateLock} from '../../services/supervisor/state-lock.ts'

export type TestDatabase = {
  readonly name: string
  readonly url: string
  readonly db: Db
  /** Ends `db` and drops the database, whoever is still connected. */
  drop(): Promise<void>
}

export type TestServer = {
  readonly pid: number
  /** Address of one of its databases. */
  url(database: string): string
  createDatabase(options?: DatabaseOptions): Promise<TestDatabase>
  start(): Promise<void>
  /** As an administrator stops it: connections are broken, everything is written. */
  stop(): Promise<void>
  /** kill -9 of the server; its backends end by themselves, and `start` waits for that. */
  kill(): Promise<void>
  /** Stops it if need be and removes its files. */
  remove(): Promise<void>
}

/** `empty`: without Ingot's schema. */
type DatabaseOptions = {readonly empty?: boolean; readonly maxConnections?: number}

export const testPostgresMajor = process.env.INGOT_TEST_POSTGRES === '15' ? 15 : 18

const TEMPLATE = 'ingot_template'
const log = createLog('test', 'error')

/** A database of the shared server, migrated unless `empty`. Drop it when the file is done. */
export async function createTestDatabase(options: DatabaseOptions = {}): Promise<TestDatabase> {
  return await cloneDatabase(await sharedServer(), options)
}

/** A server of the test's own, for tests that stop or kill it. `remove` it at the end. */
export async function startTestServer(options: {readonly fsync?: boolean} = {}): Promise<TestServer> {
  const root = mkdtempSync(join(tmpdir(), 'ingot-pg-'))
  const place = await makeCluster(root, options.fsync === true ? {} : {fsync: 'off'})
  let server = await startServer(place)
  let running = true
  await makeTemplate(place.socketDir)
  removeAfter(process.pid, root)

  async function end(how: () => Promise<unknown>): Promise<void> {
    if (!running) return
    running = false
    await how()
  }
  return {
    get pid() {
      return server.pid
    },
    url: database => socketUrl(place.socketDir, database),
    createDatabase: databaseOptions => cloneDatabase(place.socketDir, databaseOptions ?? {}),
    async start() {
      server = await startServer(place)
      running = true
    },
    stop: () => end(() => server.stop()),
    kill: () => end(() => killServer(server)),
    async remove() {
      await end(() => server.stop())
      rmSync(root, {recursive: true, force: true})
    },
  }
}

/** The unprivileged user that test servers run as. */
export function testAccount(): Account {
  const uid = process.getuid?.() ?? 0
  if (uid !== 0) return {name: userInfo().username, uid, gid: process.getgid?.() ?? 0}
  const nobody = findAccount('nobody')
  if (!nobody) throw new Error('this system has no user nobody')
  return nobody
}

async function cloneDatabase(socketDir: string, options: DatabaseOptions): Promise<TestDatabase> {
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`
  await administer(socketDir, `CREATE DATABASE ${name} TEMPLATE ${options.empty ? 'template0' : TEMPLATE}`)
  const url = socketUrl(socketDir, name)
  const db = createDb({url, applicationName: 'ingot-test', maxConnections: options.maxConnections ?? 10, log})
  return {
    name,
    url,
    db,
    async drop() {
      await db.destroy()
      await administer(socketDir, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    },
  }
}

/** Finds or starts the run's server; its folder's name carries whose run it is. Returns the folder of its socket. */
async function sharedServer(): Promise<string> {
  const owner = process.env.VITEST === undefined ? process.pid : process.ppid
  const root = join(tmpdir(), `ingot-test-${owner}-${startTicks(owner)}-${testPostgresMajor}`)
  const socketDir = join(root, 'socket')
  const ready = join(root, 'ready')
  if (existsSync(ready)) return socketDir
  mkdirSync(root, {recursive: true, mode: 0o755})
  const lock = await waitForLock(root)
  try {
    if (existsSync(ready)) return socketDir
    removeAfter(owner, root)
    await startServer(await makeCluster(root, {fsync: 'off', full_page_writes: 'off'}))
    await makeTemplate(socketDir)
    writeFileSync(ready, '')
    return socketDir
  } finally {
    lock.release()
  }
}

async function makeCluster(root: string, settings: Record<string, string>): Promise<ServerPlace> {
  const account = testAccount()
  const binaries = await testBinaries()
  chmodSync(root, 0o755)
  const dataDir = join(root, 'data')
  const socketDir = join(root, 'socket')
  await initialiseCluster(binaries, account, dataDir)
  mkdirSync(socketDir, {mode: 0o700})
  chownSync(socketDir, account.uid, account.gid)
  const sized = {max_connections: '200', shared_buffers: '64MB', ...settings}
  return {binaries, account, dataDir, socketDir, logFile: join(root, 'postgres.log'), settings: sized, log}
}

async function makeTemplate(socketDir: string): Promise<void> {
  await administer(socketDir, `CREATE DATABASE ${TEMPLATE}`)
  await migrateDatabase({url: socketUrl(socketDir, TEMPLATE), log})
}

/** The embedded programs are copied once a machine and user, not once a run. */
async function testBinaries(): Promise<PostgresBinaries> {
  if (testPostgresMajor === 15) return systemBinaries('/usr/lib/postgresql/15', 15)
  const uid = process.getuid?.() ?? 0
  const folder = join(tmpdir(), `ingot-test-postgres-${uid}`)
  mkdirSync(folder, {recursive: true, mode: 0o755})
  if (statSync(folder).uid !== uid) throw new Error(`${folder} belongs to somebody else`)
  const lock = await waitForLock(folder)
  try {
    return installEmbeddedBinaries(folder)
  } finally {
    lock.release()
  }
}

async function waitForLock(folder: string): Promise<StateLock> {
  for (;;) {
    try {
      return lockState(folder)
    } catch (error) {
      if (!(error instanceof IngotError) || error.code !== 'DATABASE_LOCKED') throw error
      await sleep(20)
    }
  }
}

async function killServer(server: PostgresServer): Promise<void> {
  process.kill(server.pid, 'SIGKILL')
  await server.exited
}

async function administer(socketDir: string, statement: string): Promise<void> {
  const client = new pg.Client({connectionString: socketUrl(socketDir, 'postgres')})
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

/** A process of its own that outlives us, waits for `owner` to end, stops the server that works in `root` and removes the folder. */
function removeAfter(owner: number, root: string): void {
  const script = `
    started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
    while [ "$(started "$1")" = "$2" ] && [ -d "$3" ]; do sleep 1; done
    pid=$(head -n 1 "$3/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && while kill -0 "$pid"; do sleep 0.1; done
    rm -rf "$3"`
  const words = ['-c', script, 'ingot-test-watch', String(owner), startTicks(owner), root]
  spawn('/bin/sh', words, {detached: true, stdio: 'ignore', cwd: '/'}).unref()
}

/** When a process started, in clock ticks since boot: with the pid, its name for good (proc(5), field 22). */
function startTicks(pid: number): string {
  return (
    readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /, '')
      .split(' ')[19] ?? '0'
  )
}
