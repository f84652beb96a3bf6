/** dhcpd's lease port over ipam: the two speak the same of addresses, and this is where their words meet. */
import {isAway, sqlState} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {BindResult, Leases} from '../dhcpd/index.ts'
import type {Ipam} from '../ipam/index.ts'

export function createLeasePort(ipam: Ipam, log: Log): Leases {
  return {
    async bind(requests) {
      const [first] = requests
      if (!first) return []
      const results = await away(
        ipam.bindLeases(
          requests.map(request => ({
            mac: request.mac,
            clientId: request.clientId,
            address: request.address,
            prefixId: request.prefixId,
            machineId: request.machineId,
            leaseS: request.lease_s,
            kind: request.kind === 'reserved' ? ('reservation' as const) : ('dynamic' as const),
          })),
          first.now,
        ),
      )
      return results.map((result): BindResult => (result === 'bound' ? {bound: true} : result))
    },
    async offerDynamic(request) {
      try {
        const offer = await ipam.offerDynamic({
          mac: request.mac,
          prefixId: request.prefixId,
          requested: request.requested,
          now: request.now,
        })
        return offer === 'full' ? 'full' : offer.address
      } catch (error) {
        if (isUnanswered(error)) return 'away'
        throw error
      }
    },
    async find(mac) {
      const lease = await away(ipam.findLease({mac}))
      if (!lease) return null
      return {
        address: lease.address,
        prefixId: lease.prefixId,
        kind: lease.kind === 'reservation' ? 'reserved' : 'dynamic',
        machineId: lease.machineId,
        expires_at: lease.expiresAt,
      }
    },
    async release(request) {
      await away(ipam.releaseLease({mac: request.mac, address: request.address, prefixId: request.prefixId}, request.now))
    },
    async decline(request) {
      const declined = await away(
        ipam.declineLease({mac: request.mac, address: request.address, prefixId: request.prefixId}, request.now),
      )
      log.warn({mac: request.mac, address: request.address, ...declined}, 'an address was declined')
    },
  }
}

async function away<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (isUnanswered(error) && !(error instanceof IngotError))
      throw new IngotError('DATABASE_AWAY', 'while a lease was handled', {cause: error})
    throw error
  }
}

/** query_canceled, the statement timeout: to a client that waits for its answer, a database that hangs is as good as away. */
function isUnanswered(error: unknown): boolean {
  return isAway(error) || sqlState(error) === '57014'
}
