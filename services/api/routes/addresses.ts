/** Prefixes and addresses: what there is, how full, and who has what. */
import {z} from 'zod'
import {parseCidr, parseIpv4, parseIpv6} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import type {IpAddress, Past, PastAllocation, PrefixChange, PrefixFilter, PrefixInput} from '../../ipam/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {machineParam, prefixText} from '../fields.ts'
import {instant, PAGE_LIMIT, pageOfWholeGroups, toPage} from '../page.ts'
import {type Call, route} from '../route.ts'
import {allocationView, delegationView, prefixView} from '../views.ts'

const prefixParam = z.object({id: prefixText.describe('id or CIDR, with / written as %2F')})
const word = z.string().max(63)
const addressText = z.string().max(45)

/** What can be changed later, too. */
const settings = {
  gateway: addressText.nullable().optional(),
  dns: z.array(addressText).max(8).optional(),
  boot_url: z.string().max(255).nullable().optional().describe('http://address:port, where its machines reach the boot service'),
  lease_s: z.int().optional().describe('60 s to a year, or 4294967295: no end'),
  dhcp: z
    .enum(['authoritative', 'proxy', 'off'])
    .optional()
    .describe('proxy: another server gives the addresses, Ingot names boot files beside it'),
  bootp: z.enum(['ignored', 'static']).optional().describe('static: known machines that speak BOOTP get their address'),
  router_advertisement: z.boolean().optional(),
  relays: z.array(addressText).max(64).optional(),
}

const ranges = z
  .array(z.strictObject({kind: z.enum(['static', 'dynamic']), first: addressText, last: addressText}))
  .max(64)
  .optional()

/** What people find it by. */
const naming = {
  status: z.enum(['container', 'active', 'reserved', 'deprecated']).optional(),
  role: word.nullable().optional(),
  site: word.nullable().optional(),
  tenant: word.nullable().optional(),
  labels: z.record(z.string().max(63), z.string().max(255)).optional(),
  description: z.string().max(255).optional(),
}

/** `name=value`, again for more. */
const labelQuery = z
  .union([z.string(), z.array(z.string())])
  .transform(texts =>
    Object.fromEntries([texts].flat().map(text => [text.split('=', 1)[0] ?? '', text.slice(text.indexOf('=') + 1)])),
  )
  .meta({type: 'string', description: 'name=value; may be given again'})

const filter = {
  vrf: word.optional(),
  within: z.string().max(50).optional().describe('under this network'),
  role: word.optional(),
  site: word.optional(),
  tenant: word.optional(),
  status: naming.status,
  label: labelQuery.optional(),
}

export const addressRoutes = [
  route({
    method: 'post',
    path: '/v1/prefixes',
    summary: 'Add a prefix',
    permission: 'operate',
    changes: true,
    body: z.strictObject({
      vrf: word.optional(),
      cidr: z.string().max(50),
      kind: z.enum(['host', 'bmc']).optional(),
      anycast: z.boolean().optional().describe('its addresses may have several holders'),
      ...naming,
      cool_down_s: z.int().optional().describe('how long a freed address is not given to anybody else'),
      ...settings,
      exclude: z.array(addressText).max(256).optional(),
      ranges,
    }),
    answers: {201: 'the prefix', 409: 'it overlaps another'},
    async handle({body, actor, services}, tx) {
      const prefix = await services.ipam.createPrefix(tx, body as PrefixInput, actor)
      const now = await databaseNow(tx)
      await services.evidence.changed(tx, {at: now, actor, kind: 'prefix_added', subject: prefix.cidr})
      return {status: 201, body: prefixView(prefix), headers: {location: `/v1/prefixes/${prefix.id}`}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes',
    summary: 'List prefixes with their use; a token of a tenant sees what it was granted',
    permission: 'view',
    tenants: true,
    changes: false,
    query: z.strictObject({
      ...filter,
      limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(PAGE_LIMIT).describe('rows a page'),
      after: z.string().min(1).max(200).optional().describe('`next` of the page before'),
    }),
    answers: {200: 'the prefixes'},
    async handle({query, tenant, services}) {
      const granted = tenant === null ? {} : {ids: await services.ipam.grantedTo(tenant, null)}
      const {limit, after, ...rest} = query
      const wish = {
        ...filterOf(rest),
        ...granted,
        limit: limit + 1,
        ...(after === undefined ? {} : {after: requireCursor(after)}),
      }
      const rows = await services.ipam.listPrefixes(wish)
      return {status: 200, body: toPage(rows, limit, row => `${row.vrf} ${row.cidr}`, prefixView)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes/{id}',
    summary: 'Look at a prefix',
    permission: 'view',
    tenants: true,
    changes: false,
    params: prefixParam,
    query: z.strictObject({vrf: word.optional()}),
    answers: {200: 'the prefix', 404: 'there is none'},
    async handle(call) {
      return {status: 200, body: prefixView(await requirePrefix(call))}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes/{id}/available',
    summary: 'What would be given next: addresses, or of a container its free blocks; nothing is kept',
    permission: 'view',
    tenants: true,
    changes: false,
    params: prefixParam,
    query: z.strictObject({vrf: word.optional(), limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(20)}),
    answers: {200: 'what is free', 404: 'there is no such prefix'},
    async handle(call) {
      const {ipam} = call.services
      const prefix = await requirePrefix(call)
      const now = await databaseNow(call.services.db)
      const items =
        prefix.status === 'container'
          ? await ipam.freeBlocks(prefix.id, call.query.limit)
          : await ipam.next(prefix.id, call.query.limit, now)
      return {status: 200, body: {items, next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes/{id}/map',
    summary: 'A prefix in equal cells: how many addresses of each are held or cool; cells in which nothing happened are left out',
    permission: 'view',
    tenants: true,
    changes: false,
    params: prefixParam,
    query: z.strictObject({vrf: word.optional(), cells: z.coerce.number().int().min(1).max(4096).default(256)}),
    answers: {200: 'the map', 404: 'there is no such prefix'},
    async handle(call) {
      const prefix = await requirePrefix(call)
      const cells = 2 ** Math.floor(Math.log2(call.query.cells))
      const map = await call.services.ipam.map(prefix, cells, await databaseNow(call.services.db))
      return {
        status: 200,
        body: {prefix: prefixView(prefix), size: map.size, count: Math.min(cells, sizeOf(prefix)), cells: map.cells},
      }
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes/{id}/allocations',
    summary: 'Who holds what in a prefix, by address',
    permission: 'view',
    tenants: true,
    changes: false,
    params: prefixParam,
    query: z.strictObject({
      vrf: word.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(PAGE_LIMIT),
      after: addressText.optional().describe('`next` of the page before'),
    }),
    answers: {200: 'the allocations', 404: 'there is no such prefix'},
    async handle(call) {
      const {limit, after} = call.query
      const prefix = await requirePrefix(call)
      const from = after === undefined ? undefined : requireAddress(after)
      const fetch = (count: number) => call.services.ipam.heldIn(prefix.id, count, from)
      return {status: 200, body: await pageOfWholeGroups(fetch, limit, row => row.address, allocationView)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefix-report',
    summary: 'How full prefixes are, who fills them, and how many days they last at the present rate; fullest first',
    permission: 'view',
    tenants: true,
    changes: false,
    query: z.strictObject({...filter, limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(PAGE_LIMIT)}),
    answers: {200: 'the report'},
    async handle({query, tenant, services}) {
      const {limit, ...rest} = query
      const granted = tenant === null ? {} : {ids: await services.ipam.grantedTo(tenant, null)}
      const items = await services.ipam.report({...filterOf(rest), ...granted, limit})
      return {status: 200, body: {items, next: null}}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/prefixes/{id}',
    summary: 'Remove a prefix in which nobody holds anything; the history of its addresses stays',
    permission: 'operate',
    changes: true,
    params: prefixParam,
    query: z.strictObject({vrf: word.optional()}),
    answers: {204: 'it is gone', 404: 'there is none', 409: 'somebody holds an address in it'},
    async handle({params, query, actor, services}, tx) {
      const {ipam, inventory, evidence} = services
      const prefix = await ipam.getPrefix(params.id, query.vrf, tx)
      if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
      const now = await databaseNow(tx)
      if ((await inventory.openWindows(now, tx)).some(window => window.prefix_id === prefix.id))
        throw new IngotError('CONFLICT', `a window is open on prefix ${prefix.cidr}`, {mend: 'Close it: `ingot windows close`.'})
      await ipam.removePrefix(tx, prefix.id, actor)
      await evidence.changed(tx, {at: now, actor, kind: 'prefix_removed', subject: prefix.cidr, detail: {vrf: prefix.vrf}})
      return {status: 204}
    },
  }),
  route({
    method: 'patch',
    path: '/v1/prefixes/{id}',
    summary: 'Change what a prefix’s machines are told, its ranges, and what it is found by; what is left out stays',
    permission: 'operate',
    changes: true,
    params: prefixParam,
    query: z.strictObject({vrf: word.optional()}),
    body: z
      .strictObject({...settings, ...naming, ranges})
      .refine(change => Object.keys(change).length > 0, 'names nothing to change'),
    answers: {200: 'the prefix', 404: 'there is none', 409: 'an address it would use is held'},
    async handle({params, query, body, actor, services}, tx) {
      const {ipam, evidence} = services
      const before = await ipam.getPrefix(params.id, query.vrf, tx)
      if (!before) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
      const prefix = await ipam.updatePrefix(tx, before.id, body as PrefixChange, actor)
      const now = await databaseNow(tx)
      await evidence.changed(tx, {at: now, actor, kind: 'prefix_changed', subject: prefix.cidr, detail: {...body}})
      return {status: 200, body: prefixView(prefix)}
    },
  }),
  route({
    method: 'post',
    path: '/v1/prefixes/{id}/allocations',
    summary: 'Ask for an address',
    permission: 'operate',
    changes: true,
    params: prefixParam,
    body: z.strictObject({
      address: addressText.optional().describe('a specific one; else the next free'),
      for: z.strictObject({
        kind: z.enum(['machine', 'service', 'person']),
        name: z.string().min(1).max(128).describe('a machine’s id or name; else a name of your own'),
      }),
      reason: z.string().max(255).default(''),
    }),
    answers: {201: 'the allocation', 409: 'taken, or the prefix is full'},
    async handle({params, body, actor, services}, tx) {
      const {ipam, inventory, evidence} = services
      const prefix = await ipam.getPrefix(params.id, undefined, tx)
      if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
      const address = body.address === undefined ? undefined : requireAddress(body.address)
      const machine = body.for.kind === 'machine' ? await inventory.requireMachine(body.for.name, tx) : undefined
      const holder = machine
        ? {kind: 'machine' as const, machineId: machine.id, name: machine.name}
        : {kind: body.for.kind as 'service' | 'person', name: body.for.name}
      const now = await databaseNow(tx)
      const allocation = await ipam.allocate(
        tx,
        {prefixId: prefix.id, holder, purpose: machine ? 'host' : 'service', reason: body.reason, ...(address ? {address} : {})},
        actor,
        now,
      )
      await evidence.changed(tx, {
        at: now,
        actor,
        kind: 'address_allocated',
        machineId: machine?.id,
        subject: allocation.address,
        detail: {holder: holder.name},
      })
      return {status: 201, body: allocationView(allocation), headers: {location: `/v1/allocations/${allocation.id}`}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/addresses/{address}',
    summary: 'Who holds an address, or held it at a time',
    permission: 'view',
    tenants: true,
    changes: false,
    params: z.object({address: addressText}),
    query: z.strictObject({at: instant.optional(), vrf: word.optional()}),
    answers: {200: 'the holding', 404: 'nobody'},
    async handle(call) {
      const {params, query, services} = call
      const address = requireAddress(params.address)
      const holding = await services.ipam.who(address, query.at, query.vrf)
      if (holding && !(await maySee(call, holding))) throw notTheirs(call, address)
      if (!holding) throw new IngotError('NOT_FOUND', `nobody holds ${address}${query.at ? ` at ${query.at.toISOString()}` : ''}`)
      return {status: 200, body: allocationView(holding)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/addresses/{address}/history',
    summary: 'All who ever held an address, or a network around it, and why; newest first',
    permission: 'view',
    changes: false,
    params: z.object({address: addressText}),
    query: z.strictObject({vrf: word.optional()}),
    answers: {200: 'the holdings'},
    async handle({params, query, services}) {
      const past = await services.ipam.pastOf({
        address: requireAddress(params.address),
        ...(query.vrf === undefined ? {} : {vrf: query.vrf}),
      })
      return {status: 200, body: pastView(past)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/addresses',
    summary: 'All addresses and networks that a machine ever held, newest first',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the holdings', 404: 'there is no such machine'},
    async handle({params, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      return {status: 200, body: pastView(await services.ipam.pastOf({machineId: machine.id}))}
    },
  }),
]

function sizeOf({cidr}: {cidr: string}): number {
  return 2 ** ((cidr.includes(':') ? 128 : 32) - Number(cidr.slice(cidr.lastIndexOf('/') + 1)))
}

function pastView(past: Past) {
  return {items: past.addresses.map(allocationView), delegations: past.networks.map(delegationView), next: null}
}

type Filter = {[K in keyof typeof filter]?: z.output<(typeof filter)[K]>}

function filterOf({label, within, ...rest}: Filter): PrefixFilter {
  const cidr = within === undefined ? undefined : parseCidr(within)
  if (within !== undefined && !cidr) throw invalid('within', `'${within}' is not a network`)
  return {...rest, ...(cidr ? {within: cidr} : {}), ...(label ? {labels: label} : {})}
}

function requireCursor(text: string): string {
  const [vrf = '', cidr = ''] = text.split(' ')
  if (vrf === '' || !parseCidr(cidr)) throw invalid('after', 'is not the `next` of a page')
  return text
}

/** What a tenant was not granted is as if it were not there. */
async function requirePrefix({params, query, tenant, services}: Call<{id: string}, {vrf?: string | undefined}, unknown>) {
  const prefix = await services.ipam.getPrefix(params.id, query.vrf)
  const granted = tenant === null || (prefix && (await services.ipam.grantedTo(tenant, [prefix.id])).length > 0)
  if (!prefix || !granted) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
  return prefix
}

async function maySee({tenant, services}: Pick<Call<unknown, unknown, unknown>, 'tenant' | 'services'>, holding: PastAllocation) {
  if (tenant === null || holding.tenant === tenant) return true
  return holding.prefixId !== null && (await services.ipam.grantedTo(tenant, [holding.prefixId])).length > 0
}

function notTheirs({tenant}: {tenant: string | null}, address: IpAddress): IngotError {
  return new IngotError('NOT_FOUND', `${address} is in no prefix of tenant ${tenant}`)
}

function invalid(field: string, message: string): IngotError {
  return new IngotError('INVALID_INPUT', message, {errors: [{field, code: 'format', message}]})
}

function requireAddress(text: string): IpAddress {
  const address = parseIpv4(text) ?? parseIpv6(text)
  if (address) return address
  throw new IngotError('INVALID_INPUT', `'${text}' is not an address`, {
    errors: [{field: 'address', code: 'format', message: 'must be a dotted quad or an IPv6 address'}],
  })
}
