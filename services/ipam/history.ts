/** Who has an address and why, who had it on a given day, all that it and a machine have been through. */
import type {Db} from '../../lib/db.ts'
import type {IpAddress} from './integers.ts'
import type {Allocation, Delegation, PastAllocation} from './model.ts'
import * as delegations from './store/delegations.ts'
import * as store from './store.ts'

/** The holding that covered an instant; without one, the live one. At the instant of a handover it is the new holder's. */
export async function who(db: Db, address: IpAddress, at: Date | null, vrf: string): Promise<PastAllocation | null> {
  const [allocation] = await store.selectHoldings(db, store.whereHeldAt(address, vrf, at))
  return allocation ?? null
}

export function allocationsOf(db: Db, machineId: string): Promise<Allocation[]> {
  return store.selectAllocations(db, store.whereMachineHolds(machineId))
}

export type Past = {readonly addresses: readonly PastAllocation[]; readonly networks: readonly Delegation[]}

/** Newest first. */
export async function pastOf(db: Db, of: {machineId: string} | {address: IpAddress; vrf: string}): Promise<Past> {
  const isMachine = 'machineId' in of
  const where = isMachine ? store.whereMachineHeld(of.machineId) : store.whereAddress(of.address, of.vrf)
  const around = isMachine ? delegations.whereMachineHeld(of.machineId) : delegations.whereEverAround(of.address, of.vrf)
  return {
    addresses: await store.selectHoldings(db, where, store.NEWEST_FIRST),
    networks: (await delegations.selectDelegations(db, around)).toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime()),
  }
}
