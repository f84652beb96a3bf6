/** lib/db.ts and lib/schema-state.ts against a real server: types, losing the database and finding it again, migrations. */
import {spawn} from 'node:child_process'
import {chownSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {connect as connectSocket, createServer} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {sql} from 'kysely'
import pg from 'pg'
import {afterAll, afterEach, beforeAll, describe, expect, it} from 'vitest'
import {createDb, createPool, type Db, isAway, sqlState, withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {MIGRATIONS} from '../../lib/migrations/registry.ts'
import {checkDatabase, migrate, migrateDatabase, requireCurrentSchema, schemaState} from '../../lib/schema-state.ts'
import {
  createTestDatabase,
  startTestServer,
  type TestDatabase,
  type TestServer,
  testAccount,
  testPostgresMajor,
} from '../support/database.ts'
import {eventually, startScript} from '../support/processes.ts'

const cleanups: (() => Promise<unknown> | unknown)[] = []
let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

afterAll(() => database.drop())

describe('values', () => {
  it('are numbers where a double is exact, and text where it is not or where the type is an address', async () => {
    const {rows} = await sql<Record<string, unknown>>`SELECT 9007199254740991::int8 AS safe, 9007199254740993::int8 AS unsafe,
      sum(x)::numeric AS total, ARRAY[1, NULL, 2]::int8[] AS list, '{}'::int8[] AS none, '10.0.0.1'::inet AS address, '10.0.0.0/8'::cidr AS network,
      '52:54:00:00:00:01'::macaddr AS mac, ARRAY['10.0.0.1'::inet] AS addresses, '2024-02-29T12:00:00Z'::timestamptz AS at
      FROM generate_series(1, 3) AS x`.execute(database.db)
    expect(rows[0]).toEqual({
      safe: 9007199254740991,
      unsafe: '9007199254740993',
      total: 6,
      list: [1, null, 2],
      none: [],
      address: '10.0.0.1',
      network: '10.0.0.0/8',
      mac: '52:54:00:00:00:01',
      addresses: ['10.0.0.1'],
      at: new Date('2024-02-29T12:00:00Z'),
    })
  })

  it('come from the server that this run is meant for', async () => {
    const {rows} = await sql<{number: string}>`SELECT current_setting('server_version_num') AS number`.execute(database.db)
    expect(Math.floor(Number(rows[0]?.number) / 10_000)).toBe(testPostgresMajor)
  })
})

describe('a transaction', () => {
  it('is repeated after a deadlock, and both sides get through', async () => {
    await sql`CREATE TABLE pairs (id integer PRIMARY KEY, n integer NOT NULL)`.execute(database.db)
    await sql`INSERT INTO pairs VALUES (1, 0), (2, 0)`.execute(database.db)
    let tries = 0
    const meet = createMeeting(2)
    const cross = (first: number, second: number) =>
      withTx(database.db, async tx => {
        tries++
        await sql`UPDATE pairs SET n = n + 1 WHERE id = ${first}`.execute(tx)
        await meet()
        await sql`UPDATE pairs SET n = n + 1 WHERE id = ${second}`.execute(tx)
      })
    await Promise.all([cross(1, 2), cross(2, 1)])
    expect(tries).toBe(3)
    const {rows} = await sql`SELECT n FROM pairs`.execute(database.db)
    expect(rows).toEqual([{n: 2}, {n: 2}])
  })

  it('is repeated when it could not be serialized', async () => {
    await sql`CREATE TABLE tallies (n integer NOT NULL)`.execute(database.db)
    await sql`INSERT INTO tallies VALUES (0)`.execute(database.db)
    const meet = createMeeting(2)
    const add = () =>
      withTx(
        database.db,
        async tx => {
          const {rows} = await sql<{n: number}>`SELECT n FROM tallies`.execute(tx)
          await meet()
          await sql`UPDATE tallies SET n = ${(rows[0]?.n ?? 0) + 1}`.execute(tx)
        },
        'repeatable read',
      )
    await Promise.all([add(), add()])
    const {rows} = await sql`SELECT n FROM tallies`.execute(database.db)
    expect(rows).toEqual([{n: 2}])
  })

  it('fails at once, and once, for any other reason', async () => {
    let tries = 0
    const failing = withTx(database.db, async tx => {
      tries++
      await sql`SELECT 1 / 0`.execute(tx)
    })
    const error = await failing.catch(thrown => thrown)
    expect(sqlState(error)).toBe('22012')
    expect(isAway(error)).toBe(false)
    expect(tries).toBe(1)
  })
})

describe('a database that goes away', () => {
  let server: TestServer

  beforeAll(async () => {
    server = await startTestServer()
  })

  afterAll(() => server.remove())

  it('F2 is told as DATABASE_AWAY to the query under way, to new ones, and is found again by the same pool', async () => {
    const {db, name} = await server.createDatabase()
    cleanups.push(() => db.destroy())
    const underWay = sql`SELECT pg_sleep(600)`.execute(db).catch(error => error)
    await eventually('the query under way', async () =>
      (await activity(server.url('postgres'), name)).some(query => query.includes('pg_sleep')),
    )
    const inTransaction = withTx(db, async tx => {
      await sql`SELECT 1`.execute(tx)
      await server.stop()
      await sql`SELECT 1`.execute(tx)
    }).catch(error => error)
    expect(isAway(await underWay)).toBe(true)
    expect(isAway(await inTransaction)).toBe(true)
    const refused = await sql`SELECT 1`.execute(db).catch(error => error)
    expect(refused).toBeInstanceOf(IngotError)
    expect(refused.code).toBe('DATABASE_AWAY')
    await server.start()
    const {rows} = await sql`SELECT 1 AS one`.execute(db)
    expect(rows).toEqual([{one: 1}])
  })

  it('F2 is told as DATABASE_AWAY when it was killed', async () => {
    const {db} = await server.createDatabase()
    cleanups.push(() => db.destroy())
    const underWay = sql`SELECT pg_sleep(600)`.execute(db).catch(error => error)
    await sql`SELECT 1`.execute(db)
    await server.kill()
    expect(isAway(await underWay)).toBe(true)
    // A backend may serve its idle connection for a moment longer than its server lives.
    await eventually('the loss', async () => isAway(await sql`SELECT 1`.execute(db).catch(error => error)))
    await server.start()
    await sql`SELECT 1`.execute(db)
  })

  it('is not waited for without end when the network is cut in silence', async () => {
    const {name} = await server.createDatabase()
    const proxy = await startProxy(server, name)
    cleanups.push(() => proxy.close())
    const db = createDb({url: proxy.url, applicationName: 'cut', statementTimeoutMs: 500, maxConnections: 4, log: silentLog})
    cleanups.push(() => db.destroy())
    await sql`SELECT 1`.execute(db)
    proxy.cut()
    const error = await sql`SELECT 1`.execute(db).catch(thrown => thrown)
    expect(error.code).toBe('DATABASE_AWAY')
    proxy.mend()
    await sql`SELECT 1`.execute(db)
  })

  it('is not what a wrong name or a slow statement looks like', async () => {
    const missing = createDb({url: server.url('nowhere'), applicationName: 'test', log: silentLog})
    const hurried = createDb({url: server.url('postgres'), applicationName: 'test', statementTimeoutMs: 50, log: silentLog})
    cleanups.push(() => Promise.all([missing.destroy(), hurried.destroy()]))
    const noDatabase = await sql`SELECT 1`.execute(missing).catch(error => error)
    expect([sqlState(noDatabase), isAway(noDatabase)]).toEqual(['3D000', false])
    const cancelled = await sql`SELECT pg_sleep(5)`.execute(hurried).catch(error => error)
    expect([sqlState(cancelled), isAway(cancelled)]).toEqual(['57014', false])
  })
})

describe('the check at start', () => {
  it('accepts a direct connection', async () => {
    await checkDatabase(database.db)
  })

  it('refuses an encoding other than UTF-8', async () => {
    const admin = createPool({url: database.url, applicationName: 'test', log: silentLog})
    cleanups.push(() => admin.end())
    const name = `${database.name}_latin`
    await admin.query(`CREATE DATABASE ${name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
    const db = createDb({url: database.url.replace(database.name, name), applicationName: 'test', log: silentLog})
    const refusal = await checkDatabase(db).catch(error => error)
    await db.destroy()
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
    expect(refusal.code).toBe('DATABASE_UNSUITABLE')
  })

  for (const [mode, pools] of [
    ['transaction', {}],
    ['transaction', {server_round_robin: '1'}],
    ['statement', {}],
  ] as const) {
    it(`refuses PgBouncer with pool_mode = ${mode}${'server_round_robin' in pools ? ' that takes turns' : ''}`, async () => {
      const db = await behindPgBouncer(mode, pools)
      const refusal = await checkDatabase(db).catch(error => error)
      // Statement mode does not even allow a transaction, and says so itself.
      if (mode === 'statement') return expect(refusal).toBeInstanceOf(Error)
      expect(refusal.code).toBe('DATABASE_UNSUITABLE')
      expect(refusal.detail).toContain('transaction mode')
    })
  }

  it('refuses PgBouncer as it is installed, which refuses our timeouts, instead of waiting for it', async () => {
    const refusal = await checkDatabase(await behindPgBouncer('session', {ignore_startup_parameters: ''})).catch(error => error)
    expect(refusal.code).toBe('DATABASE_UNSUITABLE')
    expect(isAway(refusal)).toBe(false)
  })

  it('accepts PgBouncer with pool_mode = session', async () => {
    await checkDatabase(await behindPgBouncer('session', {}))
  })
})

describe('migrations', () => {
  it('bring an empty database to the present level, once', async () => {
    const empty = await emptyDatabase()
    expect((await schemaState(empty.db)).state).toBe('empty')
    await expect(requireCurrentSchema(empty.db)).rejects.toMatchObject({code: 'DATABASE_OUTDATED'})
    expect(await migrateDatabase({url: empty.url, log: silentLog})).toEqual(Object.keys(MIGRATIONS))
    expect(await migrateDatabase({url: empty.url, log: silentLog})).toEqual([])
    expect(await schemaState(empty.db)).toEqual({state: 'current', applied: Object.keys(MIGRATIONS), pending: []})
    await requireCurrentSchema(empty.db)
    const {rows} = await sql`SELECT to_regclass('graphile_worker._private_jobs') IS NOT NULL AS queue`.execute(empty.db)
    expect(rows).toEqual([{queue: true}])
  })

  it('that this Ingot does not know are taken for those of a newer one', async () => {
    const empty = await emptyDatabase()
    await migrate(empty.db)
    await sql`INSERT INTO kysely_migration VALUES ('9999-from-the-future', 'now')`.execute(empty.db)
    expect((await schemaState(empty.db)).state).toBe('newer')
    await expect(requireCurrentSchema(empty.db)).rejects.toMatchObject({mend: expect.stringContaining('newer Ingot')})
  })

  it('can be run by two at once', async () => {
    const empty = await emptyDatabase()
    const applied = await Promise.all([1, 2].map(() => migrateDatabase({url: empty.url, log: silentLog})))
    expect(applied.map(names => names.length).sort()).toEqual([0, Object.keys(MIGRATIONS).length].sort())
    expect((await schemaState(empty.db)).state).toBe('current')
  })

  it('F20 killed in the middle leave the old schema, and go through afterwards', async () => {
    const empty = await emptyDatabase()
    const blocker = new pg.Client({connectionString: empty.url})
    await blocker.connect()
    await blocker.query('BEGIN')
    // The fourth migration waits for this uncommitted table of the same name.
    await blocker.query('CREATE TABLE jobs ()')
    const script = new URL('../support/run-migrate.ts', import.meta.url).pathname
    const migrating = startScript(script, [empty.url])
    await eventually('the migration waiting', async () => {
      const queries = await activity(empty.url, empty.name)
      return queries.some(query => /CREATE TABLE jobs \(\s+id/.test(query))
    })
    await migrating.kill()
    await blocker.query('ROLLBACK')
    await blocker.end()
    await eventually('the end of its session', async () =>
      (await activity(empty.url, empty.name)).every(query => !query.includes('CREATE TABLE')),
    )
    expect((await schemaState(empty.db)).state).toBe('empty')
    const {rows} = await sql`SELECT to_regclass('vrfs') AS vrfs`.execute(empty.db)
    expect(rows).toEqual([{vrfs: null}])
    await migrateDatabase({url: empty.url, log: silentLog})
    expect((await schemaState(empty.db)).state).toBe('current')
  })
})

async function emptyDatabase(): Promise<TestDatabase> {
  const empty = await createTestDatabase({empty: true})
  cleanups.push(() => empty.drop())
  return empty
}

/** Resolves for everybody once `count` have come, and at once afterwards. */
function createMeeting(count: number): () => Promise<void> {
  const all = Promise.withResolvers<void>()
  let come = 0
  return () => {
    if (++come >= count) all.resolve()
    return all.promise
  }
}

async function activity(url: string, name: string): Promise<string[]> {
  const client = new pg.Client({connectionString: url})
  await client.connect()
  try {
    const {rows} = await client.query(
      `SELECT query FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND state <> 'idle'`,
      [name],
    )
    return rows.map(row => String(row.query))
  } finally {
    await client.end()
  }
}

/** A stretch of network between a client and the server that can swallow everything without a word. */
async function startProxy(server: TestServer, name: string): Promise<{url: string; cut(): void; mend(): void; close(): void}> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-proxy-'))
  const target = new URL(server.url(name).replace('@/', '@x/')).searchParams.get('host') ?? ''
  let silent = false
  const listener = createServer(near => {
    const far = connectSocket(join(target, '.s.PGSQL.5432'))
    near.on('data', chunk => silent || far.write(chunk))
    far.on('data', chunk => silent || near.write(chunk))
    near.on('error', () => far.destroy()).on('close', () => far.destroy())
    far.on('error', () => near.destroy()).on('close', () => silent || near.destroy())
  })
  await new Promise<void>(resolve => listener.listen(join(folder, '.s.PGSQL.5432'), resolve))
  return {
    url: `postgresql://ingot@/${name}?host=${encodeURIComponent(folder)}`,
    cut: () => {
      silent = true
    },
    mend: () => {
      silent = false
    },
    close: () => {
      listener.close()
      rmSync(folder, {recursive: true, force: true})
    },
  }
}

/** The test database, reached through a real PgBouncer that keeps several server connections. */
async function behindPgBouncer(mode: string, settings: Record<string, string>): Promise<Db> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-pgb-'))
  const account = testAccount()
  const host = new URL(database.url.replace('@/', '@x/')).searchParams.get('host')
  const lines = {
    unix_socket_dir: folder,
    listen_port: '6432',
    auth_type: 'any',
    pool_mode: mode,
    default_pool_size: '4',
    min_pool_size: '3',
    ignore_startup_parameters: 'statement_timeout,idle_in_transaction_session_timeout',
    logfile: join(folder, 'log'),
    ...settings,
  }
  const text = Object.entries(lines).map(([key, value]) => `${key} = ${value}\n`)
  writeFileSync(join(folder, 'ini'), `[databases]\n${database.name} = host=${host} user=ingot\n[pgbouncer]\n${text.join('')}`)
  chownSync(folder, account.uid, account.gid)
  const identity = process.getuid?.() === 0 ? {uid: account.uid, gid: account.gid} : {}
  const bouncer = spawn('pgbouncer', [join(folder, 'ini')], {...identity, stdio: 'ignore'})
  const ended = new Promise(resolve => bouncer.once('close', resolve))
  const url = `postgresql://ingot@/${database.name}?host=${encodeURIComponent(folder)}&port=6432`
  const db = createDb({url, applicationName: 'test', log: silentLog})
  cleanups.push(async () => {
    await db.destroy()
    bouncer.kill('SIGKILL')
    await ended
    rmSync(folder, {recursive: true, force: true})
  })
  await eventually('PgBouncer answering', async () => {
    const error = await sql`SELECT 1`.execute(db).catch(thrown => thrown)
    return !isAway(error)
  })
  return db
}
