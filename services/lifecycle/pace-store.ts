/** Every SQL statement on phase_times. */
import {type Kysely, sql} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {Pace} from './deadlines.ts'

type Db = Kysely<Database>

/** What is looked at: the newest so many of a model and phase. Hardware and images change. */
const NEWEST = 200

export async function insertPhaseTimes(
  db: Db,
  model: string,
  rows: readonly {phase: string; seconds: number}[],
  at: Date,
): Promise<void> {
  if (rows.length === 0) return
  await db
    .insertInto('phase_times')
    .values(rows.map(row => ({...row, model, at})))
    .execute()
}

export async function selectPaces(db: Db, model: string, phases: readonly string[]): Promise<Map<string, Pace>> {
  if (phases.length === 0) return new Map()
  const {rows} = await sql<{phase: string; samples: number; p50_s: number; p99_s: number}>`
    SELECT p.phase, count(*)::int AS samples,
      percentile_cont(0.5) WITHIN GROUP (ORDER BY t.seconds) AS p50_s, percentile_cont(0.99) WITHIN GROUP (ORDER BY t.seconds) AS p99_s
    FROM unnest(${[...phases]}::text[]) AS p (phase)
    CROSS JOIN LATERAL (SELECT seconds FROM phase_times WHERE model = ${model} AND phase = p.phase ORDER BY id DESC LIMIT ${NEWEST}) t
    GROUP BY p.phase`.execute(db)
  return new Map(rows.map(({phase, ...pace}) => [phase, pace]))
}

/** Forgets what is never looked at any more. */
export async function deleteOldPhaseTimes(db: Db): Promise<void> {
  await sql`DELETE FROM phase_times WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY model, phase ORDER BY id DESC) AS place FROM phase_times) ranked
    WHERE place > ${NEWEST})`.execute(db)
}
