/**
 * One machine that came in twice: a window takes in whatever MAC boots, and a machine may netboot by one NIC and, before its facts are
 * known, by another. When the facts of the one name the other's MAC, the other was never a machine: it is closed and retired, and its
 * MAC goes to the one that was inspected.
 */
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {MachineRow} from '../inventory/index.ts'
import {cause} from './causes.ts'
import {closeJob} from './endings.ts'
import {enterState} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'

/** @returns whether the owner gives up its MACs: it was absorbed, or it is out of service */
export async function absorbNewcomer(
  services: LifecycleServices,
  tx: Kysely<Database>,
  {owner, into, now}: {owner: MachineRow; into: store.JobRow; now: Date},
): Promise<boolean> {
  // Its job before its state, as everybody locks them.
  const open = await store.selectOpenJob(tx, owner.id)
  if (open) await store.lockJob(tx, open.id)
  const state = await store.lockState(tx, owner.id)
  if (!state || state.state === 'retired') return state !== undefined
  const fresh = owner.origin === 'window' && (state.state === 'discovered' || state.state === 'inspecting')
  if (!fresh || (await services.inventory.latestFacts(owner.id, 'inspection', tx))) return false
  const because = `it is another interface of the machine that job ${into.id} inspected`
  if (open && !(await closeJob(services, tx, open, 'cancelled', cause('SAME_MACHINE', because)))) {
    return false
  }
  await services.ipam.freeOfMachine(tx, owner.id, ['boot', 'host', 'bmc'], 'lifecycle', now)
  await enterState(services, tx, state, 'retired', {now, actor: 'lifecycle', because})
  return true
}
