/** Prefixes: made under constraints that refuse overlaps, listed with their utilisation, changed together with the addresses they use. */
import {type Cidr, parseCidr} from '../../lib/addresses.ts'
import type {Db, Tx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {endAddresses, takeNamed} from './allocate.ts'
import {type Hold, SETTING_HOLDERS, settingHolds} from './holds.ts'
import {addressToInt, type IpAddress} from './integers.ts'
import type {Prefix, PrefixWithUse, Use} from './model.ts'
import {checkChange, checkPrefix, type PrefixInput, type PrefixSettings, type RangeKind} from './prefix-input.ts'
import * as store from './store.ts'

export async function createPrefix(tx: Db, input: PrefixInput, actor: string, now: Date): Promise<PrefixWithUse> {
  const checked = checkPrefix(input)
  return await store.inTx(tx, async tx => {
    await store.insertVrf(tx, checked.vrf)
    const id = await store.insertPrefix(tx, checked, now)
    if (id === undefined) throw await overlap(tx, checked)
    await store.insertRanges(tx, id, checked.ranges)
    for (const hold of settingHolds(checked)) await takeForSetting(tx, id, hold, actor, now)
    return await requirePrefix(tx, id, now)
  })
}

/** Also frees and takes the addresses that a changed setting no longer uses or now uses. */
export function updatePrefix(tx: Db, id: string, change: PrefixSettings, actor: string, now: Date): Promise<PrefixWithUse> {
  return store.inTx(tx, async tx => {
    await store.lockPrefix(tx, id)
    const prefix = await requirePrefix(tx, id, now)
    const settings = checkChange(prefix, change)
    await store.updateSettings(tx, id, settings)
    const wanted = settingHolds({...settings, cidr: prefix.cidr})
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

export async function listPrefixes(db: Db, now: Date): Promise<PrefixWithUse[]> {
  return await withUse(db, await store.selectPrefixes(db), now)
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

async function withUse(db: Db, prefixes: readonly Prefix[], now: Date): Promise<PrefixWithUse[]> {
  const ids = prefixes.map(prefix => prefix.id)
  const usage = await store.selectUsage(db, ids, now)
  const use = (prefix: Prefix, kind: RangeKind): Use => {
    const row = usage.find(row => row.prefix_id === prefix.id && row.kind === kind)
    return {size: rangeSize(prefix.ranges, kind), held: row?.held ?? 0, cooling: row?.cooling ?? 0}
  }
  return prefixes.map(prefix => ({...prefix, utilisation: {static: use(prefix, 'static'), dynamic: use(prefix, 'dynamic')}}))
}

async function requirePrefix(tx: Tx, id: string, now: Date): Promise<PrefixWithUse> {
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
