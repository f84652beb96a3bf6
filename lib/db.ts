/**
 * The way to PostgreSQL: a bounded pool under Kysely. A database that is away is told apart from one that refuses: every loss of
 * connection surfaces as DATABASE_AWAY, so callers compare a code and never a message.
 */
import {type IsolationLevel, Kysely, PostgresDialect, type RawBuilder, sql, type Transaction} from 'kysely'
import pg from 'pg'
import {type Boundary, boundConnection} from './boundary.ts'
import {IngotError, messageOf} from './errors.ts'
import type {Log} from './log.ts'
import type {Database} from './schema.ts'
import {Secret} from './secret.ts'

export type Db = Kysely<Database>
export type Tx = Transaction<Database>

export type DbOptions = {
  /** `postgresql://…`; for a Unix socket `postgresql://user@/database?host=/folder`. */
  readonly url: string | Secret
  /** Shown by `pg_stat_activity`: `ingot-dhcpd`. */
  readonly applicationName: string
  readonly maxConnections?: number
  /** The server cancels a statement after this long; the client gives the connection up a little later. */
  readonly statementTimeoutMs?: number
  /** For a process that looks rows up all the time: an index is used even before a growing table has statistics. */
  readonly prefersIndexes?: boolean
  readonly log: Log
  /** Stands around every commit and lone write; for tests. */
  readonly boundary?: Boundary | undefined
}

const CONNECT_TIMEOUT_MS = 2_000
const STATEMENT_TIMEOUT_MS = 30_000
const SILENCE_MS = 2_000
const TX_TRIES = 4
/** As many as `checkDatabase` holds at once. */
const LEAST_CONNECTIONS = 4

export function createDb(options: DbOptions): Db {
  const pool = createPool(options)
  return new Kysely<Database>({
    dialect: new PostgresDialect({
      pool: {connect: () => connectFrom(pool), end: () => pool.end(), options: pool.options},
    }),
  })
}

/** The pool alone, for those who speak to `pg` directly (the queue, COPY). Whoever makes it ends it. */
export function createPool(options: DbOptions): pg.Pool {
  const limitMs = (options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS) + SILENCE_MS
  const max = Math.max(options.maxConnections ?? 10, LEAST_CONNECTIONS)
  const pool = new pg.Pool({...clientConfig(options), max})
  pool.on('connect', client => {
    watchClient(client, limitMs, options.log)
    if (options.boundary) boundConnection(client, options.boundary)
  })
  // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
  pool.on('error', error => options.log.warn({reason: messageOf(error)}, 'an idle database connection was lost'))
  return pool
}

/** One connection outside any pool, for LISTEN. It is not connected yet. */
export function createClient(options: DbOptions): pg.Client {
  return new pg.Client(clientConfig(options))
}

/**
 * Runs `work` in a transaction, again when PostgreSQL says that only a repetition is needed (serialization failure, deadlock).
 * `work` must therefore have no effect outside the transaction.
 */
export async function withTx<T>(db: Db, work: (tx: Tx) => Promise<T>, isolation?: IsolationLevel): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      const builder = isolation === undefined ? db.transaction() : db.transaction().setIsolationLevel(isolation)
      return await builder.execute(work)
    } catch (error) {
      if (tries >= TX_TRIES || !REPEATABLE.has(sqlState(error) ?? '')) throw error
    }
  }
}

/**
 * Begins a statement that its connection plans once and then knows by name: worth it for one that runs a thousand times a second. Its
 * text must not depend on its values.
 */
export function prepared(name: string): RawBuilder<unknown> {
  return sql.raw(`${PREPARED}${name} */`)
}

const PREPARED = '/* prepared: '

/** serialization_failure, deadlock_detected */
const REPEATABLE = new Set(['40001', '40P01'])

/** Whether the database is away for now (lost, restarting, promoted elsewhere): wait and try again, nothing is wrong with the query. */
export function isAway(error: unknown): boolean {
  if (error instanceof IngotError) return error.code === 'DATABASE_AWAY'
  const state = sqlState(error)
  if (state !== undefined) return (state.startsWith('08') && state !== PROTOCOL_VIOLATION) || AWAY_STATES.has(state)
  return error instanceof Error && 'code' in error && AWAY_ERRNOS.has(String(error.code))
}

/** The five characters by which PostgreSQL names an error; undefined when it did not come from the server. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/** What PgBouncer says to a startup parameter that it was not told to let pass. */
const PROTOCOL_VIOLATION = '08P01'
/** admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections, read_only_sql_transaction (a standby answered) */
const AWAY_STATES = new Set(['57P01', '57P02', '57P03', '53300', '25006'])
const AWAY_ERRNOS = new Set(
  'ECONNREFUSED ECONNRESET ENOENT EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN'.split(' '),
)

function clientConfig(options: DbOptions): pg.ClientConfig {
  return {
    connectionString: options.url instanceof Secret ? options.url.reveal() : options.url,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    types: {getTypeParser: typeParser},
    ...(options.prefersIndexes ? {options: '-c enable_seqscan=off'} : {}),
  }
}

async function connectFrom(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect()
  } catch (error) {
    if (sqlState(error) === PROTOCOL_VIOLATION) {
      const mend = 'Connect to PostgreSQL directly; a pooler in session mode must let statement_timeout pass.'
      throw new IngotError('DATABASE_UNSUITABLE', messageOf(error), {mend, cause: error})
    }
    // What the server itself refused (password, missing database) keeps its own code.
    if (sqlState(error) !== undefined && !isAway(error)) throw error
    throw new IngotError('DATABASE_AWAY', messageOf(error), {cause: error})
  }
}

/**
 * Gives a client's queries an end. When a network is cut no packet says so and the server's own timeout cannot reach us; so a query
 * that outlives it by SILENCE_MS takes its connection with it, and the pool forgets it.
 *
 * The pool listens for errors only while a client is idle. One that is lost in use fails its query *and* emits, which must end
 * nobody; from then on whatever it says without an SQLSTATE means that the database is away.
 */
function watchClient(client: pg.PoolClient, limitMs: number, log: Log): void {
  let lost = false
  client.on('error', error => {
    lost = true
    log.debug({reason: messageOf(error)}, 'a database connection was lost')
  })
  const query = client.query.bind(client) as (...parameters: unknown[]) => unknown
  const socket = socketOf(client)

  async function bounded(result: Promise<unknown>): Promise<unknown> {
    const timer = setTimeout(() => socket.destroy(), limitMs)
    try {
      return await result
    } catch (error) {
      if (sqlState(error) !== undefined || !(lost || socket.destroyed)) throw error
      throw new IngotError('DATABASE_AWAY', messageOf(error), {cause: error})
    } finally {
      clearTimeout(timer)
    }
  }
  Object.assign(client, {
    query(...parameters: unknown[]): unknown {
      const result = query(...named(parameters))
      return result instanceof Promise ? bounded(result) : result
    },
  })
}

function named(parameters: readonly unknown[]): readonly unknown[] {
  const [text, values, ...rest] = parameters
  if (typeof text !== 'string' || !text.trimStart().startsWith(PREPARED)) return parameters
  const from = text.indexOf(PREPARED) + PREPARED.length
  return [{name: text.slice(from, text.indexOf(' */', from)), text, values}, ...rest]
}

/** pg's types leave the connection out; destroying its stream is the one way to give up a query that nobody will answer. */
function socketOf(client: pg.PoolClient): {destroyed: boolean; destroy(): void} {
  return (client as unknown as {connection: {stream: {destroyed: boolean; destroy(): void}}}).connection.stream
}

const INT8 = 20
const NUMERIC = 1700
const INT8_ARRAY = 1016

/**
 * int8 → number while a double holds it exactly, else its text; numeric → number (only sums and averages are numeric here).
 * inet, cidr and macaddr, and their arrays, stay text, which is pg's own way.
 */
function typeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  if (format !== 'binary' && oid === INT8) return parseInt8
  if (format !== 'binary' && oid === NUMERIC) return Number
  if (format !== 'binary' && oid === INT8_ARRAY) return parseInt8Array
  return pg.types.getTypeParser(oid, format as 'text')
}

/** `{1,2,NULL}`, one dimension: numbers are never quoted. */
function parseInt8Array(text: string): (number | string | null)[] {
  if (text === '{}') return []
  return text
    .slice(1, -1)
    .split(',')
    .map(entry => (entry === 'NULL' ? null : parseInt8(entry)))
}

function parseInt8(text: string): number | string {
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : text
}
