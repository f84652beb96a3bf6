/** What must be done now and then, whoever runs: leases expire, partitions are made and dropped, old rows go. */
import {type Clock, sleep} from '../../lib/clock.ts'
import type {Db} from '../../lib/db.ts'
import type {Log} from '../../lib/log.ts'
import {deleteIdempotencyKeys} from '../api/index.ts'
import type {Evidence} from '../evidence/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import {databaseNow, forgetIdleQueues, lookAtPower} from '../lifecycle/index.ts'
import type {Power} from '../power/index.ts'
import {createExpiryGuard, type ExpiryGuard} from './expiry-guard.ts'
import {watchRanges} from './range-watch.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** RFC 2131 §3.3 */
const ENDLESS_S = 0xffffffff
const LEAST_FREEZE_S = 3_600

type Parts = {
  db: Db
  evidence: Evidence
  inventory: Inventory
  ipam: Ipam
  power: Power
  clock: Clock
  log: Log
  retentionDays: number
}

export function startHousekeeping(parts: Parts): {stop(): Promise<void>} {
  const stopping = new AbortController()
  const guard = createExpiryGuard(() => longestLease(parts.ipam), parts.clock, parts.log)
  const loops = choresOf(parts, guard, stopping.signal).map(async ([name, everyMs, work]) => {
    while (!stopping.signal.aborted) {
      try {
        await work(await databaseNow(parts.db))
      } catch (error) {
        parts.log.warn({chore: name, err: error}, 'a chore failed; it is done again in its time')
      }
      await sleep(everyMs, stopping.signal)
    }
  })
  return {
    async stop() {
      stopping.abort()
      await Promise.all(loops)
    },
  }
}

export type Chore = readonly [name: string, everyMs: number, work: (now: Date) => Promise<unknown>]

/** @param guard says whether the clock may be believed when it ends leases */
export function choresOf(parts: Parts, guard: Pick<ExpiryGuard, 'mayExpire'>, signal: AbortSignal): readonly Chore[] {
  return [
    ['expire leases', 10_000, async now => (await guard.mayExpire(now)) && (await parts.ipam.expireLeases(now))],
    // Twenty machines a round: ten a second at most, whatever the site's size.
    ['look at power', 2_000, now => lookAtPower(parts, now, signal)],
    ['end holds', 10_000, now => endHolds(parts, now)],
    ['look at freed addresses', 15_000, now => lookAtFreed(parts, now)],
    ['join free blocks', 60_000, now => parts.ipam.settleFreeBlocks(now)],
    ['watch ranges', 60_000, now => watchRanges(parts, now)],
    ['expire sightings', 5 * 60_000, now => parts.inventory.expireSightings(new Date(now.getTime() - DAY_MS))],
    ['keep partitions', HOUR_MS, now => parts.evidence.keepPartitions(now, parts.retentionDays)],
    ['forget counters', HOUR_MS, now => parts.evidence.forgetCounters(new Date(now.getTime() - DAY_MS))],
    ['forget idle queues', HOUR_MS, () => forgetIdleQueues(parts.db)],
    ['forget idempotency keys', HOUR_MS, now => deleteIdempotencyKeys(parts.db, new Date(now.getTime() - 2 * DAY_MS))],
  ]
}

async function endHolds({db, ipam, evidence}: Parts, now: Date): Promise<void> {
  for (const {address, holder} of await ipam.expireHolds(now)) {
    const detail = {holder: holder.name, reason: 'its hold was over'}
    await evidence.changed(db, {at: now, actor: 'ipam', kind: 'address_freed', subject: address, detail})
  }
}

/** What answers at an address that nobody holds keeps it out of use; people are told. */
async function lookAtFreed({db, ipam, evidence, log}: Parts, now: Date): Promise<void> {
  for (const {address, cidr, seen} of await ipam.probeFreed(now)) {
    log.warn({address, prefix: cidr, seen}, 'something answers at an address that was freed; it is not given to anybody')
    await evidence.changed(db, {at: now, actor: 'ipam', kind: 'address_conflict', subject: address, detail: {prefix: cidr, seen}})
  }
}

/** Of those that end at all. */
async function longestLease(ipam: Ipam): Promise<number> {
  const leases_s = (await ipam.listPrefixes()).map(prefix => prefix.lease_s).filter(lease_s => lease_s < ENDLESS_S)
  return Math.max(LEAST_FREEZE_S, ...leases_s)
}
