/** Off, seen off; boot device network, read back; on, seen on. What counts in the end is the packet that follows. */
import * as store from '../store.ts'
import {powerTargetOf, type Step, WITHHELD} from './step.ts'

export const powerCycle: Step = async context => {
  const {services, view, signal, mayAct} = context
  const target = await powerTargetOf(context)
  const options = {signal, mayAct}
  if (target.driver === 'manual') {
    return {
      record: {waits: true, by_hand: `Switch the machine off and on, and let it boot from the network.`},
      commit: (tx, now) => store.updateAttempt(tx, view.job.fence, {powered_at: now}),
    }
  }
  const off = await services.power.off(target, options)
  if (off.done === 'withheld') return WITHHELD
  const machine = await services.inventory.requireMachine(view.job.machine_id)
  const boot = await services.power.setBootDevice(
    target,
    'pxe',
    {firmware: machine.firmware ?? 'bios', persistent: false},
    options,
  )
  if (boot.done === 'withheld') return WITHHELD
  // From here on packets and fetches may be this boot's: the stamp must be there before the machine can send one.
  if (!(await store.stampPowered(services.db, view.job.fence, await store.selectNow(services.db)))) return WITHHELD
  const on = await services.power.on(target, options)
  if (on.done === 'withheld') return WITHHELD
  return {
    record: {ok: true, off: off.done, boot_device: boot.done === 'seen' ? boot.device : boot.done, on: on.done},
    commit: async (tx, now) => {
      await store.updateState(tx, view.job.machine_id, {power_desired: 'on', power_observed: 'on', power_at: now})
    },
  }
}
