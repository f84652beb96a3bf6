/** One consistent read of what dhcpd keeps in memory. */
import type {Db} from '../../lib/db.ts'
import type {IpamSnapshot} from './model.ts'
import * as store from './store.ts'

export function readSnapshot(db: Db): Promise<IpamSnapshot> {
  return store.inOneLook(db, async tx => ({
    prefixes: await store.selectPrefixes(tx, store.whereHandsOutIpv4),
    reservations: await store.selectReservations(tx),
  }))
}
