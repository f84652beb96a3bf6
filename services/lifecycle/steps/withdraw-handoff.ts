/**
 * Tells whoever the host was handed over to that it is given back, while its addresses are still its own. That nobody listens keeps no
 * machine: after its tries the deprovision goes on, and an event says what was not heard.
 */
import {installOf} from '../again.ts'
import {STEP_TRIES} from '../progress.ts'
import * as store from '../store.ts'
import {machineOf} from './hand-off.ts'
import type {Step} from './step.ts'

/** A refusal stays one; being away, or too slow for a step, does not. */
const MAY_PASS: readonly string[] = ['HANDOFF_STOPPED', 'HANDOFF_TIMEOUT', 'HANDOFF_WEBHOOK_FAILED', 'HANDOFF_INTERNAL']

export const withdrawHandoff: Step = async ({services, view, phase, signal}) => {
  const {job} = view
  const state = await store.selectState(services.db, job.machine_id)
  const install = state && (await installOf(services.db, state))
  if (!install || !services.handoff.withdraws(install.handoff)) return {record: {ok: true, told: 'nobody'}}
  const tries = (view.seen.effects.find(row => row.phase === phase)?.tries ?? 0) + 1
  const run = services.handoff.start({
    runId: `${job.id}-${job.fence}-withdraw`,
    config: install.handoff,
    machine: await machineOf(services, job.machine_id, install),
    withdraw: true,
    signal,
  })
  const {outcome, summary, cause} = await run.done
  if (outcome === 'done') return {record: {ok: true, told: install.handoff.kind, ...summary}}
  const why = {code: cause?.code ?? 'HANDOFF_INTERNAL', detail: cause?.detail ?? 'it failed'}
  if (tries < STEP_TRIES && MAY_PASS.includes(why.code)) return {record: {ok: false, ...why, mend: cause?.mend}}
  return {
    record: {ok: true, told: 'nobody', not_heard: why},
    commit: (tx, now) =>
      services.evidence.changed(tx, {
        ...{at: now, actor: 'lifecycle', kind: 'handoff_not_withdrawn', machineId: job.machine_id, jobId: job.id},
        detail: why,
      }),
  }
}
