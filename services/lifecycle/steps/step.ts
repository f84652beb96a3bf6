/** What a step is: one effect, idempotent, read back. It may run again after a crash, and must then end in the same place. */
import type {Kysely} from 'kysely'
import type {Database} from '../../../lib/schema.ts'
import type {PowerTarget} from '../../power/index.ts'
import type {HandoffRuns} from '../handoff-runs.ts'
import type {JobView} from '../job-view.ts'
import type {Phase} from '../phases.ts'
import type {LifecycleServices} from '../services.ts'

/** The process that does the step. */
export type Self = {
  readonly workerId: string
  /** @returns a question whose answer is no once others may have taken over what is begun now */
  readonly watch: () => () => boolean
  readonly handoffs: HandoffRuns
}

export type StepContext = {
  readonly services: LifecycleServices
  readonly view: JobView
  readonly phase: Phase
  readonly self: Self
  readonly signal: AbortSignal
  /** false once this worker must not touch hardware any more */
  readonly mayAct: () => boolean
}

/**
 * `record.ok` true proves the phase, false counts as a try, with `retry: false` as the last one and with `patient` as one that may be
 * repeated until the phase's deadline; `record.waits` leaves the proof to evidence.
 * `commit` runs in the transaction that records the outcome, and only while the fence holds.
 */
export type StepOutcome = {
  readonly record: Record<string, unknown> & {ok?: boolean; waits?: boolean; retry?: false; patient?: true}
  readonly commit?: (tx: Kysely<Database>, now: Date) => Promise<void>
}

export type Step = (context: StepContext) => Promise<StepOutcome>

/** This process's right to act ended before the order left: whoever has the job now gives it again. */
export const WITHHELD: StepOutcome = {
  record: {
    ok: false,
    code: 'STEP_WITHHELD',
    detail: 'the order was withheld: this worker had run out of time, or lost the job',
  },
}

/** How to reach the machine's power now: the credentials are opened here and live as long as the step. */
export async function powerTargetOf(context: StepContext): Promise<PowerTarget> {
  const machineId = context.view.job.machine_id
  const bmc = await context.services.inventory.openBmc(machineId)
  if (!bmc || bmc.driver === 'manual') return {machineId, driver: 'manual'}
  return {machineId, driver: 'ipmi', address: bmc.address, port: bmc.port, username: bmc.username, password: bmc.password}
}
