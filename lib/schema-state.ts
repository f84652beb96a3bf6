/** Whether a PostgreSQL is fit for Ingot, and which migrations it has: checked at every start, changed only by `migrate`. */
import {Logger, runMigrations} from 'graphile-worker'
import {sql} from 'kysely'
import {Migrator} from 'kysely/migration'
import {createDb, createPool, type Db, type DbOptions} from './db.ts'
import {IngotError} from './errors.ts'
import type {Log} from './log.ts'
import {MIGRATIONS} from './migrations/registry.ts'

export type SchemaState = {
  readonly state: 'empty' | 'outdated' | 'current' | 'newer'
  /** Names in the database, in order. */
  readonly applied: readonly string[]
  /** Names this Ingot has and the database has not. */
  readonly pending: readonly string[]
}

const LEAST_VERSION = 150_000

/**
 * @throws IngotError DATABASE_UNSUITABLE for a PostgreSQL before 15, one that is not UTF-8, or a pooler in transaction mode
 */
export async function checkDatabase(db: Db): Promise<void> {
  const {rows} = await sql<{version: string; number: string; encoding: string}>`
    SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number,
      current_setting('server_encoding') AS encoding`.execute(db)
  const server = rows[0]
  if (!server || Number(server.number) < LEAST_VERSION) {
    throw new IngotError('DATABASE_UNSUITABLE', `PostgreSQL ${server?.version} is older than 15`)
  }
  if (server.encoding !== 'UTF8')
    throw new IngotError('DATABASE_UNSUITABLE', `the database's encoding is ${server.encoding}, not UTF8`)
  if (await sharesSessions(db)) {
    throw new IngotError('DATABASE_UNSUITABLE', 'a pooler in transaction mode stands before PostgreSQL', {
      mend: 'Connect to PostgreSQL directly, or set PgBouncer to pool_mode = session: Ingot uses LISTEN and session locks.',
    })
  }
}

/** Brings a database to this Ingot's level: the queue's own schema, then ours. Returns the names applied of ours. */
export async function migrateDatabase(options: Pick<DbOptions, 'url' | 'log'>): Promise<readonly string[]> {
  const unhurried = {...options, applicationName: 'ingot-migrate', statementTimeoutMs: 6 * 3_600_000}
  const pool = createPool(unhurried)
  const db = createDb(unhurried)
  try {
    await runMigrations({pgPool: pool, logger: queueLogger(options.log)})
    return await migrate(db)
  } finally {
    await db.destroy()
    await pool.end()
  }
}

/** Applies what is missing, all of it in one transaction: killed half-way, the old schema stands. Returns the names applied. */
export async function migrate(db: Db, target?: string): Promise<readonly string[]> {
  const migrator = new Migrator({db, provider: {getMigrations: async () => MIGRATIONS}})
  const {error, results} = await (target === undefined ? migrator.migrateToLatest() : migrator.migrateTo(target))
  if (error !== undefined) throw error
  return (results ?? []).map(result => result.migrationName)
}

export async function schemaState(db: Db): Promise<SchemaState> {
  const applied = await appliedMigrations(db)
  const known = Object.keys(MIGRATIONS)
  const pending = known.filter(name => !applied.includes(name))
  const state = applied.some(name => !known.includes(name))
    ? 'newer'
    : pending.length === 0
      ? 'current'
      : applied.length === 0
        ? 'empty'
        : 'outdated'
  return {state, applied, pending}
}

/** @throws IngotError DATABASE_OUTDATED unless the schema is exactly this Ingot's */
export async function requireCurrentSchema(db: Db): Promise<void> {
  const schema = await schemaState(db)
  if (schema.state === 'current') return
  if (schema.state === 'newer') {
    throw new IngotError('DATABASE_OUTDATED', `the database was migrated by a newer Ingot, to ${schema.applied.at(-1)}`, {
      mend: 'Start the newer Ingot, or restore a backup made before the upgrade.',
    })
  }
  throw new IngotError('DATABASE_OUTDATED', `${schema.pending.length} migrations are missing, the first is ${schema.pending[0]}`)
}

function queueLogger(log: Log): Logger {
  return new Logger(() => (level, message) => (level === 'error' ? log.error(message) : log.debug(message)))
}

async function appliedMigrations(db: Db): Promise<string[]> {
  const {rows: tables} = await sql<{name: string | null}>`SELECT to_regclass('kysely_migration')::text AS name`.execute(db)
  if (!tables[0]?.name) return []
  const {rows} = await sql<{name: string}>`SELECT name FROM kysely_migration ORDER BY name`.execute(db)
  return rows.map(row => row.name)
}

const HOLDERS = 3

/**
 * Directly connected, two open connections never have one backend. A pooler in transaction mode lends the backend that the first
 * connection used a moment ago to the next one that begins a transaction; each of HOLDERS keeps its transaction open meanwhile, so
 * that a pooler which takes turns runs out of other backends.
 */
async function sharesSessions(db: Db): Promise<boolean> {
  return await db.connection().execute(async first => {
    const own = await backendPid(first)
    return await holdTransactions(db, own, HOLDERS)
  })
}

async function holdTransactions(db: Db, own: number, depth: number): Promise<boolean> {
  if (depth === 0) return false
  return await db
    .transaction()
    .execute(async tx => (await backendPid(tx)) === own || (await holdTransactions(db, own, depth - 1)))
}

async function backendPid(db: Db): Promise<number> {
  const {rows} = await sql<{pid: number}>`SELECT pg_backend_pid() AS pid`.execute(db)
  return rows[0]?.pid ?? 0
}
