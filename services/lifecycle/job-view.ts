/** One look at a job: its rows, its evidence, and the clock they are compared with. */
import type {EvidenceRow} from '../evidence/index.ts'
import {type AttemptLook, type EffectLook, selectLook} from './look-store.ts'
import type {JobPlan} from './plan-types.ts'
import {SILENCE_MS} from './presence.ts'
import type {JobSeen} from './progress.ts'
import type {LifecycleServices} from './services.ts'
import type * as store from './store.ts'

export type JobView = {
  readonly job: store.JobRow
  readonly plan: JobPlan
  readonly attempt: AttemptLook
  readonly evidence: readonly EvidenceRow[]
  readonly seen: JobSeen
}

/**
 * The rows are of one moment, the evidence perhaps of a later one: it only ever grows, and whatever is decided from it commits under the
 * fence, against what is recorded then.
 *
 * @returns undefined when the job is over, or gone
 */
export async function loadJob(services: LifecycleServices, jobId: string): Promise<JobView | undefined> {
  const look = await selectLook(services.db, jobId, SILENCE_MS)
  if (!look) return undefined
  const {job, attempt, now} = look
  if (job.finished_at) return undefined
  const plan = job.plan as unknown as JobPlan
  const evidence = await services.evidence.ofFence(services.db, job.fence)
  return {
    job,
    plan,
    attempt,
    evidence,
    seen: {
      plan: plan.phases,
      proven: look.proven,
      evidence: evidence.filter(row => countsFor(row, attempt, plan)),
      effects: look.effects.map(effect => ({
        phase: effect.phase,
        finished: effect.finished && !lostItsWorker(effect, look.alive),
        tries: effect.tries,
        outcome: effect.outcome,
      })),
      deadline: job.deadline,
      cancelRequested: job.cancel_requested,
      held: job.state === 'held',
      holdAt: job.hold_at,
      now,
    },
  }
}

/** A packet proves that our power cycle worked only when it came after it. A machine that is switched by hand proves it by any. */
function countsFor(row: EvidenceRow, attempt: AttemptLook, plan: JobPlan): boolean {
  if ((row.kind !== 'dhcp_seen' && row.kind !== 'dhcp_renewed') || plan.power === 'manual') return true
  return attempt.powered_at !== null && row.at >= attempt.powered_at
}

/** A started effect whose worker died is as if it had not been started: somebody else does it again. */
function lostItsWorker({outcome}: EffectLook, alive: readonly string[]): boolean {
  const workerId = outcome?.worker_id
  return outcome?.waits === true && typeof workerId === 'string' && !alive.includes(workerId)
}
