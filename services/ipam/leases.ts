/** Leases: the DHCP clock on an address that a machine or, for clients nobody declared, a dynamic range holds. What dhcpd asks of ipam. */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import {type Db, sqlState, type Tx, withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {endAddresses, exhausted, take, takeNamed} from './allocate.ts'
import {OFFER_S} from './blocks.ts'
import {addressToInt} from './integers.ts'
import type {Allocation, Lease} from './model.ts'
import * as binds from './store/binds.ts'
import * as store from './store.ts'

const DECLINED_S = 86_400
const ACTOR = 'dhcpd'

export type DynamicRequest = {
  readonly mac: Mac
  /** Option 61 in hexadecimal: recorded, never the identity. */
  readonly clientId?: string | null
  readonly prefixId: string
  /** The address the client asks for (option 50), if it is to be had. */
  readonly requested?: Ipv4 | null
  readonly now: Date
}

export type BindRequest = {
  readonly mac: Mac
  readonly clientId: string | null
  readonly address: Ipv4
  /** Needed only where VRFs use the same addresses. */
  readonly prefixId?: string | null
  readonly machineId?: string | null
  readonly leaseS: number
  readonly kind: 'reservation' | 'dynamic'
  /** What it was offered: a new address, which it takes with this; or the one it had, which may be its still, or free. */
  readonly offered?: 'new' | 'before'
}

/** `taken`: another holds the address. `gone`: nobody does, any more. */
export type BindResult = 'bound' | {readonly refused: 'taken' | 'gone'}

export type LeaseKey = {readonly mac: Mac; readonly address: Ipv4; readonly prefixId?: string | null}

/**
 * The address to offer, kept for this client for a minute. In order (RFC 2131 §4.3.1): the one it has, the one it had last, the one it
 * asks for, another. A client whose machine took its address over gets that one.
 */
export function offerDynamic(db: Db, request: DynamicRequest, log: Log): Promise<{address: Ipv4} | 'full'> {
  const {mac, prefixId, now} = request
  return withTx(db, async tx => {
    const prefix = await store.lockPrefix(tx, prefixId)
    if (!prefix) throw new IngotError('NOT_FOUND', `there is no prefix ${prefixId}`)
    const allocation = (await currentOf(tx, prefixId, mac)) ?? (await renewedFor(tx, prefix, request))
    if (!allocation) {
      log.warn(
        {prefix: prefix.cidr, mac, detail: (await exhausted(tx, prefix, 'dynamic', 1, now)).detail},
        'no dynamic address is free',
      )
      return 'full'
    }
    if (allocation.holder.kind === 'range') {
      await store.upsertOffer(tx, allocation.id, mac, hexOf(request.clientId), now, after(now, OFFER_S))
    }
    return {address: allocation.address as Ipv4}
  })
}

/**
 * Binds all requests, each bound one committed when this resolves, and says for each, in order, whether the address is now this client's.
 * Most are renewals, or take a free address that was offered: a statement each for all of them. The rest goes the careful way.
 * @param by the process that binds
 */
export async function bindLeases(
  db: Db,
  requests: readonly BindRequest[],
  now: Date,
  by: string | null = null,
): Promise<BindResult[]> {
  const rows = requests.map(request => ({
    mac: request.mac,
    clientId: hexOf(request.clientId),
    address: request.address,
    prefixId: request.prefixId ?? null,
    machineId: request.machineId ?? null,
    leaseS: request.leaseS,
  }))
  const results = rows.map((): BindResult => ({refused: 'gone'}))
  const attempt = async (
    isMeant: (request: BindRequest) => boolean,
    bind: (some: readonly store.BindRow[]) => Promise<number[]>,
  ) => {
    const places = requests.flatMap((request, place) =>
      results[place] !== 'bound' && request.prefixId && isMeant(request) ? [place] : [],
    )
    if (places.length === 0) return
    const some = places.flatMap(place => rows[place] ?? [])
    for (const n of await withoutDeadlock(() => bind(some))) results[places[n - 1] ?? -1] = 'bound'
  }
  await attempt(
    request => request.offered !== 'new',
    some => binds.renewLeases(db, some, by, now),
  )
  await attempt(
    request => request.offered !== undefined,
    some => binds.bindFree(db, some, by, ACTOR, now),
  )
  const left = [...rows.keys()].filter(place => results[place] !== 'bound')
  if (left.length === 0) return results
  const careful = await bindCarefully(
    db,
    left.flatMap(place => rows[place] ?? []),
    now,
    by,
  )
  for (const [index, place] of left.entries()) results[place] = careful[index] ?? {refused: 'gone'}
  return results
}

function bindCarefully(db: Db, rows: readonly store.BindRow[], now: Date, by: string | null): Promise<BindResult[]> {
  return withTx(db, async tx => {
    const results = rows.map((): BindResult => ({refused: 'gone'}))
    const bind = async (places: readonly number[]) => {
      const bound = await store.upsertLeases(
        tx,
        places.flatMap(place => rows[place] ?? []),
        by,
        now,
      )
      for (const n of bound) results[places[n - 1] ?? -1] = 'bound'
    }
    await bind([...rows.keys()])
    const refused = [...rows.keys()].filter(place => results[place] !== 'bound')
    if (refused.length === 0) return results
    // Once more, for one that waited while its address was handed over: the holder it saw is gone, the new one has the same client.
    const free = refused.filter(
      place => !results.some((result, other) => result === 'bound' && sameAddress(rows[place], rows[other])),
    )
    if (free.length > 0) await bind(free)
    const asked = refused.flatMap(place => rows[place] ?? [])
    const held = new Set(await store.selectHeld(tx, asked))
    for (const [index, place] of refused.entries()) {
      if (results[place] !== 'bound' && held.has(index + 1)) results[place] = {refused: 'taken'}
    }
    return results
  })
}

/** A statement alone is a transaction alone: told that it met another head-on, it is simply sent again. */
async function withoutDeadlock<T>(statement: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await statement()
    } catch (error) {
      if (tries >= 4 || sqlState(error) !== '40P01') throw error
    }
  }
}

/** The latest lease of a client that it may still mean, over or not; released and declined ones are not meant. */
export async function findLease(db: Db, filter: {mac: Mac; address?: Ipv4; prefixId?: string}): Promise<Lease | null> {
  const leases = (await store.selectLeases(db, filter)).filter(lease => lease.state !== 'released' && lease.state !== 'declined')
  return leases.find(lease => lease.held) ?? leases[0] ?? null
}

/**
 * RFC 2131 §4.3.4: a dynamic address is freed, a machine keeps its own. Another process that bound the lease too may prolong it while the
 * database is away, not knowing of this: then the address cools down for at least as long as that could be.
 * @param by  the process that was told
 * @returns false when it was not this client's lease
 */
export function releaseLease(db: Db, key: LeaseKey, now: Date, by: string | null = null): Promise<boolean> {
  return withTx(db, async tx => {
    const hold = await store.lockLeaseHold(tx, key.mac, key.address, key.prefixId ?? null)
    if (!hold) return false
    const known = hold.bound_by === by || hold.bound_by === null || hold.holder_kind !== 'range'
    if (known) await store.updateLease(tx, hold.address_id, 'released', now, now)
    if (hold.holder_kind === 'range') await endAddresses(tx, [hold.allocation_id], ACTOR, now)
    return true
  })
}

export type Declined = {readonly event: string} | {readonly ignored: 'not_this_client'}

/**
 * RFC 2131 §4.3.3: the client saw somebody else use its address. A dynamic one is out of use for a day, or until a person frees it.
 * A machine keeps its reservation (a forged packet must not take it away); the event asks a person to look.
 */
export function declineLease(db: Db, key: LeaseKey, now: Date): Promise<Declined> {
  return withTx(db, async tx => {
    const {mac, address} = key
    const hold = await store.lockLeaseHold(tx, mac, address, key.prefixId ?? null)
    if (!hold) return {ignored: 'not_this_client'}
    if (hold.holder_kind !== 'range') {
      await store.updateLease(tx, hold.address_id, 'declined', now, now)
      return {event: `${mac} declined ${address}, reserved for machine ${hold.holder}: another device uses the address`}
    }
    const until = after(now, DECLINED_S)
    const reason = `declined by ${mac}: another device uses the address`
    const wanted = {holder: {kind: 'service', name: 'declined'}, purpose: 'service', reason, clientKey: null} as const
    await store.handOver(tx, hold.allocation_id, wanted, ACTOR, now)
    await store.updateLease(tx, hold.address_id, 'declined', until, now)
    return {event: `${mac} declined ${address}: another device uses it; the address is out of use until ${until.toISOString()}`}
  })
}

/** Ends what is over by `now`, which should be the database's: dynamic addresses are freed and cool down, machines keep theirs. */
export function expireLeases(db: Db, now: Date): Promise<{readonly expired: number; readonly freed: readonly Allocation[]}> {
  return withTx(db, async tx => {
    const {ending, expired} = await store.expireLeases(tx, now)
    return {expired, freed: await endAddresses(tx, ending, ACTOR, now)}
  })
}

/** Offered and bound leases whose addresses are still their clients'. */
export function liveLeases(db: Db, prefixId?: string): Promise<Lease[]> {
  return store.selectLeases(db, {live: true, ...(prefixId === undefined ? {} : {prefixId})})
}

async function currentOf(tx: Tx, prefixId: string, mac: Mac): Promise<Allocation | undefined> {
  const held = await store.selectAllocations(tx, store.whereClientHolds(prefixId, mac))
  const dynamic = held.find(allocation => allocation.holder.kind === 'range')
  if (!dynamic) return held[0]
  // An expiry in flight may be freeing it: wait for that, then look again.
  await store.lockAllocations(tx, [dynamic.id])
  const [still] = await store.selectAllocations(tx, store.whereAllocation(dynamic.id))
  return still?.freedAt === null ? still : undefined
}

async function renewedFor(tx: Tx, prefix: store.LockedPrefix, request: DynamicRequest): Promise<Allocation | undefined> {
  if (prefix.status !== 'active') return undefined
  const {mac, now} = request
  const wanted = {
    holder: {kind: 'range', name: mac},
    purpose: 'dynamic',
    reason: `dynamic lease of ${mac}`,
    clientKey: null,
  } as const
  const isDynamic = (address: Ipv4) =>
    prefix.ranges.some(
      range =>
        range.kind === 'dynamic' &&
        addressToInt(address) >= addressToInt(range.first) &&
        addressToInt(address) <= addressToInt(range.last),
    )
  const previous = await store.selectPreviousAddress(tx, prefix.id, mac)
  const asked = [previous, request.requested].filter(address => address !== undefined && address !== null).filter(isDynamic)
  for (const address of asked) {
    try {
      return await takeNamed(tx, prefix.id, address, wanted, ACTOR, now)
    } catch (error) {
      // Held or cooling for another: the next in order.
      if (!(error instanceof IngotError) || error.code !== 'ADDRESS_TAKEN') throw error
    }
  }
  const [fresh] = await take(tx, prefix, 'dynamic', [wanted], ACTOR, now)
  return fresh
}

function hexOf(clientId: string | null | undefined): string | null {
  const bytes = clientId === undefined || clientId === null ? undefined : parseHex(clientId)
  return bytes === undefined ? null : Buffer.from(bytes).toString('hex')
}

function sameAddress(a: store.BindRow | undefined, b: store.BindRow | undefined): boolean {
  return a !== undefined && b !== undefined && a.address === b.address && a.prefixId === b.prefixId
}

function after(now: Date, seconds: number): Date {
  return new Date(now.getTime() + seconds * 1000)
}
