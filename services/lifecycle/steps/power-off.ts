/** Off, seen off. A machine without a driver is left to its ramdisk, which was told to reboot to its disk. */
import * as store from '../store.ts'
import {powerTargetOf, type Step, WITHHELD} from './step.ts'

export const powerOff: Step = async context => {
  const {services, view, phase, signal, mayAct} = context
  const target = await powerTargetOf(context)
  if (target.driver === 'manual') {
    if (phase !== 'stopped') return {record: {ok: true, by_hand: true}}
    const detail = 'its power is switched by hand, so nothing proves that it is off and its addresses are free'
    const mend = 'Clean it instead: its addresses are freed once its disks are wiped. Or set its BMC, then retry.'
    return {record: {ok: false, retry: false, code: 'POWER_OFF_UNPROVEN', detail, mend}}
  }
  const bmc = await services.inventory.describeBmc(view.job.machine_id)
  if (view.job.kind === 'inspect' && !bmc?.proven_at) return {record: {ok: true, skipped: 'its power control is not proven'}}
  const off = await services.power.off(target, {signal, mayAct})
  if (off.done === 'withheld') return WITHHELD
  return {
    record: {ok: true, off: off.done},
    commit: (tx, now) => store.updateState(tx, view.job.machine_id, {power_desired: 'off', power_observed: 'off', power_at: now}),
  }
}
