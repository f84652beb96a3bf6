/** SQL of the sweep over power states. */
import {type Kysely, sql} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import {type MachineStateRow, OPEN_JOB_STATES} from './store.ts'

type Db = Kysely<Database>
const NO_OPEN_JOB = sql<boolean>`NOT EXISTS (SELECT FROM jobs WHERE jobs.machine_id = machine_states.machine_id
  AND jobs.state IN (${sql.join(OPEN_JOB_STATES)}))`

export type Looked = Pick<MachineStateRow, 'machine_id' | 'power_desired' | 'power_observed' | 'power_at' | 'power_drift_since'>

/**
 * Takes machines whose turn it is, longest not asked first, and marks them as asked: other processes take others. Those with an open
 * job are that job's; those whose BMC did not answer come round more seldom.
 */
export async function takeForLook(
  db: Db,
  turn: {now: Date; askedBefore: Date; silentBefore: Date; limit: number},
): Promise<Looked[]> {
  const {now, askedBefore, silentBefore, limit} = turn
  const due = db
    .selectFrom('machine_states')
    .select('machine_id')
    .where('state', '!=', 'retired')
    .where(eb => eb.or([eb('power_asked_at', 'is', null), eb('power_asked_at', '<', askedBefore)]))
    .where(eb =>
      eb.or([
        eb('power_observed', 'is distinct from', 'unknown'),
        eb('power_asked_at', 'is', null),
        eb('power_asked_at', '<', silentBefore),
      ]),
    )
    .where(NO_OPEN_JOB)
    .orderBy(sql`power_asked_at NULLS FIRST`)
    .limit(limit)
    .forUpdate()
    .skipLocked()
  return db
    .updateTable('machine_states')
    .set({power_asked_at: now})
    .where('machine_id', 'in', due)
    .returning(['machine_id', 'power_desired', 'power_observed', 'power_at', 'power_drift_since'])
    .execute()
}

/** Writes what was seen, unless a job has come or written in between: then it knows better. @returns whether it was written */
export async function writeLook(
  db: Db,
  before: Looked,
  seen: Pick<Looked, 'power_observed' | 'power_at' | 'power_drift_since'>,
): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('machine_states')
    .set(seen)
    .where('machine_id', '=', before.machine_id)
    .where('power_at', 'is not distinct from', before.power_at)
    .where(NO_OPEN_JOB)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}
