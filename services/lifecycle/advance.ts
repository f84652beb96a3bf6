/**
 * Takes a job forward: load what is recorded, ask `nextMove`, do that one thing, and again until it must wait. Each move commits by
 * itself and only under the job's current fence, and a step's outcome only under the number of its try; so a worker that lost the job
 * changes nothing any more, and one that died is followed by another that asks the same question and gets the same answer.
 */
import {isAway} from '../../lib/db.ts'
import {messageOf} from '../../lib/errors.ts'
import {cause} from './causes.ts'
import {deadlineFor} from './deadlines.ts'
import {failJob, finishJob} from './endings.ts'
import {holdJob} from './hold.ts'
import {type JobView, loadJob} from './job-view.ts'
import {learn, paceOf} from './pace.ts'
import {type Move, nextMove, type Proof, STEP_TRIES} from './progress.ts'
import type {LifecycleServices} from './services.ts'
import {runStep, STEP_LIMIT_MS} from './steps/run.ts'
import type {Self} from './steps/step.ts'
import * as store from './store.ts'

/** More moves than any plan has phases; a job that needs more in one go is a bug, and says so. */
const MOVES_AT_MOST = 64
/** A waiting job is looked at again after so long even if nothing woke it. */
const LOOK_AGAIN_MS = 15_000
/** The first pause after a failed try; each further one is longer by as much, so that a BMC that needs a moment gets one. */
const TRY_AGAIN_MS = 3_000

type After = 'again' | 'wait'

export async function advance(services: LifecycleServices, jobId: string, self: Self): Promise<void> {
  for (let moves = 0; moves < MOVES_AT_MOST; moves++) {
    const view = await loadJob(services, jobId)
    if (!view) return
    const move = nextMove(view.seen)
    services.log.debug({job: jobId, move: move.do, phase: 'phase' in move ? move.phase : undefined}, 'job moves')
    try {
      if ((await take(services, view, move, self)) === 'wait') return
    } catch (error) {
      await failIfStuck(services, view, error)
      throw error
    }
  }
  throw new Error(`job ${jobId} took ${MOVES_AT_MOST} moves without coming to rest`)
}

async function take(services: LifecycleServices, view: JobView, move: Move, self: Self): Promise<After> {
  switch (move.do) {
    case 'prove':
      await commitProofs(services, view, move.proofs)
      return 'again'
    case 'act':
      return act(services, view, move, self)
    case 'hold':
      await holdJob(services, view, move.phase)
      return 'wait'
    case 'wait':
      if (view.seen.held) return 'wait'
      await store.updateJob(services.db, view.job.id, view.job.fence, {
        state: 'waiting',
        wake_at: new Date(Math.min(view.seen.now.getTime() + LOOK_AGAIN_MS, view.seen.deadline.getTime() + 1)),
      })
      return 'wait'
    case 'finish':
      await finishJob(services, view)
      return 'wait'
    case 'fail':
      return (await failJob(services, view, move)) === 'over' ? 'wait' : 'again'
  }
}

async function commitProofs(services: LifecycleServices, view: JobView, proofs: readonly Proof[]): Promise<void> {
  const {job, plan} = view
  await services.db.transaction().execute(async tx => {
    const locked = await store.lockJob(tx, job.id)
    if (!locked || locked.fence !== job.fence || locked.finished_at) return
    // Another worker may have proven more since this one looked: what is recorded now counts.
    const before = await store.selectPhases(tx, [job.fence])
    const proven = new Set(before.map(row => row.phase))
    const fresh = proofs.filter(proof => !proven.has(proof.phase))
    if (fresh.length === 0) return
    for (const proof of fresh) proven.add(proof.phase)
    const now = await store.selectNow(tx)
    const following = plan.phases.find(phase => !proven.has(phase))
    await store.updateJob(tx, job.id, job.fence, {
      state: 'working',
      wake_at: new Date(now.getTime() + LOOK_AGAIN_MS),
      ...(following ? {phase: following, deadline: deadlineFor(following, plan, now, await paceOf(tx, plan, following))} : {}),
    })
    await learn(tx, {plan, proven: [...before, ...fresh], fresh, now})
    await store.insertPhases(
      tx,
      fresh.map(proof => ({fence: job.fence, phase: proof.phase, at: proof.at, evidence: JSON.stringify(proof.evidence)})),
    )
    for (const proof of fresh) {
      await services.evidence.changed(tx, {
        at: proof.at,
        actor: 'lifecycle',
        kind: 'phase_entered',
        machineId: job.machine_id,
        jobId: job.id,
        detail: {phase: proof.phase, attempt: job.attempt, evidence: proof.evidence},
      })
    }
  })
}

async function act(services: LifecycleServices, view: JobView, move: Extract<Move, {do: 'act'}>, self: Self): Promise<After> {
  const {job} = view
  const mine = {fence: job.fence, phase: move.phase, number: move.tries + 1}
  const begun = await services.db.transaction().execute(async tx => {
    const now = await store.selectNow(tx)
    const wake = new Date(now.getTime() + STEP_LIMIT_MS + LOOK_AGAIN_MS)
    return (await store.updateJob(tx, job.id, job.fence, {state: 'working', wake_at: wake})) && store.startEffect(tx, mine, now)
  })
  if (!begun) return 'wait'
  const outcome = await runStep(services, view, move, self)
  const record = await commitOutcome(services, view, mine, outcome).catch(async error => {
    if (isAway(error)) throw error
    // What the step wanted to write is refused: that is a failed try like any other.
    services.log.error({job: job.id, step: move.step, err: error}, 'the outcome of a step could not be committed')
    return commitOutcome(services, view, mine, {record: {ok: false, code: 'STEP_FAILED', detail: messageOf(error)}})
  })
  if (!record) return 'wait'
  if (record.ok !== false || record.retry === false || (record.patient !== true && mine.number >= STEP_TRIES)) return 'again'
  const now = await store.selectNow(services.db)
  const pauseMs = Math.min(TRY_AGAIN_MS * mine.number, LOOK_AGAIN_MS)
  await store.updateJob(services.db, job.id, job.fence, {state: 'waiting', wake_at: new Date(now.getTime() + pauseMs)})
  return 'wait'
}

/** @returns what was recorded; undefined when the try was no longer this worker's */
async function commitOutcome(
  services: LifecycleServices,
  view: JobView,
  mine: store.EffectTry,
  outcome: Awaited<ReturnType<typeof runStep>>,
): Promise<typeof outcome.record | undefined> {
  const {job} = view
  return services.db.transaction().execute(async tx => {
    const locked = await store.lockJob(tx, job.id)
    if (!locked || locked.fence !== job.fence || locked.finished_at) return undefined
    const now = await store.selectNow(tx)
    if (!(await store.finishEffect(tx, mine, now, outcome.record))) return undefined
    await outcome.commit?.(tx, now)
    if (outcome.record.ok === false) {
      await services.evidence.changed(tx, {
        at: now,
        actor: 'lifecycle',
        kind: 'step_failed',
        machineId: job.machine_id,
        jobId: job.id,
        detail: {phase: mine.phase, tries: mine.number, ...outcome.record},
      })
    }
    return outcome.record
  })
}

/** A fault of ours that comes back at every look would keep a job open for ever: once its deadline has passed, it ends the job. */
async function failIfStuck(services: LifecycleServices, view: JobView, error: unknown): Promise<void> {
  if (isAway(error) || view.seen.now <= view.seen.deadline) return
  const phase = view.plan.phases.find(row => !view.seen.proven.includes(row)) ?? 'planned'
  const internal = cause('INTERNAL', `Ingot itself failed: ${messageOf(error)}`)
  await failJob(services, view, {do: 'fail', phase, cause: internal, retry: false, cancelled: false})
}
