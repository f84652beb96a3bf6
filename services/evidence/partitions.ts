/**
 * The days of `evidence` and `events`. Rows of a day without a partition of its own go to the default one; a day is split off with
 * whatever it holds already, or PostgreSQL would refuse the new partition for ever.
 *
 * Writers wait at the parent while a day is split off. One that waited at the default partition instead would already have chosen it
 * for its row, find on waking that the row belongs elsewhere now, and fail (23514). Readers pass the parent, so one that writes next
 * could hold what we want and want what we hold: we give up first, long before PostgreSQL looks for deadlocks, and try again.
 */
import {setTimeout as sleep} from 'node:timers/promises'
import {type Kysely, sql} from 'kysely'
import {sqlState} from '../../lib/db.ts'
import type {Database} from '../../lib/schema.ts'

const PARTITIONED = ['evidence', 'events'] as const
const DAY_MS = 86_400_000
/** Half of PostgreSQL's deadlock_timeout: whoever waits for us never becomes the victim. */
const LOCK_TIMEOUT_MS = 500
const LOCK_TRIES = 20
const LOCK_NOT_AVAILABLE = '55P03'

/** Makes the partitions of a day. Whoever else is doing so is waited for. */
export async function createPartitions(db: Kysely<Database>, day: Date): Promise<void> {
  const name = day.toISOString().slice(0, 10)
  const from = `${name} 00:00:00+00`
  const to = `${new Date(Date.parse(name) + DAY_MS).toISOString().slice(0, 10)} 00:00:00+00`
  for (const table of PARTITIONED) {
    const partition = `${table}_${name.replaceAll('-', '')}`
    await untilLocked(() => splitOff(db, table, partition, from, to))
  }
}

function splitOff(db: Kysely<Database>, table: string, partition: string, from: string, to: string): Promise<void> {
  return db.transaction().execute(async tx => {
    await sql`SELECT pg_advisory_xact_lock(hashtextextended('ingot partitions', 0))`.execute(tx)
    const {rows} = await sql<{there: boolean}>`SELECT to_regclass(${partition}) IS NOT NULL AS there`.execute(tx)
    if (rows[0]?.there) return
    const [part, rest, parent] = [sql.table(partition), sql.table(`${table}_default`), sql.table(table)]
    await sql`CREATE TABLE ${part} (LIKE ${parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`.execute(tx)
    await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT_MS)}`.execute(tx)
    await sql`LOCK TABLE ONLY ${parent} IN SHARE ROW EXCLUSIVE MODE`.execute(tx)
    await sql`LOCK TABLE ${rest} IN ACCESS EXCLUSIVE MODE`.execute(tx)
    await sql`WITH moved AS (DELETE FROM ${rest} WHERE at >= ${from}::timestamptz AND at < ${to}::timestamptz RETURNING *)
      INSERT INTO ${part} SELECT * FROM moved`.execute(tx)
    await sql`ALTER TABLE ${parent} ATTACH PARTITION ${part} FOR VALUES FROM (${sql.lit(from)}) TO (${sql.lit(to)})`.execute(tx)
  })
}

async function untilLocked(work: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await work()
    } catch (error) {
      if (tries >= LOCK_TRIES || sqlState(error) !== LOCK_NOT_AVAILABLE) throw error
      await sleep(LOCK_TIMEOUT_MS * Math.random())
    }
  }
}

/** Drops the partitions of days before `oldest`, and what lies before it in the default ones. @returns names dropped */
export async function dropPartitionsBefore(db: Kysely<Database>, oldest: Date): Promise<string[]> {
  const day = oldest.toISOString().slice(0, 10)
  const {rows} = await sql<{name: string}>`SELECT child.relname AS name FROM pg_inherits
    JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    WHERE parent.relname IN ('evidence', 'events') AND child.relname ~ '_[0-9]{8}$'
      AND right(child.relname, 8) < ${day.replaceAll('-', '')}`.execute(db)
  for (const row of rows) await sql`DROP TABLE IF EXISTS ${sql.table(row.name)}`.execute(db)
  for (const table of PARTITIONED)
    await sql`DELETE FROM ${sql.table(`${table}_default`)} WHERE at < ${`${day} 00:00:00+00`}::timestamptz`.execute(db)
  return rows.map(row => row.name)
}
