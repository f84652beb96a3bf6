/** What prefixes are arranged by: VRFs, aggregates, pools, tenants. */
import {z} from 'zod'
import {IngotError} from '../../../lib/errors.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {prefixText, uuidParam} from '../fields.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'

const name = z.string().min(1).max(63)
const nameParam = z.object({name})
const description = z.string().max(255)

export const addressPlaceRoutes = [
  route({
    method: 'get',
    path: '/v1/vrfs',
    summary: 'List VRFs',
    permission: 'view',
    changes: false,
    answers: {200: 'the VRFs'},
    handle: async ({services}) => ({status: 200, body: {items: await services.ipam.listVrfs(), next: null}}),
  }),
  route({
    method: 'post',
    path: '/v1/vrfs',
    summary: 'Add a VRF: a space of its own, whose networks may overlap those of others',
    permission: 'operate',
    changes: true,
    body: z.strictObject({name, description: description.default('')}),
    answers: {201: 'the VRF', 409: 'there is one of this name'},
    async handle({body, actor, services}, tx) {
      const vrf = await services.ipam.createVrf(tx, body.name, body.description)
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'vrf_added', subject: body.name})
      return {status: 201, body: vrf}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/vrfs/{name}',
    summary: 'Remove an empty VRF',
    permission: 'operate',
    changes: true,
    params: nameParam,
    answers: {204: 'it is gone', 409: 'it holds something'},
    async handle({params, actor, services}, tx) {
      await services.ipam.removeVrf(tx, params.name)
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'vrf_removed', subject: params.name})
      return {status: 204}
    },
  }),
  route({
    method: 'get',
    path: '/v1/aggregates',
    summary: 'List aggregates with how much of them is in prefixes',
    permission: 'view',
    changes: false,
    answers: {200: 'the aggregates'},
    handle: async ({services}) => ({status: 200, body: {items: await services.ipam.listAggregates(), next: null}}),
  }),
  route({
    method: 'post',
    path: '/v1/aggregates',
    summary: 'Add an aggregate: space that was assigned to you',
    permission: 'operate',
    changes: true,
    body: z.strictObject({
      cidr: z.string().max(50),
      vrf: name.optional(),
      registry: z.string().max(63).optional().describe('who assigned it: RIPE, ARIN, RFC 1918, …'),
      description: description.optional(),
    }),
    answers: {201: 'the aggregate', 409: 'it overlaps another'},
    async handle({body, actor, services}, tx) {
      const now = await databaseNow(tx)
      const aggregate = await services.ipam.createAggregate(tx, body, now)
      await services.evidence.changed(tx, {at: now, actor, kind: 'aggregate_added', subject: aggregate.cidr})
      return {status: 201, body: aggregate}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/aggregates/{id}',
    summary: 'Remove an aggregate; its prefixes stay',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {204: 'it is gone', 404: 'there is none'},
    async handle({params, actor, services}, tx) {
      const cidr = await services.ipam.removeAggregate(tx, params.id)
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'aggregate_removed', subject: cidr})
      return {status: 204}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefix-pools',
    summary: 'List pools: prefixes in the order in which they are spent',
    permission: 'view',
    changes: false,
    answers: {200: 'the pools'},
    handle: async ({services}) => ({status: 200, body: {items: await services.ipam.listPools(), next: null}}),
  }),
  route({
    method: 'put',
    path: '/v1/prefix-pools/{name}',
    summary: 'Write a pool',
    permission: 'operate',
    changes: true,
    params: nameParam,
    body: z.strictObject({
      description: description.optional(),
      prefixes: z.array(prefixText).max(1000).describe('ids or CIDRs, in the order in which they are to be spent'),
      vrf: name.optional().describe('where CIDRs are looked up'),
    }),
    answers: {200: 'the pool', 404: 'a prefix does not exist'},
    async handle({params, body, actor, services}, tx) {
      const now = await databaseNow(tx)
      const prefixIds = await idsOf(services, tx, body.prefixes, body.vrf)
      const pool = await services.ipam.writePool(tx, params.name, {description: body.description, prefixIds}, now)
      const detail = {prefixes: pool.prefixes.map(prefix => prefix.cidr)}
      await services.evidence.changed(tx, {at: now, actor, kind: 'pool_written', subject: params.name, detail})
      return {status: 200, body: pool}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/prefix-pools/{name}',
    summary: 'Remove a pool; its prefixes stay',
    permission: 'operate',
    changes: true,
    params: nameParam,
    answers: {204: 'it is gone', 404: 'there is none'},
    async handle({params, actor, services}, tx) {
      await services.ipam.removePool(tx, params.name)
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'pool_removed', subject: params.name})
      return {status: 204}
    },
  }),
  route({
    method: 'get',
    path: '/v1/tenants',
    summary: 'List tenants: what each was granted, may hold, and holds; a token of a tenant sees its own',
    permission: 'view',
    tenants: true,
    changes: false,
    answers: {200: 'the tenants'},
    async handle({tenant, services}) {
      const tenants = (await services.ipam.listTenants()).filter(row => tenant === null || row.name === tenant)
      const items = await Promise.all(tenants.map(async row => ({...row, used: await services.ipam.tenantUse(row.name)})))
      return {status: 200, body: {items, next: null}}
    },
  }),
  route({
    method: 'put',
    path: '/v1/tenants/{name}',
    summary: 'Write a tenant: grants and quotas; what is left out stays',
    permission: 'administer',
    changes: true,
    params: nameParam,
    body: z.strictObject({
      description: description.optional(),
      prefixes: z.array(prefixText).max(1000).optional().describe('granted to it; of a container, all that lies in it'),
      pools: z.array(name).max(1000).optional(),
      vrf: name.optional().describe('where CIDRs are looked up'),
      quotas: z
        .array(
          z.strictObject({
            family: z.union([z.literal(4), z.literal(6)]),
            role: name.nullable().default(null).describe('null: in all prefixes'),
            at_most: z.int().min(0),
          }),
        )
        .max(100)
        .optional(),
    }),
    answers: {200: 'the tenant', 404: 'a prefix or pool does not exist'},
    async handle({params, body, actor, services}, tx) {
      const now = await databaseNow(tx)
      const prefixIds = body.prefixes && (await idsOf(services, tx, body.prefixes, body.vrf))
      const {description, pools, quotas} = body
      const tenant = await services.ipam.writeTenant(tx, params.name, {description, prefixIds, pools, quotas}, now)
      await services.evidence.changed(tx, {at: now, actor, kind: 'tenant_written', subject: params.name, detail: {...body}})
      return {status: 200, body: tenant}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/tenants/{name}',
    summary: 'Remove a tenant that holds nothing',
    permission: 'administer',
    changes: true,
    params: nameParam,
    answers: {204: 'it is gone', 404: 'there is none', 409: 'it still holds addresses'},
    async handle({params, actor, services}, tx) {
      await services.ipam.removeTenant(tx, params.name)
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'tenant_removed', subject: params.name})
      return {status: 204}
    },
  }),
]

async function idsOf(
  services: ApiServices,
  tx: Parameters<ApiServices['ipam']['free']>[0],
  texts: readonly string[],
  vrf: string | undefined,
): Promise<string[]> {
  const ids: string[] = []
  for (const text of texts) {
    const prefix = await services.ipam.getPrefix(text, vrf, tx)
    if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${text}'`)
    ids.push(prefix.id)
  }
  return ids
}
