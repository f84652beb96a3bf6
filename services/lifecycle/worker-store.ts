/** Every SQL statement on workers, and those on the queue's own locks. */
import {type Insertable, type Kysely, type Selectable, sql} from 'kysely'
import type * as schema from '../../lib/schema.ts'
import type {Database} from '../../lib/schema.ts'

export type WorkerRow = Selectable<schema.WorkersTable>

type Db = Kysely<Database>

export async function upsertWorker(db: Db, row: Insertable<schema.WorkersTable>): Promise<void> {
  await db
    .insertInto('workers')
    .values(row)
    .onConflict(conflict =>
      conflict.column('id').doUpdateSet(({ref}) => ({beat_at: ref('excluded.beat_at'), queue_ids: ref('excluded.queue_ids')})),
    )
    .execute()
}

export function selectWorkers(db: Db): Promise<WorkerRow[]> {
  return db.selectFrom('workers').selectAll().execute()
}

export async function deleteWorkers(db: Db, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await db
    .deleteFrom('workers')
    .where('id', 'in', [...ids])
    .execute()
}

/** Frees the queue's locks held by processes that are gone: the queue itself would keep them for four hours. */
export async function unlockQueue(db: Db, queueIds: readonly string[]): Promise<void> {
  if (queueIds.length === 0) return
  await sql`SELECT graphile_worker.force_unlock_workers(${[...queueIds]}::text[])`.execute(db)
  // The queue tells its workers of new tasks only; these are as good as new.
  await sql`SELECT pg_notify('jobs:insert', '{"count":64}')`.execute(db)
}

/** Every id that holds a lock in the queue now, and whether it has held one since before `since`. */
export async function selectLockHolders(db: Db, since: Date): Promise<{id: string; old: boolean}[]> {
  const {rows} = await sql<{id: string; old: boolean}>`SELECT locked_by AS id, bool_or(locked_at < ${since}) AS old FROM (
      SELECT locked_by, locked_at FROM graphile_worker._private_jobs WHERE locked_by IS NOT NULL
      UNION ALL SELECT locked_by, locked_at FROM graphile_worker._private_job_queues WHERE locked_by IS NOT NULL) AS locks
    GROUP BY locked_by`.execute(db)
  return rows
}

/**
 * Frees serial queues that are locked although no task of them is. The queue ends a task by its number whoever holds it: when a process
 * that lost a task ends it all the same, the one that has it now finds nothing to end, and leaves its queue locked for four hours.
 */
export async function unlockIdleQueues(db: Db, lockedBefore: Date): Promise<void> {
  await sql`UPDATE graphile_worker._private_job_queues q SET locked_at = NULL, locked_by = NULL WHERE locked_at < ${lockedBefore}
    AND NOT EXISTS (SELECT FROM graphile_worker._private_jobs j WHERE j.job_queue_id = q.id AND j.locked_at IS NOT NULL)`.execute(
    db,
  )
}

/** Forgets the serial queues that nothing waits in: there is one for every job and every unknown MAC there ever was. */
export async function deleteIdleQueues(db: Db): Promise<void> {
  await sql`DELETE FROM graphile_worker._private_job_queues q WHERE locked_at IS NULL
    AND NOT EXISTS (SELECT FROM graphile_worker._private_jobs j WHERE j.job_queue_id = q.id)`.execute(db)
}
