/**
 * Allocation: one address, one holder.
 *
 * Who takes an address first locks the ranges of its prefix, so takers of one prefix queue up and each sees what the one before it did:
 * two never get one address, and "full" is said only when it is so. Order: the lowest address never used, then the one freed longest ago
 * that has cooled down. `next_address` of a range is a high-water mark: below it every address has a row, so the search for an unused one
 * starts there and the reuse of freed ones is an index scan. Behind the locks stands the unique index `one_holder_per_address`.
 */
import type {Mac} from '../../lib/addresses.ts'
import {type Db, sqlState, type Tx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {OWN_HOLDERS, SETTING_HOLDERS} from './holds.ts'
import {addressToInt, type IpAddress, parseAddress, spanContains, usableSpan} from './integers.ts'
import type {Allocation, BootAllocation, Holder, Prefix, Purpose} from './model.ts'
import type {RangeKind} from './prefix-input.ts'
import {selectGrowth} from './store/usage.ts'
import * as store from './store.ts'

export type AllocateRequest = {
  readonly holder: Exclude<Holder, {kind: 'range'}>
  readonly purpose: Purpose
  readonly reason: string
  /** MAC, or another name its DHCP client has: makes the allocation a reservation. */
  readonly clientKey?: string | null
  /** The machine's interface that it is for, by MAC or name. */
  readonly interface?: string | null
  /** Whose quota it is spent of. */
  readonly tenant?: string | null
  /** A hold: freed then, unless it is confirmed or renewed. */
  readonly expiresAt?: Date | null
}

export type AllocateInput = AllocateRequest & {
  readonly prefixId: string
  /** This one, in or outside the ranges. */
  readonly address?: string
  readonly range?: RangeKind
}

/** @throws IngotError PREFIX_EXHAUSTED, ADDRESS_TAKEN, CONFLICT, NOT_FOUND or INVALID_INPUT */
export function allocate(tx: Db, input: AllocateInput, actor: string, now: Date): Promise<Allocation> {
  return store.inTx(tx, async tx => {
    if (input.address === undefined) {
      const [allocation] = await allocateMany(tx, {prefixId: input.prefixId, range: input.range ?? 'static'}, [input], actor, now)
      if (!allocation) throw new Error('an allocation was neither made nor refused')
      return allocation
    }
    const wanted = toWanted(input)
    const prefix = await lockActive(tx, input.prefixId)
    const address = parseAddress(input.address)
    if (!address || !spanContains(usableSpan(prefix.cidr), address)) {
      const message = `${input.address} is not a host address of ${prefix.cidr}`
      throw new IngotError('INVALID_INPUT', message, {errors: [{field: 'address', code: 'outside', message}]})
    }
    return await takeNamed(tx, prefix.id, address, wanted, actor, now)
  })
}

/** All of them or none, in the order of the requests. */
export async function allocateMany(
  tx: Db,
  from: {readonly prefixId: string; readonly range?: RangeKind},
  requests: readonly AllocateRequest[],
  actor: string,
  now: Date,
): Promise<Allocation[]> {
  const wanted = requests.map(toWanted)
  return await store.inTx(tx, async tx => {
    const prefix = await lockActive(tx, from.prefixId)
    const kind = from.range ?? 'static'
    const undo = wanted.length > 1 ? await store.markSavepoint(tx) : undefined
    const taken = await take(tx, prefix, kind, wanted, actor, now)
    if (taken.length === wanted.length) return taken
    // What was taken so far goes back first: it must not count among those that fill the prefix.
    await undo?.()
    throw await exhausted(tx, prefix, kind, wanted.length, now)
  })
}

/** As many as there are, up to one for each of `wanted`; the ranges are locked. */
export async function take(
  tx: Tx,
  prefix: store.LockedPrefix,
  kind: RangeKind,
  wanted: readonly store.Wanted[],
  actor: string,
  now: Date,
): Promise<Allocation[]> {
  const taken: Allocation[] = []
  const add = (rows: readonly store.Taken[]) => {
    for (const row of rows) {
      const want = wanted[taken.length]
      if (want) taken.push(begun(row, prefix, want, actor))
    }
  }
  await namingBootConflict(wanted, async () => {
    for (const range of prefix.ranges) {
      if (range.kind !== kind || range.next === null || taken.length === wanted.length) continue
      const span = addressToInt(range.last) - addressToInt(range.next)
      const rest = wanted.slice(taken.length)
      add(await store.takeUnused(tx, prefix, range, Number(span < MOST_PROBES ? span : MOST_PROBES), rest, actor, now))
    }
    if (taken.length < wanted.length) {
      add(await store.takeCooled(tx, prefix, kind, wanted.slice(taken.length), actor, now))
    }
  })
  return taken
}

/** Only an IPv6 range is longer, and nobody fills that. */
const MOST_PROBES = 1n << 32n

/** Takes one address by name. While it cools it goes to nobody but its last holder, who alone may still use it. */
export async function takeNamed(
  tx: Tx,
  prefixId: string,
  address: IpAddress,
  wanted: store.Wanted,
  actor: string,
  now: Date,
  options: {readonly evenCooling?: boolean} = {},
): Promise<Allocation> {
  const before = await store.selectLastHold(tx, prefixId, address, wanted.holder)
  if (before && before.allocation.freedAt === null) throw taken(before.allocation)
  const cooling = before?.coolUntil && before.coolUntil > now ? before.coolUntil : undefined
  if (
    before &&
    cooling &&
    !before.allocation.anycast &&
    !options.evenCooling &&
    !sameHolder(before.allocation.holder, wanted.holder)
  ) {
    const last = nameOf(before.allocation.holder)
    throw new IngotError('ADDRESS_TAKEN', `${address} was freed by ${last} and cools down until ${cooling.toISOString()}`)
  }
  if (before?.conflict && !options.evenCooling) {
    throw new IngotError('ADDRESS_TAKEN', `${address} is nobody's, yet something answers at it: ${before.conflict}`, {
      mend: 'Find that device and switch it off or declare it; the address is looked at again by itself.',
    })
  }
  const row = await namingBootConflict([wanted], () => store.takeAddress(tx, prefixId, address, wanted, actor, now))
  const after = await store.selectLastHold(tx, prefixId, address, wanted.holder)
  if (!after) throw new Error(`${address} was taken by nobody`)
  if (!row) throw taken(after.allocation)
  return after.allocation
}

/** Ends a holding; ended already, it says how it ended. */
export function free(tx: Db, allocationId: string, actor: string, now: Date, reason?: string): Promise<Allocation> {
  return store.inTx(tx, async tx => {
    await store.lockAllocations(tx, [allocationId])
    const [allocation] = await store.selectAllocations(tx, store.whereAllocation(allocationId))
    if (!allocation) throw new IngotError('NOT_FOUND', `there is no allocation ${allocationId}`)
    if (allocation.freedAt !== null) return allocation
    const {holder, address, cidr} = allocation
    if (holder.kind === 'service' && SETTING_HOLDERS.includes(holder.name)) {
      throw new IngotError('CONFLICT', `${address} is held as ${allocation.reason} of prefix ${cidr}`, {
        mend: 'Change that setting of the prefix; its address is freed with it.',
      })
    }
    const [ended] = await store.endAllocations(tx, [allocationId], actor, now, reason)
    return ended ?? allocation
  })
}

/** @returns what was freed now; empty when nothing was held */
export function freeOfMachine(
  tx: Db,
  machineId: string,
  purposes: readonly Purpose[],
  actor: string,
  now: Date,
): Promise<Allocation[]> {
  return store.inTx(tx, async tx => {
    const held = await store.selectAllocations(tx, store.whereMachineHolds(machineId, purposes))
    return await endAddresses(
      tx,
      held.map(allocation => allocation.id),
      actor,
      now,
    )
  })
}

export async function endAddresses(
  tx: Tx,
  ids: readonly string[],
  actor: string,
  now: Date,
  reason?: string,
): Promise<Allocation[]> {
  if (ids.length === 0) return []
  await store.lockAllocations(tx, ids)
  return await store.endAllocations(tx, ids, actor, now, reason)
}

export type BootRequest = {readonly machineId: string; readonly name: string; readonly mac: Mac; readonly prefixId: string}

/**
 * The address a machine boots with, for good: the one it has; else the one its MAC leased while nobody knew it, passed on in one instant;
 * else a fresh static one. Its client key follows the MAC.
 */
export function bootAddress(tx: Db, request: BootRequest, actor: string, now: Date): Promise<BootAllocation> {
  return store.inTx(tx, async tx => {
    const {prefixId, mac} = request
    const holder = {kind: 'machine', machineId: request.machineId, name: request.name} as const
    const prefix = await store.lockPrefix(tx, prefixId)
    const [existing] = await store.selectAllocations(tx, store.whereMachineHolds(request.machineId, ['boot']))
    if (existing) {
      if (existing.clientKey !== mac) await store.updateClientKey(tx, existing.id, mac)
      return {...existing, clientKey: mac} as BootAllocation
    }
    const active = requireActive(prefix, prefixId)
    const wanted = {holder, purpose: 'boot', clientKey: mac} as const
    const leased = await store.selectAllocations(tx, store.whereClientHolds(prefixId, mac))
    const dynamic = leased.find(allocation => allocation.holder.kind === 'range')
    if (dynamic) {
      const reason = `boot address, taken over from the dynamic lease of ${mac}`
      const passed = await namingBootConflict([{...wanted, reason}], () =>
        store.handOver(tx, dynamic.id, {...wanted, reason}, actor, now),
      )
      if (passed) return begun(passed, active, {...wanted, reason}, actor) as BootAllocation
    }
    const [fresh] = await take(tx, active, 'static', [{...wanted, reason: 'boot address'}], actor, now)
    if (!fresh) throw await exhausted(tx, active, 'static', 1, now)
    return fresh as BootAllocation
  })
}

export async function lockActive(tx: Tx, prefixId: string): Promise<store.LockedPrefix> {
  return requireActive(await store.lockPrefix(tx, prefixId), prefixId)
}

function requireActive(prefix: store.LockedPrefix | undefined, id: string): store.LockedPrefix {
  if (!prefix) throw new IngotError('NOT_FOUND', `there is no prefix ${id}`)
  if (prefix.status === 'active') return prefix
  throw new IngotError('CONFLICT', `prefix ${prefix.cidr} is ${prefix.status}: it hands out no addresses`)
}

export function toWanted(request: AllocateRequest): store.Wanted {
  const {kind, name} = request.holder
  const own: readonly string[] = OWN_HOLDERS
  const message =
    name.trim() === ''
      ? 'a holder needs a name'
      : kind === 'service' && own.includes(name)
        ? `ipam itself uses the name ${name}`
        : ''
  if (message !== '') throw new IngotError('INVALID_INPUT', message, {errors: [{field: 'holder.name', code: 'name', message}]})
  return {
    holder: request.holder,
    purpose: request.purpose,
    reason: request.reason,
    clientKey: request.clientKey ?? null,
    interface: request.interface ?? null,
    tenant: request.tenant ?? null,
    expiresAt: request.expiresAt ?? null,
  }
}

function begun(row: store.Taken, prefix: Prefix, wanted: store.Wanted, actor: string): Allocation {
  return {
    id: row.id,
    address: row.address,
    prefixId: prefix.id,
    cidr: prefix.cidr,
    holder: wanted.holder,
    purpose: wanted.purpose,
    reason: wanted.reason,
    clientKey: wanted.clientKey,
    interface: wanted.interface ?? null,
    tenant: wanted.tenant ?? null,
    expiresAt: wanted.expiresAt ?? null,
    anycast: prefix.anycast,
    createdAt: row.created_at,
    createdBy: actor,
    freedAt: null,
    freedBy: null,
    freedReason: null,
  }
}

const BOOT_INDEX = 'one_boot_address_per_machine'

/** A machine has one boot address: the index says so, this says whose. */
async function namingBootConflict<T>(wanted: readonly store.Wanted[], work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (sqlState(error) !== '23505' || (error as {constraint?: string}).constraint !== BOOT_INDEX) throw error
    const names = wanted.filter(want => want.purpose === 'boot').map(want => nameOf(want.holder))
    throw new IngotError('CONFLICT', `${names.join(', ')} has a boot address already`, {cause: error})
  }
}

function taken(by: Allocation): IngotError {
  const why = by.reason === '' ? '' : ` (${by.reason})`
  return new IngotError(
    'ADDRESS_TAKEN',
    `${by.address} is held by ${nameOf(by.holder)} since ${by.createdAt.toISOString()}${why}`,
  )
}

export function sameHolder(a: Holder, b: Holder): boolean {
  if (a.kind === 'machine') return b.kind === 'machine' && a.machineId === b.machineId
  return a.kind === b.kind && a.name === b.name
}

export function nameOf(holder: {kind: Holder['kind']; name: string}): string {
  return holder.kind === 'range' ? `DHCP client ${holder.name}` : `${holder.kind} ${holder.name}`
}

/** @returns the error that names what fills the prefix and when the next address comes free */
export async function exhausted(tx: Db, prefix: Prefix, kind: RangeKind, wanted: number, now: Date): Promise<IngotError> {
  const usage = (await store.selectUsage(tx, [prefix.id], now)).find(row => row.kind === kind)
  const holders = await store.selectBiggestHolders(tx, prefix.id, kind, 3)
  const ranges = prefix.ranges.filter(range => range.kind === kind).map(range => `${range.first}–${range.last}`)
  if (ranges.length === 0) return new IngotError('PREFIX_EXHAUSTED', `prefix ${prefix.cidr} has no ${kind} range`)
  const cooling = usage?.free_at
    ? `${usage.cooling} cooling, the first of them until ${usage.free_at.toISOString()}`
    : '0 cooling'
  const growth = (await selectGrowth(tx, [prefix.id], GROWTH_DAYS, now)).get(prefix.id) ?? 0
  const rate = growth > 0 ? `; it grew by ${Math.round(growth * 10) / 10} a day over ${GROWTH_DAYS} days, so 0 days are left` : ''
  const users = holders.map(row => `${nameOf({kind: row.holder_kind, name: row.holder})} (${row.addresses})`).join(', ')
  return new IngotError(
    'PREFIX_EXHAUSTED',
    `prefix ${prefix.cidr} cannot give ${wanted} ${kind} address${wanted === 1 ? '' : 'es'} of ${ranges.join(', ')}: ` +
      `${usage?.held ?? 0} held, ${cooling}; biggest holders: ${users || 'none'}${rate}`,
  )
}

const GROWTH_DAYS = 30
