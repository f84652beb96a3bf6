/** Prefixes: made under constraints that refuse overlaps, listed with their utilisation, changed together with the addresses they use. */
import {type Cidr, parseCidr} from '../../lib/addresses.ts'
import type {Db, Tx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {endAddresses, takeNamed} from './allocate.ts'
import {sizeOf} from './free-space.ts'
import {type Hold, SETTING_HOLDERS, settingHolds} from './holds.ts'
import {addressToInt, type IpAddress} from './integers.ts'
import type {ContainerUse, Prefix, PrefixFilter, PrefixWithUse, Use} from './model.ts'
import {
  type CheckedPrefix,
  type CheckedRange,
  checkChange,
  checkPrefix,
  type PrefixChange,
  type PrefixInput,
  type RangeKind,
} from './prefix-input.ts'
import {namingRefusal} from './refusals.ts'
import * as tree from './store/tree.ts'
import * as store from './store.ts'
import {giveBack, leaveToParent, lockPlace, takePlace} from './tree.ts'

export async function createPrefix(tx: Db, input: PrefixInput, actor: string, now: Date): Promise<PrefixWithUse> {
  const checked = checkPrefix(input)
  return await store.inTx(tx, async tx => {
    await tree.insertVrf(tx, checked.vrf, '')
    const parent = await lockPlace(tx, checked)
    const id = await addPrefix(tx, checked, actor, now)
    await takePlace(tx, {...checked, id}, parent)
    return await requirePrefix(tx, id, now)
  })
}

/** The prefix with its ranges and the addresses its settings hold; the tree is the caller's. */
export async function addPrefix(tx: Tx, checked: CheckedPrefix, actor: string, now: Date): Promise<string> {
  const undo = await store.markSavepoint(tx)
  const id = await namingRefusal(undo, () => store.insertPrefix(tx, checked, now))
  if (id === undefined) throw await overlap(tx, checked)
  await tree.adoptAddresses(tx, id)
  await store.insertRanges(tx, id, checked.ranges)
  if (!checked.anycast) for (const hold of settingHolds(checked)) await takeForSetting(tx, id, hold, actor, now)
  return id
}

/** Also frees and takes the addresses that a changed setting no longer uses or now uses, and moves ranges out of the gateway's way. */
export function updatePrefix(tx: Db, id: string, change: PrefixChange, actor: string, now: Date): Promise<PrefixWithUse> {
  return store.inTx(tx, async tx => {
    await store.lockPrefix(tx, id)
    const prefix = await requirePrefix(tx, id, now)
    const {settings, naming, ranges} = checkChange(prefix, change)
    await store.updateNaming(tx, id, naming)
    if (settings.gateway !== prefix.gateway) await store.clearGateway(tx, id)
    await changeRanges(tx, prefix, ranges)
    await store.updateSettings(tx, id, settings)
    const wanted = prefix.anycast ? [] : settingHolds({...settings, cidr: prefix.cidr})
    const current = await store.selectAllocations(tx, store.whereServiceHolds(id, SETTING_HOLDERS))
    const stays = (hold: Hold) =>
      current.some(had => had.address === hold.address && had.holder.name === hold.holder && had.reason === hold.reason)
    const kept = wanted.filter(stays).map(hold => hold.address)
    const over = current.filter(allocation => !kept.includes(allocation.address)).map(allocation => allocation.id)
    await endAddresses(tx, over, actor, now)
    for (const hold of wanted) if (!kept.includes(hold.address)) await takeForSetting(tx, id, hold, actor, now)
    return await requirePrefix(tx, id, now)
  })
}

/** A range of the same kind that a wanted one overlaps becomes it, so that its mark is kept; what shrinks goes before what grows. */
async function changeRanges(tx: Tx, prefix: Prefix, wanted: readonly CheckedRange[]): Promise<void> {
  const rest = [...prefix.ranges]
  const fresh: CheckedRange[] = []
  const moved: {id: string; first: IpAddress; last: IpAddress; grows: boolean}[] = []
  for (const range of wanted) {
    const [first, last] = [addressToInt(range.first), addressToInt(range.last)]
    const at = rest.findIndex(
      had => had.kind === range.kind && addressToInt(had.first) <= last && addressToInt(had.last) >= first,
    )
    const [had] = at < 0 ? [] : rest.splice(at, 1)
    if (!had) fresh.push(range)
    else if (had.first !== range.first || had.last !== range.last) {
      moved.push({...range, id: had.id, grows: addressToInt(had.first) > first || addressToInt(had.last) < last})
    }
  }
  await store.deleteRanges(
    tx,
    rest.map(range => range.id),
  )
  for (const range of moved.toSorted((a, b) => Number(a.grows) - Number(b.grows)))
    await store.updateRange(tx, range.id, range.first, range.last)
  await store.insertRanges(tx, prefix.id, fresh)
}

/**
 * Removes a prefix that nobody uses. Its addresses keep their history and cool down where they are; a container leaves its prefixes to the
 * container around it.
 * @param cooling for a prefix that was held whole: until when nobody else may have its place
 */
export function removePrefix(
  tx: Db,
  id: string,
  actor: string,
  now: Date,
  cooling?: {at: Date; coolUntil: Date},
): Promise<Prefix> {
  return store.inTx(tx, async tx => {
    const found = await requirePrefix(tx, id, now)
    const parent = await lockPlace(tx, found)
    await store.lockPrefix(tx, id)
    await tree.lockForRemoval(tx, id)
    const obstacle = await tree.selectObstacle(tx, id, SETTING_HOLDERS)
    if (obstacle) {
      throw new IngotError(
        'CONFLICT',
        `${obstacle.what} of prefix ${found.cidr} is held by ${obstacle.holder_kind} ${obstacle.holder}`,
      )
    }
    const settings = await store.selectAllocations(tx, store.whereServiceHolds(id, SETTING_HOLDERS))
    await endAddresses(
      tx,
      settings.map(allocation => allocation.id),
      actor,
      now,
    )
    if (found.status === 'container') await leaveToParent(tx, found, parent, now)
    await tree.deletePrefix(tx, id)
    if (found.status !== 'container' && parent) await giveBack(tx, parent, found.cidr, now, cooling)
    return found
  })
}

export async function listPrefixes(db: Db, filter: PrefixFilter, now: Date): Promise<PrefixWithUse[]> {
  return await withUse(db, await store.selectPrefixes(db, store.whereFilter(filter), filter.limit ?? null), now)
}

/** @param idOrCidr a network is looked up in the VRF named */
export async function getPrefix(db: Db, idOrCidr: string, vrf: string, now: Date): Promise<PrefixWithUse | null> {
  const cidr = parseCidr(idOrCidr)
  if (!cidr && !UUID.test(idOrCidr)) return null
  const where = cidr ? store.whereCidr(cidr, vrf) : store.whereId(idOrCidr)
  const [prefix] = await withUse(db, await store.selectPrefixes(db, where), now)
  return prefix ?? null
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** The prefix that hands an address out; containers do not. */
export async function findPrefixOf(db: Db, address: IpAddress, vrf: string): Promise<Prefix | null> {
  const [prefix] = await store.selectPrefixes(db, store.whereContains(address, vrf))
  return prefix ?? null
}

export function rangeSize(ranges: Prefix['ranges'], kind: RangeKind): number {
  return ranges
    .filter(range => range.kind === kind)
    .reduce((size, range) => size + Number(addressToInt(range.last) - addressToInt(range.first) + 1n), 0)
}

export async function withUse(db: Db, prefixes: readonly Prefix[], now: Date): Promise<PrefixWithUse[]> {
  const ids = (wanted: boolean) => prefixes.filter(prefix => (prefix.status === 'container') === wanted).map(prefix => prefix.id)
  const usage = await store.selectUsage(db, ids(false), now)
  const use = (prefix: Prefix, kind: RangeKind): Use => {
    const row = usage.find(row => row.prefix_id === prefix.id && row.kind === kind)
    return {size: rangeSize(prefix.ranges, kind), held: row?.held ?? 0, cooling: row?.cooling ?? 0}
  }
  const containers = ids(true)
  const free = containers.length === 0 ? [] : await tree.selectContainerUse(db, containers, now)
  const containerUse = (prefix: Prefix): ContainerUse | null => {
    if (prefix.status !== 'container') return null
    const row = free.find(row => row.container_id === prefix.id)
    const size = sizeOf(prefix.cidr)
    return {size, used: size - (row?.free ?? 0), cooling: row?.cooling ?? 0}
  }
  return prefixes.map(prefix => ({
    ...prefix,
    utilisation: {static: use(prefix, 'static'), dynamic: use(prefix, 'dynamic'), container: containerUse(prefix)},
  }))
}

export async function requirePrefix(tx: Tx, id: string, now: Date): Promise<PrefixWithUse> {
  const prefix = await getPrefix(tx, id, '', now)
  if (!prefix) throw new IngotError('NOT_FOUND', `there is no prefix ${id}`)
  return prefix
}

/** A person or service that already holds the address by name keeps it; a machine or a DHCP client stands in the way. */
async function takeForSetting(tx: Tx, prefixId: string, hold: Hold, actor: string, now: Date): Promise<void> {
  const last = await store.selectLastHold(tx, prefixId, hold.address)
  const live = last?.allocation.freedAt === null ? last.allocation.holder.kind : undefined
  if (live === 'service' || live === 'person') return
  const wanted = {
    holder: {kind: 'service', name: hold.holder},
    purpose: 'service',
    reason: hold.reason,
    clientKey: null,
  } as const
  await takeNamed(tx, prefixId, hold.address, wanted, actor, now, {evenCooling: true})
}

async function overlap(tx: Tx, wanted: {cidr: Cidr; status: string; vrf: string}): Promise<IngotError> {
  const [other] = await store.selectPrefixes(tx, store.whereOverlaps(wanted.cidr, wanted.status, wanted.vrf))
  const name = other ? `prefix ${other.cidr} (${other.status}, ${other.id})` : 'another prefix'
  return new IngotError('CONFLICT', `${wanted.cidr} overlaps ${name} in VRF ${wanted.vrf}`)
}
