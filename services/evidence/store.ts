/** Every SQL statement on `evidence` and `events`, and the only place that hands a task to the queue together with an observation. */
import {type Kysely, sql} from 'kysely'
import {prepared} from '../../lib/db.ts'
import type {Database} from '../../lib/schema.ts'

export type EvidenceRow = {
  id: number
  at: Date
  machine_id: string | null
  job_id: string | null
  fence: number | null
  kind: string
  mac: string | null
  source: string
  detail: Record<string, unknown>
}

export type EventRow = {
  id: number
  at: Date
  actor: string
  kind: string
  machine_id: string | null
  job_id: string | null
  subject: string | null
  detail: Record<string, unknown>
}

export type NewEvidence = Omit<EvidenceRow, 'id'>
export type NewEvent = Omit<EventRow, 'id'>

/** Many at once, as one parameter: what decides about thousands of parameters takes longer than their rows. */
export async function insertEvidenceBatch(db: Kysely<Database>, rows: readonly NewEvidence[]): Promise<void> {
  await sql`${prepared('evidence_insert_batch')} INSERT INTO evidence (at, machine_id, job_id, fence, kind, mac, source, detail)
    SELECT at, machine_id, job_id, fence, kind, mac, source, detail FROM json_to_recordset(${JSON.stringify(rows)}::json)
      AS r (at timestamptz, machine_id uuid, job_id uuid, fence bigint, kind text, mac macaddr, source text, detail jsonb)`.execute(
    db,
  )
}

export async function insertEvidence(db: Kysely<Database>, rows: readonly NewEvidence[]): Promise<number[]> {
  const inserted = await db
    .insertInto('evidence')
    .values(rows.map(row => ({...row, detail: JSON.stringify(row.detail)})))
    .returning('id')
    .execute()
  return inserted.map(row => row.id)
}

export async function insertEvent(db: Kysely<Database>, row: NewEvent): Promise<void> {
  await db
    .insertInto('events')
    .values({...row, detail: JSON.stringify(row.detail)})
    .execute()
  await sql`SELECT pg_notify('ingot_events', '')`.execute(db)
}

/** Kinds that decide nothing: there can be thousands of them, and each look at a job would read them all. */
const TOLD = ['progress', 'ramdisk_log']

export async function selectEvidenceOfFence(db: Kysely<Database>, fence: number): Promise<EvidenceRow[]> {
  return db.selectFrom('evidence').selectAll().where('fence', '=', fence).where('kind', 'not in', TOLD).orderBy('id').execute()
}

export async function countKindsOfFence(db: Kysely<Database>, fence: number): Promise<{kind: string; rows: number}[]> {
  return db
    .selectFrom('evidence')
    .select(['kind', ({fn}) => fn.countAll<number>().as('rows')])
    .where('fence', '=', fence)
    .groupBy('kind')
    .execute()
}

export async function selectEvidence(db: Kysely<Database>, id: number): Promise<EvidenceRow | undefined> {
  return db.selectFrom('evidence').selectAll().where('id', '=', id).executeTakeFirst()
}

export async function selectEvidenceOfMachine(
  db: Kysely<Database>,
  machineId: string,
  before: number | undefined,
  limit: number,
): Promise<EvidenceRow[]> {
  let query = db.selectFrom('evidence').selectAll().where('machine_id', '=', machineId)
  if (before !== undefined) query = query.where('id', '<', before)
  return query.orderBy('id', 'desc').limit(limit).execute()
}

export type SeenEvent = EventRow & {readonly late: boolean}

/**
 * Events below the horizon (the oldest transaction still open): those after an id, at most `limit`; and of the `lookBack` ids up to it
 * those whose transaction is not older than `since`, all of them.
 */
export async function selectEvents(
  db: Kysely<Database>,
  from: {after: number; since: string | null; lookBack: number; limit: number; machineId: string | null},
): Promise<{horizon: string; rows: SeenEvent[]}> {
  const {rows} = await sql<SeenEvent & {horizon: string}>`
    SELECT h.xid::text AS horizon, e.* FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid) h LEFT JOIN LATERAL (
      (SELECT id, at, actor, kind, machine_id, job_id, subject, detail, false AS late FROM events
        WHERE id > ${from.after} AND txid < h.xid AND (${from.machineId}::uuid IS NULL OR machine_id = ${from.machineId}::uuid)
        ORDER BY id LIMIT ${from.limit})
      UNION ALL
      (SELECT id, at, actor, kind, machine_id, job_id, subject, detail, true FROM events
        WHERE id <= ${from.after} AND id > ${from.after - from.lookBack} AND txid >= ${from.since}::text::xid8 AND txid < h.xid
          AND (${from.machineId}::uuid IS NULL OR machine_id = ${from.machineId}::uuid))
    ) e ON true ORDER BY e.id`.execute(db)
  const horizon = rows[0]?.horizon ?? '0'
  return {horizon, rows: rows.filter(row => row.id !== null).map(({horizon: _horizon, ...row}) => row)}
}

/** The newest event's id that anybody can see, 0 without one, and the horizon of the same look. */
export async function selectEventsEnd(db: Kysely<Database>): Promise<{last: number; horizon: string}> {
  const {rows} = await sql<{last: number; horizon: string}>`
    SELECT coalesce((SELECT max(id) FROM events), 0) AS last, pg_snapshot_xmin(pg_current_snapshot())::text AS horizon`.execute(
    db,
  )
  return rows[0] ?? {last: 0, horizon: '0'}
}

/** The id before the newest `count` events; 0 when there are fewer. */
export async function selectEventsStart(db: Kysely<Database>, count: number, machineId: string | null): Promise<number> {
  const {rows} = await sql<{id: number}>`
    SELECT id FROM events WHERE ${machineId}::uuid IS NULL OR machine_id = ${machineId}::uuid
    ORDER BY id DESC OFFSET ${count - 1} LIMIT 1`.execute(db)
  return (rows[0]?.id ?? 1) - 1
}

/** Hands a task to the queue in the same transaction as the evidence that asks for it. */
export async function insertTask(
  db: Kysely<Database>,
  task: {name: string; payload: Record<string, unknown>; queue: string; key: string},
): Promise<void> {
  await sql`SELECT graphile_worker.add_job(${task.name}, ${JSON.stringify(task.payload)}::json,
    queue_name => ${task.queue}, job_key => ${task.key}, max_attempts => 25)`.execute(db)
}
