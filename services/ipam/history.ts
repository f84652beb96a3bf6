/** Who has an address and why, who had it on a given day, and what a machine holds. */
import type {Db} from '../../lib/db.ts'
import type {IpAddress} from './integers.ts'
import type {Allocation} from './model.ts'
import * as store from './store.ts'

/** The holding that covered an instant; without one, the live one. At the instant of a handover it is the new holder's. */
export async function who(db: Db, address: IpAddress, at: Date | null, vrf: string): Promise<Allocation | null> {
  const [allocation] = await store.selectAllocations(db, store.whereHeldAt(address, vrf, at))
  return allocation ?? null
}

export function allocationsOf(db: Db, machineId: string): Promise<Allocation[]> {
  return store.selectAllocations(db, store.whereMachineHolds(machineId))
}
