/** What prefixes are arranged by: VRFs, aggregates, pools, tenants with what they were granted and may spend. */
import {type Cidr, parseCidr} from '../../lib/addresses.ts'
import type {Db} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Aggregate, Pool, Quota, Tenant, TenantUse, Vrf} from './model.ts'
import * as asking from './store/asking.ts'
import * as tree from './store/tree.ts'
import * as store from './store.ts'

export type TenantInput = {
  readonly description?: string | undefined
  /** Ids of prefixes, and names of pools; what is left out stays as it is. */
  readonly prefixIds?: readonly string[] | undefined
  readonly pools?: readonly string[] | undefined
  readonly quotas?: readonly Quota[] | undefined
}

export type Places = {
  listVrfs(): Promise<Vrf[]>
  createVrf(tx: Db, name: string, description: string): Promise<Vrf>
  removeVrf(tx: Db, name: string): Promise<void>
  listAggregates(tx?: Db): Promise<Aggregate[]>
  createAggregate(
    tx: Db,
    input: {cidr: string; vrf?: string | undefined; registry?: string | undefined; description?: string | undefined},
    now: Date,
  ): Promise<Aggregate>
  removeAggregate(tx: Db, id: string): Promise<Cidr>
  listPools(tx?: Db): Promise<Pool[]>
  /** @param prefixIds in the order in which they are to be spent */
  writePool(
    tx: Db,
    name: string,
    input: {description?: string | undefined; prefixIds: readonly string[]},
    now: Date,
  ): Promise<Pool>
  removePool(tx: Db, name: string): Promise<void>
  listTenants(tx?: Db): Promise<Tenant[]>
  writeTenant(tx: Db, name: string, input: TenantInput, now: Date): Promise<Tenant>
  removeTenant(tx: Db, name: string): Promise<void>
  tenantUse(name: string): Promise<TenantUse[]>
  /** Prefixes that a tenant may see and spend. */
  grantedTo(tenant: string, prefixIds: readonly string[] | null, tx?: Db): Promise<string[]>
}

export function createPlaces(db: Db): Places {
  return {
    listVrfs: () => tree.selectVrfs(db),
    async createVrf(tx, name, description) {
      requireName('name', name)
      if (!(await tree.insertVrf(tx, name, description))) throw new IngotError('CONFLICT', `there is a VRF ${name} already`)
      return required(await tree.selectVrfs(tx), row => row.name === name)
    },
    async removeVrf(tx, name) {
      if (await tree.deleteVrf(tx, name)) return
      if ((await tree.selectVrfs(tx)).some(row => row.name === name))
        throw new IngotError('CONFLICT', `VRF ${name} has prefixes, aggregates, or addresses with a history`)
      throw new IngotError('NOT_FOUND', `there is no VRF ${name}`)
    },
    listAggregates: (tx = db) => tree.selectAggregates(tx),
    createAggregate: (tx, {cidr: text, vrf = 'default', registry = '', description = ''}, now) =>
      store.inTx(tx, async tx => {
        const cidr = parseCidr(text)
        if (!cidr) throw invalid('cidr', `${text} is not a network such as 10.0.0.0/8`)
        await tree.insertVrf(tx, requireName('vrf', vrf), '')
        const id = await tree.insertAggregate(tx, {vrf, cidr, registry, description}, now)
        const all = await tree.selectAggregates(tx)
        if (id !== undefined) return required(all, row => row.id === id)
        const names = all.filter(row => row.vrf === vrf).map(row => `${row.cidr} (${row.id})`)
        throw new IngotError('CONFLICT', `${cidr} overlaps an aggregate of VRF ${vrf}; there are ${names.join(', ')}`)
      }),
    async removeAggregate(tx, id) {
      const cidr = await tree.deleteAggregate(tx, id)
      if (cidr === undefined) throw new IngotError('NOT_FOUND', `there is no aggregate ${id}`)
      return cidr
    },
    listPools: (tx = db) => asking.selectPools(tx),
    writePool: (tx, name, {description = '', prefixIds}, now) =>
      store.inTx(tx, async tx => {
        await asking.upsertPool(tx, requireName('name', name), description, [...new Set(prefixIds)], now)
        return required(await asking.selectPools(tx, name), row => row.name === name)
      }),
    async removePool(tx, name) {
      if (!(await asking.deletePool(tx, name))) throw new IngotError('NOT_FOUND', `there is no pool ${name}`)
    },
    listTenants: (tx = db) => asking.selectTenants(tx),
    writeTenant: (tx, name, input, now) => store.inTx(tx, tx => writeTenant(tx, name, input, now)),
    async removeTenant(tx, name) {
      const held = await asking.selectTenantHolders(tx, name, 1)
      if (held[0])
        throw new IngotError(
          'CONFLICT',
          `tenant ${name} still has addresses; ${held[0].holder_kind} ${held[0].holder} holds some`,
        )
      if (!(await asking.deleteTenant(tx, name))) throw new IngotError('NOT_FOUND', `there is no tenant ${name}`)
    },
    tenantUse: name => asking.selectTenantUse(db, name),
    grantedTo: (tenant, prefixIds, tx = db) => asking.selectGranted(tx, tenant, prefixIds),
  }
}

async function writeTenant(tx: Db, name: string, input: TenantInput, now: Date): Promise<Tenant> {
  return await store.inTx(tx, async tx => {
    const [before] = await asking.selectTenants(tx, requireName('name', name))
    await asking.upsertTenant(tx, name, input.description ?? before?.description ?? '', now)
    // Whoever spends at this moment is counted by the old quota or the new one, not by a part of each.
    await asking.lockTenant(tx, name)
    if (input.prefixIds !== undefined || input.pools !== undefined) {
      const pools = input.pools ?? before?.pools ?? []
      for (const pool of pools)
        if ((await asking.selectPools(tx, pool)).length === 0) throw new IngotError('NOT_FOUND', `there is no pool ${pool}`)
      await asking.replaceGrants(tx, name, input.prefixIds ?? (await asking.selectGrantedDirectly(tx, name)), pools)
    }
    if (input.quotas !== undefined) await asking.replaceQuotas(tx, name, input.quotas)
    return required(await asking.selectTenants(tx, name), row => row.name === name)
  })
}

function requireName(field: string, name: string): string {
  if (/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,62}$/u.test(name)) return name
  throw invalid(field, 'letters, digits, space, and . _ - only, at most 63')
}

function required<T>(rows: readonly T[], isIt: (row: T) => boolean): T {
  const row = rows.find(isIt)
  if (!row) throw new Error('what was written just now is not there')
  return row
}

function invalid(field: string, message: string): IngotError {
  return new IngotError('INVALID_INPUT', message, {errors: [{field, code: 'format', message}]})
}
