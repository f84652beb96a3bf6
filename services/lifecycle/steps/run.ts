/** Runs one step in the bounds of its time and of this process's right to act, and turns whatever it throws into a failed try. */
import {isAway} from '../../../lib/db.ts'
import {IngotError, messageOf} from '../../../lib/errors.ts'
import type {JobView} from '../job-view.ts'
import type {Move} from '../progress.ts'
import type {LifecycleServices} from '../services.ts'
import {STEPS} from './registry.ts'
import type {Self, StepOutcome} from './step.ts'

/** How long one step may take; the queue's tasks stay well under 30 s each. */
export const STEP_LIMIT_MS = 25_000

/** @throws only when the database is away: then nothing can be recorded, and the step is done again later */
export async function runStep(
  services: LifecycleServices,
  view: JobView,
  move: Extract<Move, {do: 'act'}>,
  self: Self,
): Promise<StepOutcome> {
  const startMs = services.clock.monotonicMs()
  const signal = AbortSignal.timeout(STEP_LIMIT_MS)
  const isStillMine = self.watch()
  const mayAct = () => services.clock.monotonicMs() - startMs < STEP_LIMIT_MS && isStillMine()
  try {
    return await STEPS[move.step]({services, view, phase: move.phase, self, signal, mayAct})
  } catch (error) {
    if (isAway(error)) throw error
    services.log.warn({job: view.job.id, step: move.step, err: error}, 'a step failed')
    if (error === signal.reason) {
      const detail = `it was not done within ${STEP_LIMIT_MS / 1000} s`
      return {record: {ok: false, code: 'STEP_TIMEOUT', detail, ...patience(view)}}
    }
    if (!(error instanceof IngotError)) return {record: {ok: false, code: 'STEP_FAILED', detail: messageOf(error)}}
    const away = error.code === 'POWER_UNREACHABLE'
    return {record: {ok: false, code: error.code, detail: error.message, mend: error.mend, ...(away ? patience(view) : {})}}
  }
}

/**
 * A BMC that is away may be restarting, and the power service leaves it alone meanwhile: the job waits for it until its phase's deadline.
 * A person who ordered a power verb waits for an answer instead.
 */
function patience(view: JobView): {patient?: true} {
  return view.job.kind === 'power' ? {} : {patient: true}
}
