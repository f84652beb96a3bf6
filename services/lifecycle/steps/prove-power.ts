/**
 * Proves that the machine's power can be controlled: its BMC, known by declaration or found by inspection with its window's credentials,
 * answers a status. Without a BMC it is marked manual; with one that does not obey, it is enrolled with a fault that says so.
 */
import {messageOf} from '../../../lib/errors.ts'
import type {BmcInput} from '../../inventory/index.ts'
import type {PowerTarget} from '../../power/index.ts'
import * as store from '../store.ts'
import {powerTargetOf, type Step, type StepContext} from './step.ts'

export const provePower: Step = async context => {
  const {services, view, signal} = context
  const machineId = view.job.machine_id
  const found = await foundBmc(context)
  const target: PowerTarget = found ? {machineId, ...found} : await powerTargetOf(context)
  if (target.driver === 'manual') {
    return {
      record: {ok: true, driver: 'manual', because: 'no BMC is declared, and none was found whose credentials are known'},
      commit: (tx, now) => services.inventory.setBmc(tx, machineId, {driver: 'manual'}, now),
    }
  }
  const proof = await services.power
    .status(target, {signal})
    .then(status => ({state: status.state, fault: null}))
    .catch(error => ({state: 'unknown' as const, fault: messageOf(error)}))
  return {
    record: {
      ok: true,
      driver: target.driver,
      bmc: target.address,
      state: proof.state,
      ...(proof.fault ? {fault: proof.fault} : {}),
    },
    commit: async (tx, now) => {
      if (found) await services.inventory.setBmc(tx, machineId, found, now)
      if (!proof.fault) await services.inventory.bmcProven(tx, machineId, now)
      await store.updateState(tx, machineId, {
        fault: proof.fault ? `power: ${proof.fault}` : null,
        power_observed: proof.state,
        power_at: now,
      })
    },
  }
}

/** A BMC that inspection saw and nobody declared, with the credentials of the window it came in by. */
async function foundBmc({services, view}: StepContext): Promise<BmcInput | undefined> {
  const known = await services.inventory.describeBmc(view.job.machine_id)
  if (known?.driver === 'ipmi' || !view.plan.window_id) return undefined
  const address = services.inventory.readFacts(view.evidence.find(row => row.kind === 'facts')?.detail).bmcAddress
  const window = await services.inventory.windowById(view.plan.window_id)
  if (!address || !window?.bmc_username) return undefined
  const password = services.inventory.windowPassword(window)
  return {driver: 'ipmi', address, username: window.bmc_username, ...(password ? {password} : {})}
}
