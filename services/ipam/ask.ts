/**
 * Asking for addresses: of a prefix, a pool, or whatever prefixes have a role, a site, labels; one, many, a certain one, a whole prefix.
 *
 * Prefixes are tried in their order, each alone first: one that cannot give all gives nothing and its locks go back, so that nobody waits
 * for one prefix while holding another. Only when no prefix has enough for many are all of them locked, in the order of their ids, and
 * spent one after the other. A tenant is locked before any prefix, and its quota is counted after the taking, in the same transaction.
 */
import type {Cidr} from '../../lib/addresses.ts'
import type {Db, Tx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {type AllocateRequest, exhausted, lockActive, nameOf, take, takeNamed, toWanted} from './allocate.ts'
import {familyOf, parseAddress, spanContains, usableSpan} from './integers.ts'
import type {Allocation} from './model.ts'
import type {RangeKind} from './prefix-input.ts'
import * as asking from './store/asking.ts'
import * as store from './store.ts'

export type From = asking.Wish

export type Ask = AllocateRequest & {
  readonly from: From
  /** All of them or none; 1 unless said. */
  readonly count?: number
  /** This one. */
  readonly address?: string
  readonly range?: RangeKind
}

const MOST = 4096

/** @throws IngotError PREFIX_EXHAUSTED, QUOTA_EXCEEDED, ADDRESS_TAKEN, FORBIDDEN, CONFLICT, NOT_FOUND or INVALID_INPUT */
export async function ask(tx: Db, request: Ask, actor: string, now: Date): Promise<Allocation[]> {
  const count = request.count ?? 1
  if (!Number.isInteger(count) || count < 1 || count > MOST || (request.address !== undefined && count !== 1))
    throw invalid('count', `${count} is not a number from 1 to ${request.address === undefined ? MOST : 1}`)
  const wanted = Array.from({length: count}, () => toWanted(request))
  return await store.inTx(tx, async tx => {
    await lockSpender(tx, request.tenant)
    const candidates = await candidatesFor(tx, request.from, request.tenant, 'active', request.address)
    const taken =
      request.address === undefined
        ? await takeFrom(tx, candidates, request.range ?? 'static', wanted, actor, now)
        : [await takeThis(tx, candidates, request.address, wanted, actor, now)]
    await checkQuota(
      tx,
      request.tenant,
      candidates,
      taken.map(allocation => allocation.address),
    )
    return taken
  })
}

/**
 * Prefixes that may be asked, in order.
 * @throws IngotError when there are none, saying why
 */
export async function candidatesFor(
  tx: Tx,
  from: From,
  tenant: string | null | undefined,
  status: 'active' | 'container',
  address?: string,
): Promise<asking.Candidate[]> {
  if (from.pool !== undefined && (await asking.selectPools(tx, from.pool)).length === 0)
    throw new IngotError('NOT_FOUND', `there is no pool ${from.pool}`)
  const found = await asking.selectCandidates(tx, from)
  if (found.length === 0) throw new IngotError('NOT_FOUND', `there is no prefix ${wordsOf(from)}`)
  const fit = found.filter(candidate => candidate.status === status)
  const [first] = found
  if (fit.length === 0 && first) {
    const what = status === 'active' ? 'it hands out no addresses' : 'only of a container is a prefix carved'
    throw new IngotError('CONFLICT', `prefix ${first.cidr} is ${first.status}: ${what}`)
  }
  const granted = tenant
    ? new Set(
        await asking.selectGranted(
          tx,
          tenant,
          fit.map(row => row.id),
        ),
      )
    : undefined
  const allowed = granted ? fit.filter(candidate => granted.has(candidate.id)) : fit
  if (allowed.length === 0) {
    const names = fit.slice(0, 3).map(candidate => candidate.cidr)
    throw new IngotError('FORBIDDEN', `tenant ${tenant} was granted nothing of ${names.join(', ')}`, {
      mend: 'Ask for a prefix that the tenant was granted, or have one granted: `ingot ip tenants write`.',
    })
  }
  if (address === undefined) return allowed
  const parsed = parseAddress(address)
  const around = allowed.filter(candidate => parsed && spanContains(usableSpan(candidate.cidr), parsed))
  if (around.length > 0) return around
  throw invalid(
    'address',
    `${address} is not a host address of ${allowed
      .slice(0, 3)
      .map(row => row.cidr)
      .join(', ')}`,
  )
}

async function takeThis(
  tx: Tx,
  candidates: readonly asking.Candidate[],
  address: string,
  [wanted]: readonly store.Wanted[],
  actor: string,
  now: Date,
): Promise<Allocation> {
  const [candidate] = candidates
  const parsed = parseAddress(address)
  if (!candidate || !parsed || !wanted) throw new Error(`${address} has no prefix`)
  await lockActive(tx, candidate.id)
  return await takeNamed(tx, candidate.id, parsed, wanted, actor, now)
}

async function takeFrom(
  tx: Tx,
  candidates: readonly asking.Candidate[],
  kind: RangeKind,
  wanted: readonly store.Wanted[],
  actor: string,
  now: Date,
): Promise<Allocation[]> {
  const refusals: IngotError[] = []
  for (const {id} of candidates) {
    const undo = await store.markSavepoint(tx)
    const prefix = await lockActive(tx, id)
    const taken = await take(tx, prefix, kind, wanted, actor, now)
    if (taken.length === wanted.length) return taken
    await undo()
    refusals.push(await exhausted(tx, prefix, kind, wanted.length, now))
  }
  const [only, ...others] = refusals
  if (only && others.length === 0) throw only
  return await takeAcross(tx, candidates, kind, wanted, actor, now, refusals)
}

/** Many that no prefix has alone. */
async function takeAcross(
  tx: Tx,
  candidates: readonly asking.Candidate[],
  kind: RangeKind,
  wanted: readonly store.Wanted[],
  actor: string,
  now: Date,
  refusals: readonly IngotError[],
): Promise<Allocation[]> {
  const undo = await store.markSavepoint(tx)
  const locked = new Map<string, store.LockedPrefix>()
  for (const {id} of candidates.toSorted((a, b) => (a.id < b.id ? -1 : 1))) locked.set(id, await lockActive(tx, id))
  const taken: Allocation[] = []
  for (const {id} of candidates) {
    const prefix = locked.get(id)
    if (prefix && taken.length < wanted.length)
      taken.push(...(await take(tx, prefix, kind, wanted.slice(taken.length), actor, now)))
  }
  if (taken.length === wanted.length) return taken
  await undo()
  const details = refusals.slice(0, 3).map(refusal => refusal.detail)
  const more = refusals.length > details.length ? `; and ${refusals.length - details.length} more prefixes` : ''
  throw new IngotError('PREFIX_EXHAUSTED', `${details.join('; ')}${more}`)
}

/** Nobody else spends for this tenant until we commit. */
export async function lockSpender(tx: Tx, tenant: string | null | undefined): Promise<void> {
  if (tenant && !(await asking.lockTenant(tx, tenant))) throw new IngotError('NOT_FOUND', `there is no tenant ${tenant}`)
}

/** @param taken addresses and networks, already counted among what the tenant holds */
export async function checkQuota(
  tx: Tx,
  tenant: string | null | undefined,
  candidates: readonly asking.Candidate[],
  taken: readonly (string | Cidr)[],
): Promise<void> {
  const [first] = candidates
  if (!tenant || !first) return
  const [{quotas} = {quotas: []}] = await asking.selectTenants(tx, tenant)
  if (quotas.length === 0) return
  const uses = await asking.selectTenantUse(tx, tenant)
  for (const quota of quotas) {
    const used = uses
      .filter(use => use.family === quota.family && (quota.role === null || use.role === quota.role))
      .reduce((sum, use) => sum + use.used, 0)
    const concerned = taken.some(text => familyOf(text) === quota.family)
    if (!concerned || used <= quota.at_most) continue
    const holders = await asking.selectTenantHolders(tx, tenant, 4)
    const users = holders.map(row => `${nameOf({kind: row.holder_kind, name: row.holder})} (${row.addresses})`).join(', ')
    throw new IngotError(
      'QUOTA_EXCEEDED',
      `tenant ${tenant} may hold ${quota.at_most} of IPv${quota.family}${quota.role === null ? '' : ` in prefixes of role ${quota.role}`}; ` +
        `with these from ${[...new Set(candidates.map(candidate => candidate.cidr))].slice(0, 3).join(', ')} it would hold ${used}. ` +
        `Its biggest users, these included: ${users}`,
    )
  }
}

function wordsOf(from: From): string {
  const words = [
    from.prefixIds && `with the id ${from.prefixIds.join(', ')}`,
    from.pool && `in pool ${from.pool}`,
    from.role && `of role ${from.role}`,
    from.site && `at site ${from.site}`,
    from.labels &&
      `with the labels ${Object.entries(from.labels)
        .map(([name, value]) => `${name}=${value}`)
        .join(', ')}`,
    from.family && `of IPv${from.family}`,
    from.vrf && `in VRF ${from.vrf}`,
  ]
  return words.filter(word => word !== undefined && word !== '').join(', ')
}

function invalid(field: string, message: string): IngotError {
  return new IngotError('INVALID_INPUT', message, {errors: [{field, code: 'range', message}]})
}
