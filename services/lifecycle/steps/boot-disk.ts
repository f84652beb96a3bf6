/** Ends a stay in the ramdisk: off, boot device disk, on. A machine without a driver is left to its ramdisk, which asks and reboots. */
import * as store from '../store.ts'
import {powerTargetOf, type Step, WITHHELD} from './step.ts'

export const bootDisk: Step = async context => {
  const {services, view, signal, mayAct} = context
  const target = await powerTargetOf(context)
  if (target.driver === 'manual') return {record: {waits: true, by_hand: 'the ramdisk reboots it when it next asks'}}
  const options = {signal, mayAct}
  const off = await services.power.off(target, options)
  if (off.done === 'withheld') return WITHHELD
  const {firmware} = await services.inventory.requireMachine(view.job.machine_id)
  const boot = await services.power.setBootDevice(target, 'disk', {firmware: firmware ?? 'bios', persistent: false}, options)
  if (boot.done === 'withheld') return WITHHELD
  const on = await services.power.on(target, options)
  if (on.done === 'withheld') return WITHHELD
  return {
    record: {ok: true, off: off.done, boot_device: boot.done === 'seen' ? boot.device : boot.done, on: on.done},
    commit: (tx, now) => store.updateState(tx, view.job.machine_id, {power_desired: 'on', power_observed: 'on', power_at: now}),
  }
}
