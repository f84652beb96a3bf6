/** One consistent look at a job: its rows, its evidence, and the clock they are compared with. */
import type {EvidenceRow} from '../evidence/index.ts'
import type {JobPlan} from './plan-types.ts'
import type {JobSeen} from './progress.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import * as workerStore from './worker-store.ts'
import {isAlive} from './workers.ts'

export type JobView = {
  readonly job: store.JobRow
  readonly plan: JobPlan
  readonly attempt: store.AttemptRow
  readonly evidence: readonly EvidenceRow[]
  readonly seen: JobSeen
}

/** @returns undefined when the job is over, or gone */
export function loadJob(services: LifecycleServices, jobId: string): Promise<JobView | undefined> {
  return services.db
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute(async tx => {
      const job = await store.selectJob(tx, jobId)
      if (!job || job.finished_at) return undefined
      const attempt = await store.selectAttempt(tx, job.fence)
      if (!attempt) throw new Error(`job ${jobId} has no attempt for fence ${job.fence}`)
      const now = await store.selectNow(tx)
      const plan = job.plan as unknown as JobPlan
      const phases = await store.selectPhases(tx, [job.fence])
      const evidence = await services.evidence.ofFence(tx, job.fence)
      const effects = await store.selectEffects(tx, job.fence)
      const workers = await workerStore.selectWorkers(tx)
      return {
        job,
        plan,
        attempt,
        evidence,
        seen: {
          plan: plan.phases,
          proven: phases.map(row => row.phase),
          evidence: evidence.filter(row => countsFor(row, attempt, plan)),
          effects: effects.map(row => ({
            phase: row.phase,
            finished: row.finished_at !== null && !lostItsWorker(row, workers, now),
            tries: row.tries,
            outcome: row.outcome,
          })),
          deadline: job.deadline,
          cancelRequested: job.cancel_requested,
          held: job.state === 'held',
          holdAt: job.hold_at,
          now,
        },
      }
    })
}

/** A packet proves that our power cycle worked only when it came after it. A machine that is switched by hand proves it by any. */
function countsFor(row: EvidenceRow, attempt: store.AttemptRow, plan: JobPlan): boolean {
  if ((row.kind !== 'dhcp_seen' && row.kind !== 'dhcp_renewed') || plan.power === 'manual') return true
  return attempt.powered_at !== null && row.at >= attempt.powered_at
}

/** A started effect whose worker died is as if it had not been started: somebody else does it again. */
function lostItsWorker(row: store.EffectRow, workers: readonly workerStore.WorkerRow[], now: Date): boolean {
  const workerId = row.outcome?.worker_id
  return (
    row.outcome?.waits === true &&
    typeof workerId === 'string' &&
    !workers.some(worker => worker.id === workerId && isAlive(worker, now))
  )
}
