/**
 * Holding a job at a step, and going on. It is held only where Ingot itself would act next: a ramdisk that is at work is never
 * stopped halfway. A held job is open still, so its machine takes no other request, boots its own disk, and gets no claim granted;
 * and it does not stay so for ever: the holding has an end of its own, in the same column that deadlines are read from.
 */
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import type {JobView} from './job-view.ts'
import {PHASES, type Phase} from './phases.ts'
import type {JobPlan} from './plan-types.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'

/** What a phase gets at least once its job goes on: its deadline may have been near. */
const LEAST_S = 60

/** Asks a job to be held before the next step, or before the one of a phase that is named. */
export async function requestHold(
  services: LifecycleServices,
  tx: Kysely<Database>,
  jobId: string,
  how: {at?: string | undefined; seconds: number},
  actor: string,
): Promise<store.JobRow> {
  const job = await requireOpenJob(tx, jobId)
  if (job.state === 'held') throw new IngotError('CONFLICT', `job ${jobId} is held already, before ${job.hold_at}`)
  const ahead = stepsAhead(job, await store.selectPhases(tx, [job.fence]))
  const at = how.at === undefined ? ahead[0] : ahead.find(phase => phase === how.at)
  if (!at) {
    const which = ahead.length > 0 ? `it can be held before ${ahead.join(', ')}` : 'none of its steps is still to come'
    throw new IngotError('CONFLICT', `job ${jobId} cannot be held${how.at ? ` before '${how.at}'` : ''}: ${which}`)
  }
  await store.setOpenJob(tx, jobId, {hold_at: at, hold_s: how.seconds})
  await tell(services, tx, job, actor, 'hold_requested', {at, seconds: how.seconds})
  await services.evidence.enqueue(tx, advanceTask(jobId))
  return {...job, hold_at: at, hold_s: how.seconds}
}

/** Goes on where it was held; or forgets that it was to be held. */
export async function resume(
  services: LifecycleServices,
  tx: Kysely<Database>,
  jobId: string,
  actor: string,
): Promise<store.JobRow> {
  const job = await requireOpenJob(tx, jobId)
  if (job.state !== 'held' && job.hold_at === null) throw new IngotError('CONFLICT', `job ${jobId} is not held`)
  const now = await store.selectNow(tx)
  const set = {
    hold_at: null,
    hold_s: null,
    held_at: null,
    remaining_s: null,
    ...(job.state === 'held'
      ? {
          state: 'waiting' as const,
          deadline: new Date(now.getTime() + Math.max(job.remaining_s ?? 0, LEAST_S) * 1000),
          wake_at: now,
        }
      : {}),
  }
  await store.setOpenJob(tx, jobId, set)
  await tell(services, tx, job, actor, 'job_resumed', {phase: job.phase})
  await services.evidence.enqueue(tx, advanceTask(jobId))
  return {...job, ...set}
}

/** The move itself: a worker came to the phase. */
export async function holdJob(services: LifecycleServices, view: JobView, phase: Phase): Promise<void> {
  await services.db.transaction().execute(async tx => {
    const job = await store.lockJob(tx, view.job.id)
    if (!job || job.fence !== view.job.fence || job.finished_at || job.hold_at !== phase) return
    const now = await store.selectNow(tx)
    const until = new Date(now.getTime() + (job.hold_s ?? LEAST_S) * 1000)
    const remaining_s = Math.max(0, Math.round((job.deadline.getTime() - now.getTime()) / 1000))
    await store.setOpenJob(tx, job.id, {state: 'held', held_at: now, remaining_s, deadline: until, wake_at: until})
    await tell(services, tx, job, 'lifecycle', 'job_held', {phase, until})
  })
}

function stepsAhead(job: store.JobRow, proven: readonly store.PhaseRow[]): Phase[] {
  const {phases} = job.plan as unknown as JobPlan
  return phases.filter(phase => PHASES[phase].step && !proven.some(row => row.phase === phase))
}

async function requireOpenJob(tx: Kysely<Database>, jobId: string): Promise<store.JobRow> {
  const job = await store.lockJob(tx, jobId)
  if (!job) throw new IngotError('NOT_FOUND', `no job '${jobId}'`)
  if (job.finished_at) throw new IngotError('CONFLICT', `job ${jobId} has ended: ${job.state}`)
  return job
}

async function tell(
  services: LifecycleServices,
  tx: Kysely<Database>,
  job: store.JobRow,
  actor: string,
  kind: string,
  detail: Record<string, unknown>,
): Promise<void> {
  const at = await store.selectNow(tx)
  await services.evidence.changed(tx, {at, actor, kind, machineId: job.machine_id, jobId: job.id, detail})
}
