/**
 * Dynamic leases by client. Two kinds: those that this process saw committed, which it may renew for their rest while the database is
 * away; and hints, what a client had before or has by another process's word, by which it is offered the same address again, and no more.
 * An address is one client's: who had it before is forgotten. Bounded; the oldest go first. Times are monotonic: a clock that jumps ends no lease and prolongs none.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'

export type RememberedLease = {readonly address: Ipv4; readonly prefixId: string; readonly remaining_s: number}

export type LeaseMemory = {
  remember(mac: Mac, lease: {readonly address: Ipv4; readonly prefixId: string; readonly lease_s: number}): void
  /** What was committed here and has not ended. */
  recall(mac: Mac): RememberedLease | undefined
  /** @param left_s 0 for a lease that is over */
  hint(mac: Mac, lease: {readonly address: Ipv4; readonly prefixId: string; readonly left_s: number}): void
  /** What the client has (`live`) or had last, by whoever's word. */
  lookUp(mac: Mac): {readonly address: Ipv4; readonly prefixId: string; readonly live: boolean} | undefined
  /** It has it no more; what it had is still a hint. */
  end(mac: Mac): void
  forget(mac: Mac): void
}

type Entry = {readonly address: Ipv4; readonly prefixId: string; endsMs: number; seenHere: boolean}

export function createLeaseMemory(clock: Clock, capacity = 262_144): LeaseMemory {
  const leases = new Map<Mac, Entry>()
  /** Who had an address last. */
  const holders = new Map<Ipv4, Mac>()

  function put(mac: Mac, entry: Entry): void {
    drop(mac)
    const before = holders.get(entry.address)
    if (before !== undefined && leases.get(before)?.prefixId === entry.prefixId) drop(before)
    leases.set(mac, entry)
    holders.set(entry.address, mac)
    if (leases.size <= capacity) return
    const [oldest] = leases.keys()
    if (oldest !== undefined) drop(oldest)
  }

  function drop(mac: Mac): void {
    const entry = leases.get(mac)
    if (entry === undefined) return
    leases.delete(mac)
    if (holders.get(entry.address) === mac) holders.delete(entry.address)
  }

  return {
    remember(mac, {address, prefixId, lease_s}) {
      put(mac, {address, prefixId, endsMs: clock.monotonicMs() + lease_s * 1000, seenHere: true})
    },
    recall(mac) {
      const lease = leases.get(mac)
      if (lease === undefined || !lease.seenHere) return undefined
      const remaining_s = Math.floor((lease.endsMs - clock.monotonicMs()) / 1000)
      return remaining_s >= 1 ? {address: lease.address, prefixId: lease.prefixId, remaining_s} : undefined
    },
    hint(mac, {address, prefixId, left_s}) {
      const known = leases.get(mac)
      // What was committed here is better known here, and what it has counts for more than what it had.
      if (known?.seenHere && known.address === address) return
      if (left_s <= 0 && known !== undefined && known.endsMs > clock.monotonicMs()) return
      put(mac, {address, prefixId, endsMs: clock.monotonicMs() + left_s * 1000, seenHere: false})
    },
    lookUp(mac) {
      const lease = leases.get(mac)
      if (lease === undefined) return undefined
      return {address: lease.address, prefixId: lease.prefixId, live: lease.endsMs > clock.monotonicMs()}
    },
    end(mac) {
      const lease = leases.get(mac)
      if (lease !== undefined) leases.set(mac, {...lease, endsMs: 0, seenHere: false})
    },
    forget: drop,
  }
}
