/**
 * Logical backups: everything Ingot knows, in one consistent snapshot, as text that any later PostgreSQL takes.
 *
 *   INGOT-BACKUP 1
 *   {"created":…,"migrations":[…],"tables":[{"name":…,"columns":[…]}],"sequences":[…]}     one line of JSON
 *   <table's rows in COPY's text format>                                                    in the order of `tables`
 *   \.                                                                                      ends each table (COPY escapes backslashes)
 *   SHA256 <hex of every byte above>
 *
 * Tables come in an order in which every row finds what it refers to. Left out: the queue (the sweeper makes the tasks of open jobs
 * again), the processes' heartbeats, and columns that hold transaction ids, which mean nothing in another cluster. BMC credentials
 * stay sealed: the sealing key is not in a backup and must be kept beside it.
 */
import {createHash} from 'node:crypto'
import pg from 'pg'
import {z} from 'zod'
import {copyIn, copyOut} from './copy.ts'
import {createClient, createDb, type DbOptions} from './db.ts'
import {IngotError} from './errors.ts'
import {migrate, schemaState} from './schema-state.ts'

type Options = Pick<DbOptions, 'url' | 'log'>

const MAGIC = 'INGOT-BACKUP 1\n'
const END_OF_TABLE = '\\.\n'
const TRAILER = 'SHA256 '
const BATCH_BYTES = 64 * 1024
const BOOKKEEPING = ['kysely_migration', 'kysely_migration_lock', 'workers', 'keyholders']
/** Rows that a migration or a first start puts there, and a restore replaces. */
const SEEDED = ['vrfs', 'boot_keys']

const Header = z.strictObject({
  created: z.iso.datetime(),
  migrations: z.array(z.string()).min(1),
  tables: z.array(z.strictObject({name: z.string(), columns: z.array(z.string()).min(1)})),
  sequences: z.array(z.strictObject({name: z.string(), value: z.string().regex(/^-?\d+$/), called: z.boolean()})),
})
export type BackupHeader = z.infer<typeof Header>
type Table = BackupHeader['tables'][number]

/** The backup's bytes, in pieces. Reads in one REPEATABLE READ transaction, which blocks nobody. */
export async function* readBackup(options: Options): AsyncGenerator<Uint8Array> {
  const client = await connect(options)
  const hash = createHash('sha256')
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const header = await describeDatabase(client)
    for await (const piece of inBatches(content(client, header))) {
      hash.update(piece)
      yield piece
    }
    await client.query('COMMIT')
    yield Buffer.from(`${TRAILER}${hash.digest('hex')}\n`)
  } finally {
    await client.end()
  }
}

/**
 * Loads a backup into a database that is empty: without any schema, or migrated to the backup's level and unused. One transaction:
 * a damaged or cut-off backup leaves nothing behind. A database without schema is brought to this Ingot's level afterwards.
 * @throws IngotError CONFLICT when it holds anything, INVALID_INPUT when the backup is damaged or newer than this Ingot
 */
export async function restoreBackup(
  options: Options,
  source: AsyncIterable<Uint8Array>,
): Promise<{header: BackupHeader; rows: number}> {
  const input = createInput(source)
  const header = await readHeader(input)
  await matchSchema(options, header)
  const client = await connect(options)
  try {
    await client.query('BEGIN')
    await claimEmptyDatabase(client)
    let rows = 0
    for (const table of header.tables) rows += await loadTable(client, table, input)
    await setSequences(client, header.sequences)
    await checkTrailer(input)
    await client.query('COMMIT')
    await matchSchema(options, undefined)
    return {header, rows}
  } finally {
    await client.end()
  }
}

async function connect(options: Options): Promise<pg.Client> {
  const client = createClient({...options, applicationName: 'ingot-backup', statementTimeoutMs: 24 * 3_600_000})
  // A lost connection fails the statement that is under way; the event beside it needs a listener.
  client.on('error', error => options.log.warn({reason: error.message}, 'the backup lost its database connection'))
  await client.connect()
  await client.query('SET idle_in_transaction_session_timeout = 0')
  return client
}

async function describeDatabase(client: pg.Client): Promise<BackupHeader> {
  const migrations = await client.query<{name: string}>('SELECT name FROM kysely_migration ORDER BY name').catch(error => {
    throw new IngotError('DATABASE_OUTDATED', 'the database has no Ingot schema to back up', {cause: error})
  })
  return {
    created: new Date().toISOString(),
    migrations: migrations.rows.map(row => row.name),
    tables: await listTables(client),
    sequences: await listSequences(client),
  }
}

/** Ordinary and partitioned tables (a partition's rows come with its parent), each after those it refers to. */
async function listTables(client: pg.Client): Promise<Table[]> {
  const {rows} = await client.query<{name: string; columns: string[]; refers: string[]}>(
    `SELECT c.relname AS name,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
          AND NOT a.attisdropped AND a.attgenerated = '' AND a.atttypid <> 'xid8'::regtype) AS columns,
       ARRAY(SELECT DISTINCT f.relname::text FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
          WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> k.conrelid) AS refers
     FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> ALL ($1)
     ORDER BY c.relname`,
    [BOOKKEEPING],
  )
  const ordered: Table[] = []
  const waiting = [...rows]
  while (waiting.length > 0) {
    const next = waiting.findIndex(table => table.refers.every(name => ordered.some(done => done.name === name)))
    const [table] = next < 0 ? [] : waiting.splice(next, 1)
    if (!table) throw new Error(`tables refer to each other in a circle: ${waiting.map(({name}) => name).join(', ')}`)
    ordered.push({name: table.name, columns: table.columns})
  }
  return ordered
}

async function listSequences(client: pg.Client): Promise<BackupHeader['sequences']> {
  const {rows} = await client.query<{name: string}>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' ORDER BY relname`,
  )
  const sequences: BackupHeader['sequences'] = []
  for (const {name} of rows) {
    const state = await client.query(`SELECT last_value::text AS value, is_called AS called FROM ${quote(name)}`)
    sequences.push({name, value: state.rows[0]?.value, called: state.rows[0]?.called})
  }
  return sequences
}

async function* content(client: pg.Client, header: BackupHeader): AsyncGenerator<Buffer> {
  yield Buffer.from(`${MAGIC}${JSON.stringify(header)}\n`)
  for (const table of header.tables) {
    yield* copyOut(client, `COPY (SELECT ${table.columns.map(quote).join(', ')} FROM ${quote(table.name)}) TO STDOUT`)
    yield Buffer.from(END_OF_TABLE)
  }
}

/** Lines of the source, each with its newline; the digest is of all lines read before the one just given. */
type Input = {next(): Promise<Buffer | undefined>; digestBefore(): string}

function createInput(source: AsyncIterable<Uint8Array>): Input {
  const lines = splitLines(source)
  const hash = createHash('sha256')
  let last: Buffer | undefined
  return {
    async next() {
      if (last) hash.update(last)
      last = (await lines.next()).value ?? undefined
      return last
    },
    digestBefore: () => hash.copy().digest('hex'),
  }
}

async function* splitLines(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = []
  for await (const chunk of source) {
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    let start = 0
    for (let end = buffer.indexOf(10); end >= 0; end = buffer.indexOf(10, start)) {
      rest.push(buffer.subarray(start, end + 1))
      yield rest.length === 1 && rest[0] ? rest[0] : Buffer.concat(rest)
      rest = []
      start = end + 1
    }
    // Kept past this turn, so it must not share memory that the source may write to again.
    if (start < buffer.length) rest.push(Buffer.from(buffer.subarray(start)))
  }
  if (rest.length > 0) yield Buffer.concat(rest)
}

async function readHeader(input: Input): Promise<BackupHeader> {
  const magic = await input.next()
  if (magic?.toString('latin1') !== MAGIC) throw damaged('it does not begin as an Ingot backup of version 1')
  const line = await input.next()
  try {
    return Header.parse(JSON.parse(line?.toString('utf8') ?? ''))
  } catch (error) {
    throw damaged('its header cannot be read', error)
  }
}

/** Brings an empty database to the backup's level, or with no header one that was just loaded to ours. */
async function matchSchema(options: Options, header: BackupHeader | undefined): Promise<void> {
  const db = createDb({...options, applicationName: 'ingot-restore', statementTimeoutMs: 24 * 3_600_000})
  try {
    const {state, applied, pending} = await schemaState(db)
    if (!header) return void (await migrate(db))
    const level = header.migrations.at(-1)
    if (state === 'empty') {
      if (level === undefined || !pending.includes(level)) {
        throw new IngotError('INVALID_INPUT', `the backup's schema ${level} is unknown to this Ingot`, {
          mend: 'Restore it with the Ingot that made it.',
        })
      }
      await migrate(db, level)
    } else if (applied.join() !== header.migrations.join()) {
      throw new IngotError('CONFLICT', `the database is at ${applied.at(-1)}, the backup at ${level}`, {
        mend: 'Restore into a database that was just created and not migrated: the restore migrates it.',
      })
    }
  } finally {
    await db.destroy()
  }
}

/** Locks every table against writers, refuses if any has rows, and clears what a migration puts there. */
async function claimEmptyDatabase(client: pg.Client): Promise<void> {
  const tables = await listTables(client)
  await client.query(`LOCK TABLE ${tables.map(({name}) => quote(name)).join(', ')} IN SHARE ROW EXCLUSIVE MODE`)
  for (const {name} of tables) {
    if (SEEDED.includes(name)) continue
    const {rowCount} = await client.query(`SELECT 1 FROM ${quote(name)} LIMIT 1`)
    if (rowCount !== 0) {
      throw new IngotError('CONFLICT', `the database is not empty: there are rows in ${name}`, {
        mend: 'Restore into a new database.',
      })
    }
  }
  for (const name of SEEDED.filter(seeded => tables.some(table => table.name === seeded)))
    await client.query(`DELETE FROM ${quote(name)}`)
}

async function loadTable(client: pg.Client, table: Table, input: Input): Promise<number> {
  const statement = `COPY ${quote(table.name)} (${table.columns.map(quote).join(', ')}) FROM STDIN`
  return await copyIn(client, statement, inBatches(rowsUpToEnd(table, input)))
}

async function* rowsUpToEnd(table: Table, input: Input): AsyncGenerator<Buffer> {
  for (;;) {
    const line = await input.next()
    if (!line) throw damaged(`it ends within the table ${table.name}`)
    if (line.length === END_OF_TABLE.length && line.toString('latin1') === END_OF_TABLE) return
    yield line
  }
}

async function setSequences(client: pg.Client, sequences: BackupHeader['sequences']): Promise<void> {
  for (const {name, value, called} of sequences)
    await client.query('SELECT setval($1::regclass, $2, $3)', [quote(name), value, called])
}

async function checkTrailer(input: Input): Promise<void> {
  const line = await input.next()
  if (line?.toString('latin1') !== `${TRAILER}${input.digestBefore()}\n`)
    throw damaged('its digest does not match, or it was cut off')
  if (await input.next()) throw damaged('something follows its digest')
}

async function* inBatches(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let batch: Buffer[] = []
  let bytes = 0
  for await (const piece of source) {
    batch.push(piece)
    bytes += piece.length
    if (bytes < BATCH_BYTES) continue
    yield Buffer.concat(batch)
    batch = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(batch)
}

function damaged(how: string, cause?: unknown): IngotError {
  const extras = {mend: 'Use another backup; nothing was restored from this one.'}
  return new IngotError('INVALID_INPUT', `the backup is damaged: ${how}`, cause === undefined ? extras : {...extras, cause})
}

function quote(name: string): string {
  return pg.escapeIdentifier(name)
}
