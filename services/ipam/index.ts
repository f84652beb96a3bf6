/**
 * Ipam: VRFs, prefixes, ranges, addresses, allocations, leases; and the promise that an address has at most one holder at every instant.
 *
 * A function that takes `tx` first works in that transaction (READ COMMITTED), or in one of its own when given the database itself.
 */
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Db} from '../../lib/db.ts'
import type {Log} from '../../lib/log.ts'
import * as allocate from './allocate.ts'
import * as asking from './ask.ts'
import * as blocks from './blocks.ts'
import * as delegations from './delegations.ts'
import {sizeOf} from './free-space.ts'
import {createGrouped, type Grouped} from './grouped.ts'
import * as history from './history.ts'
import * as holdings from './holdings.ts'
import type {IpAddress} from './integers.ts'
import * as leases from './leases.ts'
import type {
  Allocation,
  BootAllocation,
  Delegation,
  IpamSnapshot,
  Lease,
  PastAllocation,
  Prefix,
  PrefixFilter,
  PrefixWithUse,
  Purpose,
} from './model.ts'
import {lookForNeighbour} from './neighbour.ts'
import {createPlaces, type Places} from './places.ts'

import type {PrefixChange, PrefixInput, RangeKind} from './prefix-input.ts'
import * as prefixes from './prefixes.ts'
import * as probe from './probe.ts'
import {type ReportRow, readReport} from './report.ts'
import {readSnapshot} from './snapshot.ts'
import {type Cell, selectAddressCells, selectPrefixCells} from './store/map.ts'
import {type FreeBlock, selectFree} from './store/tree.ts'
import * as usage from './store/usage.ts'
import {inTx, lowestFirst, selectAllocations, whereLiveIn} from './store.ts'
import {settleFreeBlocks} from './tree.ts'

export type {AllocateInput, AllocateRequest, BootRequest} from './allocate.ts'
export type {Ask, From} from './ask.ts'
export {BLOCK_S, type Block, type BlockClaim, type KnownLease, OFFER_S} from './blocks.ts'
export type {Carve, Carved} from './delegations.ts'
export type {GroupedRequest} from './grouped.ts'
export type {Past} from './history.ts'
export type {Move} from './holdings.ts'
export type {IpAddress} from './integers.ts'
export type {BindRequest, BindResult, Declined, DynamicRequest, LeaseKey} from './leases.ts'
export type {
  Aggregate,
  Allocation,
  BootAllocation,
  Delegation,
  Holder,
  IpamSnapshot,
  Lease,
  LeaseState,
  PastAllocation,
  Pool,
  Prefix,
  PrefixFilter,
  PrefixWithUse,
  Purpose,
  Quota,
  Range,
  Reservation,
  Tenant,
  TenantUse,
  Use,
  Vrf,
} from './model.ts'
export type {PrefixChange, PrefixInput, PrefixSettings, PrefixStatus, RangeInput, RangeKind} from './prefix-input.ts'

export type {Conflict, Look} from './probe.ts'
export type {ReportRow} from './report.ts'

export type Ipam = Places & {
  createPrefix(tx: Db, input: PrefixInput, actor: string): Promise<PrefixWithUse>
  removePrefix(tx: Db, id: string, actor: string): Promise<Prefix>
  updatePrefix(tx: Db, id: string, change: PrefixChange, actor: string): Promise<PrefixWithUse>
  listPrefixes(filter?: PrefixFilter): Promise<PrefixWithUse[]>
  /** @param vrf where a network is looked up; `default` unless named */
  getPrefix(idOrCidr: string, vrf?: string, tx?: Db): Promise<PrefixWithUse | null>
  findPrefixOf(address: IpAddress, vrf?: string): Promise<Prefix | null>

  allocate(tx: Db, input: allocate.AllocateInput, actor: string, now: Date): Promise<Allocation>
  /** All or none, in the order of the requests, in a few statements whatever their number. */
  allocateMany(
    tx: Db,
    from: {readonly prefixId: string; readonly range?: RangeKind},
    requests: readonly allocate.AllocateRequest[],
    actor: string,
    now: Date,
  ): Promise<Allocation[]>
  /** Of a prefix, a pool, or whatever prefixes fit; all or none. */
  ask(tx: Db, request: asking.Ask, actor: string, now: Date): Promise<Allocation[]>
  /** For single askers without a transaction of their own: those who come while another commits are served together. */
  allocateGrouped: Grouped
  /** A whole prefix out of a container. */
  carve(tx: Db, request: delegations.Carve, actor: string, now: Date): Promise<delegations.Carved>
  /** The links that a machine holds, each with what it is configured by. */
  linksOf(machineId: string, tx?: Db): Promise<delegations.Link[]>
  /** Networks of the containers that answer a wish. */
  containersOf(from: asking.From, tx?: Db): Promise<Cidr[]>
  giveBack(tx: Db, delegationId: string, actor: string, now: Date, reason?: string): Promise<Delegation>
  /** Confirms a hold (null) or prolongs it. */
  setExpiry(tx: Db, allocationId: string, until: Date | null, now: Date): Promise<Allocation>
  expireHolds(now: Date): Promise<Allocation[]>
  /** To another holder, in one instant. */
  move(tx: Db, allocationId: string, to: holdings.Move, actor: string, now: Date): Promise<Allocation>
  free(tx: Db, allocationId: string, actor: string, now: Date, reason?: string): Promise<Allocation>
  freeOfMachine(tx: Db, machineId: string, purposes: readonly Purpose[], actor: string, now: Date): Promise<Allocation[]>
  bootAddress(tx: Db, request: allocate.BootRequest, actor: string, now: Date): Promise<BootAllocation>
  allocationsOf(machineId: string, tx?: Db): Promise<Allocation[]>
  who(address: IpAddress, at?: Date, vrf?: string): Promise<PastAllocation | null>
  /** All that a machine, or an address, has been through; newest first. */
  pastOf(of: {machineId: string} | {address: IpAddress; vrf?: string}): Promise<history.Past>
  /** How full, who fills it, and for how long it lasts; fullest first. */
  report(filter: PrefixFilter): Promise<ReportRow[]>
  /** What a prefix would give next; nothing is kept. */
  next(prefixId: string, limit: number, now: Date): Promise<usage.Next[]>
  freeBlocks(containerId: string, limit: number): Promise<FreeBlock[]>
  /** A prefix in so many equal cells: how many addresses of each are held or cool. Of IPv6 only where a cell counts fewer than 2^53. */
  map(prefix: Prefix, cells: number, now: Date): Promise<{size: number; cells: Cell[]}>
  /** Live holdings of a prefix by address, after one of them. */
  heldIn(prefixId: string, limit: number, after?: IpAddress): Promise<Allocation[]>
  /** Looks at freed addresses while they cool down. @returns those at which something answers since this look */
  probeFreed(now: Date, look?: probe.Look): Promise<probe.Conflict[]>
  settleFreeBlocks(now: Date): Promise<number>

  offerDynamic(request: leases.DynamicRequest): Promise<{address: Ipv4} | 'full'>
  /** @param by the process that binds, if several do */
  bindLeases(requests: readonly leases.BindRequest[], now: Date, by?: string): Promise<leases.BindResult[]>
  findLease(filter: Parameters<typeof leases.findLease>[1]): Promise<Lease | null>
  releaseLease(key: leases.LeaseKey, now: Date, by?: string): Promise<boolean>
  declineLease(key: leases.LeaseKey, now: Date): Promise<leases.Declined>
  expireLeases(now: Date): Promise<{readonly expired: number; readonly freed: readonly Allocation[]}>
  liveLeases(prefixId?: string): Promise<Lease[]>

  /** Pieces of dynamic ranges for one process to offer from. */
  claimBlocks(claim: blocks.BlockClaim): Promise<blocks.Block[]>
  /** @returns those that are still this owner's */
  prolongBlocks(ids: readonly string[], owner: string, now: Date): Promise<string[]>
  giveBackBlocks(ids: readonly string[], owner: string, now: Date): Promise<void>
  /** Every dynamic client there is, a page at a time. */
  knownLeases(): AsyncIterable<blocks.KnownLease[]>
  leasesOfOthers(owner: string, since: Date): Promise<blocks.KnownLease[]>

  /** IPv4 prefixes that hand out addresses, and every reservation in them, as of one instant. */
  snapshot(): Promise<IpamSnapshot>
}

export function createIpam({db, clock, log}: {db: Db; clock: Clock; log: Log}): Ipam {
  return {
    createPrefix: (tx, input, actor) => prefixes.createPrefix(tx, input, actor, clock.now()),
    updatePrefix: (tx, id, change, actor) => prefixes.updatePrefix(tx, id, change, actor, clock.now()),
    listPrefixes: (filter = {}) => prefixes.listPrefixes(db, filter, clock.now()),
    removePrefix: (tx, id, actor) => prefixes.removePrefix(tx, id, actor, clock.now()),
    getPrefix: (idOrCidr, vrf = DEFAULT_VRF, tx = db) => prefixes.getPrefix(tx, idOrCidr, vrf, clock.now()),
    findPrefixOf: (address, vrf = DEFAULT_VRF) => prefixes.findPrefixOf(db, address, vrf),
    allocate: allocate.allocate,
    allocateMany: allocate.allocateMany,
    free: allocate.free,
    freeOfMachine: (tx, machineId, purposes, actor, now) =>
      inTx(tx, async tx => {
        const freed = await allocate.freeOfMachine(tx, machineId, purposes, actor, now)
        await delegations.giveBackOfMachine(tx, machineId, purposes, actor, now)
        return freed
      }),
    ask: asking.ask,
    allocateGrouped: createGrouped(db, () => clock.now()),
    carve: delegations.carve,
    linksOf: (machineId, tx = db) => delegations.linksOf(tx, machineId),
    containersOf: (from, tx = db) => delegations.containersOf(tx, from),
    giveBack: delegations.giveBackDelegation,
    setExpiry: holdings.setExpiry,
    expireHolds: now => holdings.expireHolds(db, now),
    move: holdings.move,
    bootAddress: allocate.bootAddress,
    allocationsOf: (machineId, tx = db) => history.allocationsOf(tx, machineId),
    who: (address, at, vrf = DEFAULT_VRF) => history.who(db, address, at ?? null, vrf),
    pastOf: of => history.pastOf(db, 'machineId' in of ? of : {address: of.address, vrf: of.vrf ?? DEFAULT_VRF}),
    report: filter => readReport(db, filter, clock.now()),
    next: (prefixId, limit, now) => usage.selectNext(db, prefixId, limit, now),
    freeBlocks: (containerId, limit) => selectFree(db, containerId, limit),
    async map(prefix, cells, now) {
      const size = Math.max(1, sizeOf(prefix.cidr) / cells)
      const read = prefix.status === 'container' ? selectPrefixCells : selectAddressCells
      return {size, cells: size > Number.MAX_SAFE_INTEGER ? [] : await read(db, prefix.id, size, now)}
    },
    heldIn: (prefixId, limit, after) => selectAllocations(db, whereLiveIn(prefixId, after), lowestFirst(limit)),
    probeFreed: (now, look = lookForNeighbour) => probe.probeFreed(db, look, now),
    settleFreeBlocks: now => settleFreeBlocks(db, now),
    ...createPlaces(db),
    offerDynamic: request => leases.offerDynamic(db, request, log),
    bindLeases: (requests, now, by) => leases.bindLeases(db, requests, now, by),
    findLease: filter => leases.findLease(db, filter),
    releaseLease: (key, now, by) => leases.releaseLease(db, key, now, by),
    declineLease: (key, now) => leases.declineLease(db, key, now),
    expireLeases: now => leases.expireLeases(db, now),
    liveLeases: prefixId => leases.liveLeases(db, prefixId),
    claimBlocks: claim => blocks.claimBlocks(db, claim),
    prolongBlocks: (ids, owner, now) => blocks.prolongBlocks(db, ids, owner, now),
    giveBackBlocks: (ids, owner, now) => blocks.giveBackBlocks(db, ids, owner, now),
    knownLeases: () => blocks.knownLeases(db),
    leasesOfOthers: (owner, since) => blocks.leasesOfOthers(db, owner, since),
    snapshot: () => readSnapshot(db),
  }
}

const DEFAULT_VRF = 'default'
