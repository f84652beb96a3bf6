/** Every SQL statement on machine_states, jobs, attempts, phases and effects; those on workers and the queue are in worker-store.ts. */
import {type Insertable, type Kysely, type Selectable, sql, type Updateable} from 'kysely'
import type * as schema from '../../lib/schema.ts'
import type {Database} from '../../lib/schema.ts'

export type MachineStateRow = Selectable<schema.MachineStatesTable>
export type JobRow = Selectable<schema.JobsTable>
export type AttemptRow = Selectable<schema.AttemptsTable>
export type PhaseRow = Selectable<schema.PhasesTable>
export type EffectRow = Selectable<schema.EffectsTable>

type Db = Kysely<Database>

export const OPEN_JOB_STATES = ['queued', 'working', 'waiting', 'held'] as const

/** The database's clock: the only one that deadlines and expiry are compared with. */
export async function selectNow(db: Db): Promise<Date> {
  const {rows} = await sql<{now: Date}>`SELECT clock_timestamp() AS now`.execute(db)
  return rows[0]?.now ?? new Date(Number.NaN)
}

export async function insertState(db: Db, row: Insertable<schema.MachineStatesTable>): Promise<void> {
  await db.insertInto('machine_states').values(row).execute()
}

export async function updateState(db: Db, machineId: string, set: Updateable<schema.MachineStatesTable>): Promise<void> {
  await db
    .updateTable('machine_states')
    .set({...set, version: sql`version + 1`})
    .where('machine_id', '=', machineId)
    .execute()
}

export function selectState(db: Db, machineId: string): Promise<MachineStateRow | undefined> {
  return db.selectFrom('machine_states').selectAll().where('machine_id', '=', machineId).executeTakeFirst()
}

/** The state with its row locked: whoever changes a machine's state goes through here, one at a time. */
export function lockState(db: Db, machineId: string): Promise<MachineStateRow | undefined> {
  return db.selectFrom('machine_states').selectAll().where('machine_id', '=', machineId).forUpdate().executeTakeFirst()
}

export function selectStates(db: Db, machineIds: readonly string[]): Promise<MachineStateRow[]> {
  if (machineIds.length === 0) return Promise.resolve([])
  return db
    .selectFrom('machine_states')
    .selectAll()
    .where('machine_id', 'in', [...machineIds])
    .execute()
}

export function selectAllStates(db: Db): Promise<MachineStateRow[]> {
  return db.selectFrom('machine_states').selectAll().execute()
}

export async function selectMachineIdsInStates(db: Db, states: readonly string[]): Promise<string[]> {
  const rows = await db
    .selectFrom('machine_states')
    .select('machine_id')
    .where('state', 'in', [...states])
    .execute()
  return rows.map(row => row.machine_id)
}

export async function countStates(db: Db): Promise<{state: string; machines: number}[]> {
  return db
    .selectFrom('machine_states')
    .select(['state', ({fn}) => fn.countAll<number>().as('machines')])
    .groupBy('state')
    .execute()
}

export async function nextFence(db: Db): Promise<number> {
  const {rows} = await sql<{fence: number}>`SELECT nextval('fences') AS fence`.execute(db)
  const fence = rows[0]?.fence
  if (fence === undefined) throw new Error('the sequence of fences gave nothing')
  return Number(fence)
}

export function insertJob(db: Db, row: Insertable<schema.JobsTable>): Promise<JobRow> {
  return db.insertInto('jobs').values(row).returningAll().executeTakeFirstOrThrow()
}

export function selectJob(db: Db, id: string): Promise<JobRow | undefined> {
  return db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst()
}

export function lockJob(db: Db, id: string): Promise<JobRow | undefined> {
  return db.selectFrom('jobs').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()
}

export function lockJobOfFence(db: Db, fence: number): Promise<JobRow | undefined> {
  return db.selectFrom('jobs').selectAll().where('fence', '=', fence).forUpdate().executeTakeFirst()
}

export function selectOpenJob(db: Db, machineId: string): Promise<JobRow | undefined> {
  return db
    .selectFrom('jobs')
    .selectAll()
    .where('machine_id', '=', machineId)
    .where('state', 'in', [...OPEN_JOB_STATES])
    .executeTakeFirst()
}

export function selectOpenJobs(db: Db): Promise<Pick<JobRow, 'id' | 'machine_id' | 'kind' | 'fence' | 'state' | 'phase'>[]> {
  return db
    .selectFrom('jobs')
    .select(['id', 'machine_id', 'kind', 'fence', 'state', 'phase'])
    .where('state', 'in', [...OPEN_JOB_STATES])
    .execute()
}

/** What each machine is, or is about to become, by the name of its profile: the open install's, else the one that was installed. */
export async function selectProfilesOfMachines(db: Db): Promise<Map<string, string>> {
  const {rows} = await sql<{machine_id: string; profile: string}>`
    SELECT s.machine_id, coalesce(j.plan->'install'->>'profile', s.provisioned->>'profile') AS profile
    FROM machine_states s LEFT JOIN jobs j ON j.machine_id = s.machine_id AND j.finished_at IS NULL
    WHERE coalesce(j.plan->'install'->>'profile', s.provisioned->>'profile') IS NOT NULL`.execute(db)
  return new Map(rows.map(row => [row.machine_id, row.profile]))
}

export function selectJobs(
  db: Db,
  page: {machineId?: string | undefined; open?: boolean | undefined; before?: Date | undefined; limit: number},
): Promise<JobRow[]> {
  let query = db.selectFrom('jobs').selectAll()
  if (page.machineId !== undefined) query = query.where('machine_id', '=', page.machineId)
  if (page.open) query = query.where('state', 'in', [...OPEN_JOB_STATES])
  if (page.before) query = query.where('created_at', '<', page.before)
  return query.orderBy('created_at', 'desc').limit(page.limit).execute()
}

/** The last job of these kinds that ended badly. */
export function selectLastFailedJob(db: Db, machineId: string, kinds: readonly JobRow['kind'][]): Promise<JobRow | undefined> {
  return db
    .selectFrom('jobs')
    .selectAll()
    .where('machine_id', '=', machineId)
    .where('state', 'in', ['failed', 'cancelled'])
    .where('kind', 'in', [...kinds])
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Changes a job only while the caller's fence is still the job's and it is open; one that is held may only be ended. @returns whether it was */
export async function updateJob(db: Db, id: string, fence: number, set: Updateable<schema.JobsTable>): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('jobs')
    .set(set)
    .where('id', '=', id)
    .where('fence', '=', fence)
    .where(
      'state',
      'in',
      OPEN_JOB_STATES.filter(state => state !== 'held' || set.finished_at !== undefined),
    )
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** The job of a machine that was opened last, whatever its kind. */
export function selectNewestJob(db: Db, machineId: string): Promise<JobRow | undefined> {
  return db
    .selectFrom('jobs')
    .selectAll()
    .where('machine_id', '=', machineId)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** The caller holds the job's lock and has seen it open: whatever its state, held too. */
export async function setOpenJob(db: Db, id: string, set: Updateable<schema.JobsTable>): Promise<void> {
  await db.updateTable('jobs').set(set).where('id', '=', id).execute()
}

/** Machines whose reservation is over, locked. */
export function lockExpiredReservations(db: Db, now: Date, limit: number): Promise<MachineStateRow[]> {
  return db
    .selectFrom('machine_states')
    .selectAll()
    .where('state', '=', 'reserved')
    .where('reserved_until', '<=', now)
    .limit(limit)
    .forUpdate()
    .skipLocked()
    .execute()
}

/** Stamps an attempt's power-on, unless it is over: then nothing may be switched on for it any more. @returns whether it goes on */
export async function stampPowered(db: Db, fence: number, now: Date): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('attempts')
    .set({powered_at: now})
    .where('fence', '=', fence)
    .where('ended_at', 'is', null)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** The caller holds the job's lock and has seen it open. */
export async function requestCancel(db: Db, id: string): Promise<void> {
  await db.updateTable('jobs').set({cancel_requested: true}).where('id', '=', id).execute()
}

/** Jobs that are due for a look; pushes the next one ahead so that each is taken once. */
export async function takeDueJobs(db: Db, now: Date, again: Date, limit: number): Promise<string[]> {
  const {rows} = await sql<{id: string}>`UPDATE jobs SET wake_at = ${again} WHERE id IN (
      SELECT id FROM jobs WHERE state IN ('queued', 'working', 'waiting', 'held') AND (state <> 'held' OR cancel_requested OR deadline < ${now})
        AND wake_at <= ${now}
      ORDER BY wake_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)
    RETURNING id`.execute(db)
  return rows.map(row => row.id)
}

/** Which of these are still fences of open jobs. */
export async function selectOpenFences(db: Db, fences: readonly number[]): Promise<number[]> {
  if (fences.length === 0) return []
  const rows = await db
    .selectFrom('jobs')
    .select('fence')
    .where('fence', 'in', [...fences])
    .where('state', 'in', [...OPEN_JOB_STATES])
    .execute()
  return rows.map(row => row.fence)
}

export async function insertAttempt(db: Db, row: Insertable<schema.AttemptsTable>): Promise<void> {
  await db.insertInto('attempts').values(row).execute()
}

export async function updateAttempt(db: Db, fence: number, set: Updateable<schema.AttemptsTable>): Promise<void> {
  await db.updateTable('attempts').set(set).where('fence', '=', fence).execute()
}

export function selectAttempt(db: Db, fence: number): Promise<AttemptRow | undefined> {
  return db.selectFrom('attempts').selectAll().where('fence', '=', fence).executeTakeFirst()
}

export function lockAttempt(db: Db, fence: number): Promise<AttemptRow | undefined> {
  return db.selectFrom('attempts').selectAll().where('fence', '=', fence).forUpdate().executeTakeFirst()
}

export function selectAttempts(db: Db, jobId: string): Promise<AttemptRow[]> {
  return db.selectFrom('attempts').selectAll().where('job_id', '=', jobId).orderBy('number').execute()
}

export async function insertPhases(db: Db, rows: readonly Insertable<schema.PhasesTable>[]): Promise<void> {
  await db
    .insertInto('phases')
    .values([...rows])
    .onConflict(conflict => conflict.doNothing())
    .execute()
}

export function selectPhases(db: Db, fences: readonly number[]): Promise<PhaseRow[]> {
  if (fences.length === 0) return Promise.resolve([])
  return db
    .selectFrom('phases')
    .selectAll()
    .where('fence', 'in', [...fences])
    .orderBy('at')
    .execute()
}

export function selectEffects(db: Db, fence: number): Promise<EffectRow[]> {
  return db.selectFrom('effects').selectAll().where('fence', '=', fence).execute()
}

/** One try at a step. Its number fences it: only the latest may be finished. */
export type EffectTry = {readonly fence: number; readonly phase: string; readonly number: number}

/** Notes that a try begins, before anything outside is touched. @returns false when somebody else began one meanwhile */
export async function startEffect(db: Db, {fence, phase, number}: EffectTry, now: Date): Promise<boolean> {
  const row = await db
    .insertInto('effects')
    .values({fence, phase, started_at: now})
    .onConflict(conflict =>
      conflict
        .columns(['fence', 'phase'])
        .doUpdateSet({started_at: now, finished_at: null, outcome: null, tries: number})
        .where('effects.tries', '=', number - 1),
    )
    .returning('tries')
    .executeTakeFirst()
  return row?.tries === number
}

/** @returns false when it is no longer the latest try, and so not the caller's to finish */
export async function finishEffect(
  db: Db,
  {fence, phase, number}: EffectTry,
  now: Date,
  outcome: Record<string, unknown>,
): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('effects')
    .set({finished_at: now, outcome: JSON.stringify(outcome)})
    .where('fence', '=', fence)
    .where('phase', '=', phase)
    .where('tries', '=', number)
    .where('finished_at', 'is', null)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** Gives up the waiting effects that name this worker and that it does not carry out (any more): whoever looks next starts them again. */
export async function abandonEffects(db: Db, phase: string, workerId: string, kept: readonly number[]): Promise<void> {
  await sql`UPDATE effects SET outcome = outcome || '{"worker_id": "nobody"}' WHERE phase = ${phase}
    AND outcome->>'worker_id' = ${workerId} AND fence <> ALL (${[...kept]}::bigint[])
    AND fence IN (SELECT fence FROM jobs WHERE state IN ('queued', 'working', 'waiting', 'held'))`.execute(db)
}

export async function countMachinesOfWindow(db: Db, windowId: string): Promise<number> {
  const row = await db
    .selectFrom('machine_states')
    .select(({fn}) => fn.countAll<number>().as('machines'))
    .where('window_id', '=', windowId)
    .executeTakeFirst()
  return Number(row?.machines ?? 0)
}
