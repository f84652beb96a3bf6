/**
 * Ipam: VRFs, prefixes, ranges, addresses, allocations, leases; and the promise that an address has at most one holder at every instant.
 *
 * A function that takes `tx` first works in that transaction (READ COMMITTED), or in one of its own when given the database itself.
 */
import type {Ipv4} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Db} from '../../lib/db.ts'
import type {Log} from '../../lib/log.ts'
import * as allocate from './allocate.ts'
import * as history from './history.ts'
import type {IpAddress} from './integers.ts'
import * as leases from './leases.ts'
import type {Allocation, BootAllocation, IpamSnapshot, Lease, Prefix, PrefixFilter, PrefixWithUse, Purpose} from './model.ts'
import type {PrefixChange, PrefixInput, RangeKind} from './prefix-input.ts'
import * as prefixes from './prefixes.ts'
import {readSnapshot} from './snapshot.ts'

export type {AllocateInput, AllocateRequest, BootRequest} from './allocate.ts'
export type {IpAddress} from './integers.ts'
export type {BindRequest, BindResult, Declined, DynamicRequest, LeaseKey} from './leases.ts'
export type {
  Allocation,
  BootAllocation,
  Holder,
  IpamSnapshot,
  Lease,
  LeaseState,
  Prefix,
  PrefixFilter,
  PrefixWithUse,
  Purpose,
  Range,
  Reservation,
  Use,
} from './model.ts'
export type {PrefixChange, PrefixInput, PrefixSettings, PrefixStatus, RangeInput, RangeKind} from './prefix-input.ts'

export type Ipam = {
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
  free(tx: Db, allocationId: string, actor: string, now: Date): Promise<Allocation>
  freeOfMachine(tx: Db, machineId: string, purposes: readonly Purpose[], actor: string, now: Date): Promise<Allocation[]>
  bootAddress(tx: Db, request: allocate.BootRequest, actor: string, now: Date): Promise<BootAllocation>
  allocationsOf(machineId: string, tx?: Db): Promise<Allocation[]>
  who(address: IpAddress, at?: Date, vrf?: string): Promise<Allocation | null>

  offerDynamic(request: leases.DynamicRequest): Promise<{address: Ipv4} | 'full'>
  bindLeases(requests: readonly leases.BindRequest[], now: Date): Promise<leases.BindResult[]>
  findLease(filter: Parameters<typeof leases.findLease>[1]): Promise<Lease | null>
  releaseLease(key: leases.LeaseKey, now: Date): Promise<boolean>
  declineLease(key: leases.LeaseKey, now: Date): Promise<leases.Declined>
  expireLeases(now: Date): Promise<{readonly expired: number; readonly freed: readonly Allocation[]}>
  liveLeases(prefixId?: string): Promise<Lease[]>

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
    freeOfMachine: allocate.freeOfMachine,
    bootAddress: allocate.bootAddress,
    allocationsOf: (machineId, tx = db) => history.allocationsOf(tx, machineId),
    who: (address, at, vrf = DEFAULT_VRF) => history.who(db, address, at ?? null, vrf),
    offerDynamic: request => leases.offerDynamic(db, request, log),
    bindLeases: (requests, now) => leases.bindLeases(db, requests, now),
    findLease: filter => leases.findLease(db, filter),
    releaseLease: (key, now) => leases.releaseLease(db, key, now),
    declineLease: (key, now) => leases.declineLease(db, key, now),
    expireLeases: now => leases.expireLeases(db, now),
    liveLeases: prefixId => leases.liveLeases(db, prefixId),
    snapshot: () => readSnapshot(db),
  }
}

const DEFAULT_VRF = 'default'
