/**
 * Dynamic leases that this process saw committed, so that they can be renewed for their rest while the database is away. Bounded; the
 * oldest go first. Times are monotonic: a clock that jumps ends no lease and prolongs none.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'

export type RememberedLease = {readonly address: Ipv4; readonly prefixId: string; readonly remaining_s: number}

export type LeaseMemory = {
  remember(mac: Mac, lease: {readonly address: Ipv4; readonly prefixId: string; readonly lease_s: number}): void
  recall(mac: Mac): RememberedLease | undefined
  forget(mac: Mac): void
}

export function createLeaseMemory(clock: Clock, capacity = 65_536): LeaseMemory {
  const leases = new Map<Mac, {address: Ipv4; prefixId: string; endsMs: number}>()
  return {
    remember(mac, {address, prefixId, lease_s}) {
      leases.delete(mac)
      leases.set(mac, {address, prefixId, endsMs: clock.monotonicMs() + lease_s * 1000})
      if (leases.size <= capacity) return
      const [oldest] = leases.keys()
      if (oldest !== undefined) leases.delete(oldest)
    },
    recall(mac) {
      const lease = leases.get(mac)
      if (lease === undefined) return undefined
      const remaining_s = Math.floor((lease.endsMs - clock.monotonicMs()) / 1000)
      if (remaining_s >= 1) return {address: lease.address, prefixId: lease.prefixId, remaining_s}
      leases.delete(mac)
      return undefined
    },
    forget: mac => void leases.delete(mac),
  }
}
