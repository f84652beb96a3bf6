/** The order of a person: on, off or cycle, read back. */
import * as store from '../store.ts'
import {powerTargetOf, type Step} from './step.ts'

export const powerVerb: Step = async context => {
  const {services, view, signal, mayAct} = context
  const verb = view.plan.verb ?? 'on'
  const target = await powerTargetOf(context)
  const outcome = await services.power[verb](target, {signal, mayAct})
  if (outcome.done !== 'seen') {
    const detail = outcome.done === 'by_hand' ? outcome.please : 'this worker ran out of time before it acted'
    return {record: {ok: false, retry: false, code: 'POWER_UNSUPPORTED', detail}}
  }
  return {
    record: {ok: true, verb, state: outcome.state, changed: outcome.changed},
    commit: (tx, now) =>
      store.updateState(tx, view.job.machine_id, {power_desired: outcome.state, power_observed: outcome.state, power_at: now}),
  }
}
