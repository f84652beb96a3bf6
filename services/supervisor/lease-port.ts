/** dhcpd's lease port over ipam: the two speak the same of addresses, and this is where their words meet. */
import {isAway, sqlState} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {BindResult, Blocks, Leases} from '../dhcpd/index.ts'
import {BLOCK_S, type Ipam} from '../ipam/index.ts'

const PROLONG_EVERY_MS = 5_000
/** News are looked for a little further back than the last look: a commit may be seen later than its time says. */
const NEWS_OVERLAP_MS = 30_000

/**
 * @param owner this process, from its start to its end
 * @param now   by the database's clock
 */
export function createBlockPort(ipam: Ipam, owner: string, now: () => Date): Blocks {
  let lookedAt = now()
  return {
    lasts_s: BLOCK_S,
    prolongEvery_ms: PROLONG_EVERY_MS,
    claim: (prefixId, addresses) => ipam.claimBlocks({prefixId, owner, addresses, now: now()}),
    prolong: ids => ipam.prolongBlocks(ids, owner, now()),
    giveBack: ids => ipam.giveBackBlocks(ids, owner, now()),
    known: () => ipam.knownLeases(),
    async news() {
      const since = new Date(lookedAt.getTime() - NEWS_OVERLAP_MS)
      const looking = now()
      const leases = await ipam.leasesOfOthers(owner, since)
      lookedAt = looking
      return leases
    },
  }
}

export function createLeasePort(ipam: Ipam, log: Log, owner: string, now: () => Date): Leases {
  return {
    async bind(requests) {
      if (requests.length === 0) return []
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
            ...(request.offered ? {offered: request.offered} : {}),
          })),
          now(),
          owner,
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
          now: now(),
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
      await away(ipam.releaseLease({mac: request.mac, address: request.address, prefixId: request.prefixId}, now(), owner))
    },
    async decline(request) {
      const declined = await away(
        ipam.declineLease({mac: request.mac, address: request.address, prefixId: request.prefixId}, now()),
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
