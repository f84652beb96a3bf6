/**
 * Whole prefixes for one holder: carved out of a container by best fit, given back whole, and cooling like an address.
 *
 * A link (RFC 3021, RFC 6164) is the prefix of a layer-3 host: its first address is the gateway on the switch, the next one the host's own.
 */
import {type Cidr, parseCidr, prefixLength} from '../../lib/addresses.ts'
import type {Db, Tx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {type AllocateRequest, endAddresses, nameOf, takeNamed, toWanted} from './allocate.ts'
import {candidatesFor, checkQuota, type From, lockSpender} from './ask.ts'
import {contains} from './free-space.ts'
import {familyOf, type IpAddress, intToAddress, usableSpan} from './integers.ts'
import type {Allocation, Delegation, Prefix} from './model.ts'
import {checkPrefix} from './prefix-input.ts'
import {addPrefix, removePrefix, requirePrefix} from './prefixes.ts'
import {type Candidate, selectCandidates} from './store/asking.ts'
import * as stored from './store/delegations.ts'
import * as tree from './store/tree.ts'
import * as store from './store.ts'
import {splitBlock, takeBestFit} from './tree.ts'

export type Carve = Omit<AllocateRequest, 'purpose' | 'clientKey' | 'expiresAt'> & {
  readonly from: From
  readonly purpose: Delegation['purpose']
  /** Prefix length. */
  readonly length?: number
  /** This network. */
  readonly cidr?: string
  /** Its first address is the gateway, on the switch; the next one is the holder's. */
  readonly link?: boolean
}

/** `address`: of a link, what its holder has. */
export type Carved = {readonly delegation: Delegation; readonly prefix: Prefix; readonly address: Allocation | null}

/** @throws IngotError PREFIX_EXHAUSTED, QUOTA_EXCEEDED, FORBIDDEN, CONFLICT, NOT_FOUND or INVALID_INPUT */
export async function carve(tx: Db, request: Carve, actor: string, now: Date): Promise<Carved> {
  const {holder, reason, tenant, interface: onInterface} = toWanted(request)
  const cidr = request.cidr === undefined ? undefined : parseCidr(request.cidr)
  const length = cidr ? prefixLength(cidr) : request.length
  if (length === undefined || (request.cidr !== undefined && !cidr)) {
    const message = request.cidr === undefined ? 'a prefix length or a network is needed' : `${request.cidr} is not a network`
    throw new IngotError('INVALID_INPUT', message, {errors: [{field: cidr ? 'cidr' : 'length', code: 'format', message}]})
  }
  return await store.inTx(tx, async tx => {
    await lockSpender(tx, tenant)
    const containers = await candidatesFor(tx, request.from, tenant, 'container')
    const fit = containers.filter(
      container => prefixLength(container.cidr) < length && length <= (familyOf(container.cidr) === 4 ? 32 : 128),
    )
    const taken = await takeNetwork(tx, fit, length, cidr, now)
    if (!taken) throw await noNetwork(tx, containers, length, cidr)
    const id = await addPrefix(tx, checkPrefix(await inputFor(tx, taken, request.link === true, now)), actor, now)
    const delegationId = await stored.insertDelegation(
      tx,
      id,
      {holder: holder as Delegation['holder'], purpose: request.purpose, reason, tenant: tenant ?? null},
      actor,
      now,
    )
    const prefix = await requirePrefix(tx, id, now)
    // The network is what counts against the quota; its address would count twice.
    const own = {holder, purpose: request.purpose, reason, clientKey: null, interface: onInterface ?? null}
    const address = request.link ? await takeNamed(tx, id, hostOf(prefix.cidr), own, actor, now) : null
    await checkQuota(tx, tenant, [taken.container], [prefix.cidr])
    const [delegation] = await stored.selectDelegations(tx, stored.whereDelegation(delegationId))
    if (!delegation) throw new Error('a delegation was neither made nor refused')
    return {delegation, prefix, address}
  })
}

/** Ends a delegation with every address in it. Ended already, it says how. */
export function giveBackDelegation(tx: Db, id: string, actor: string, now: Date, reason?: string): Promise<Delegation> {
  return store.inTx(tx, async tx => {
    await stored.lockDelegation(tx, id)
    const [delegation] = await stored.selectDelegations(tx, stored.whereDelegation(id))
    if (!delegation) throw new IngotError('NOT_FOUND', `there is no delegation ${id}`)
    if (delegation.freedAt !== null || delegation.prefixId === null) return delegation
    const prefix = await requirePrefix(tx, delegation.prefixId, now)
    const held = await stored.selectHeldIn(tx, prefix.id)
    const others = held.filter(row => row.holder_kind === 'machine' && row.holder !== delegation.holder.name)
    const [other] = others
    if (other) throw new IngotError('CONFLICT', `${other.holder_kind} ${other.holder} holds an address of ${prefix.cidr}`)
    await endAddresses(
      tx,
      held.map(row => row.id),
      actor,
      now,
      reason ?? `${prefix.cidr} was given back`,
    )
    await stored.endDelegation(tx, id, actor, now, reason ?? null)
    const coolUntil = new Date(now.getTime() + prefix.cool_down_s * 1000)
    await removePrefix(tx, prefix.id, actor, now, {at: now, coolUntil})
    const [ended] = await stored.selectDelegations(tx, stored.whereDelegation(id))
    return ended ?? delegation
  })
}

/** Of all that a machine holds whole, what it holds for these purposes. */
export async function giveBackOfMachine(
  tx: Tx,
  machineId: string,
  purposes: readonly string[],
  actor: string,
  now: Date,
): Promise<void> {
  const held = await stored.selectDelegations(tx, stored.whereMachineHolds(machineId, purposes))
  for (const delegation of held) await giveBackDelegation(tx, delegation.id, actor, now)
}

/** A network that a machine holds with an address of its own in it. */
export type Link = {
  readonly delegationId: string
  readonly prefixId: string
  readonly address: IpAddress
  readonly cidr: Cidr
  readonly gateway: IpAddress | null
  /** The container it was carved out of. */
  readonly parent: Cidr | null
}

export async function linksOf(db: Db, machineId: string): Promise<Link[]> {
  const held = await stored.selectDelegations(db, stored.whereMachineHolds(machineId, ['host']))
  const allocations = await store.selectAllocations(db, store.whereMachineHolds(machineId, ['host']))
  const ids = held.flatMap(delegation => delegation.prefixId ?? [])
  const prefixes = ids.length === 0 ? [] : await store.selectPrefixes(db, store.whereFilter({ids}))
  return held.flatMap(delegation => {
    const prefix = prefixes.find(row => row.id === delegation.prefixId)
    const own = allocations.find(allocation => allocation.prefixId === delegation.prefixId)
    if (!prefix || !own) return []
    const {gateway, parent} = prefix
    return [{delegationId: delegation.id, prefixId: prefix.id, address: own.address, cidr: prefix.cidr, gateway, parent}]
  })
}

export async function containersOf(db: Db, from: From): Promise<Cidr[]> {
  const found = await selectCandidates(db, from)
  return found.filter(candidate => candidate.status === 'container').map(candidate => candidate.cidr)
}

type TakenNetwork = {readonly container: Candidate; readonly cidr: Cidr}

async function takeNetwork(
  tx: Tx,
  containers: readonly Candidate[],
  length: number,
  cidr: Cidr | undefined,
  now: Date,
): Promise<TakenNetwork | undefined> {
  for (const container of containers) {
    if (cidr && !contains(container.cidr, cidr)) continue
    const undo = await store.markSavepoint(tx)
    await tree.lockStructure(tx, container.vrf, 'shared')
    await tree.lockContainer(tx, container.id)
    const taken = cidr ? await takeExactly(tx, container, cidr, now) : await takeBestFit(tx, container.id, length, now)
    if (taken) return {container, cidr: taken}
    await undo()
  }
  return undefined
}

async function takeExactly(tx: Tx, container: Candidate, cidr: Cidr, now: Date): Promise<Cidr | undefined> {
  const block = await tree.lockFreeAround(tx, container.id, cidr)
  if (!block || (block.cool_until && block.cool_until > now)) return undefined
  await splitBlock(tx, container.id, block, cidr)
  return cidr
}

/** It is what its container is, and DHCP does not serve it: its host is configured statically. */
async function inputFor(tx: Tx, {container, cidr}: TakenNetwork, link: boolean, now: Date) {
  const {vrf, role, site, tenant, labels, kind, cool_down_s} = await requirePrefix(tx, container.id, now)
  const base = {vrf, cidr, role, site, tenant, labels, kind, cool_down_s, dhcp: 'off'} as const
  const {family, first, last} = usableSpan(cidr)
  if (!link)
    return {...base, ranges: [{kind: 'static', first: intToAddress(first, family), last: intToAddress(last, family)}] as const}
  if (last === first) throw new IngotError('INVALID_INPUT', `${cidr} has no room for a gateway and a host`)
  return {...base, gateway: intToAddress(first, family)}
}

function hostOf(cidr: Cidr) {
  const {family, first} = usableSpan(cidr)
  return intToAddress(first + 1n, family)
}

async function noNetwork(tx: Tx, containers: readonly Candidate[], length: number, cidr: Cidr | undefined): Promise<IngotError> {
  const [first] = containers
  if (!first) throw new Error('nobody was asked')
  if (cidr) {
    const [other] = await store.selectPrefixes(tx, store.whereOverlaps(cidr, 'active', first.vrf))
    if (other) return new IngotError('CONFLICT', `${cidr} overlaps prefix ${other.cidr} (${other.status}, ${other.id})`)
  }
  const parts: string[] = []
  for (const container of containers.slice(0, 3)) {
    const largest = (await tree.selectFree(tx, container.id, 100_000)).at(-1)
    const cooled = await tree.selectNextCooled(tx, container.id, length)
    const users = (await stored.selectBiggest(tx, container.id, 3)).map(
      row => `${nameOf({kind: row.holder_kind, name: row.holder})} (${row.networks})`,
    )
    parts.push(
      `container ${container.cidr} has no free ${cidr ?? `/${length}`}: its largest free block is ${largest?.cidr ?? 'none'}` +
        `${cooled ? `, and one comes free at ${cooled.toISOString()}` : ''}; biggest users: ${users.join(', ') || 'none'}`,
    )
  }
  return new IngotError('PREFIX_EXHAUSTED', parts.join('; '))
}
