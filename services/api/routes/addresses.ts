/** Prefixes and addresses. */
import {z} from 'zod'
import {parseIpv4, parseIpv6} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import type {IpAddress, PrefixInput, PrefixSettings} from '../../ipam/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {prefixText, uuidParam} from '../fields.ts'
import {instant} from '../page.ts'
import {route} from '../route.ts'
import {allocationView, prefixView} from '../views.ts'

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
      status: z.enum(['container', 'active', 'reserved', 'deprecated']).optional(),
      kind: z.enum(['host', 'bmc']).optional(),
      role: word.optional(),
      site: word.optional(),
      tenant: word.optional(),
      cool_down_s: z.int().optional().describe('how long a freed address is not given to anybody else'),
      ...settings,
      exclude: z.array(addressText).max(256).optional(),
      ranges: z
        .array(z.strictObject({kind: z.enum(['static', 'dynamic']), first: addressText, last: addressText}))
        .max(64)
        .optional(),
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
    summary: 'List prefixes with their use',
    permission: 'view',
    changes: false,
    answers: {200: 'the prefixes'},
    async handle({services}) {
      return {status: 200, body: {items: (await services.ipam.listPrefixes()).map(prefixView), next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/prefixes/{id}',
    summary: 'Look at a prefix',
    permission: 'view',
    changes: false,
    params: prefixParam,
    answers: {200: 'the prefix', 404: 'there is none'},
    async handle({params, services}) {
      const prefix = await services.ipam.getPrefix(params.id)
      if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
      return {status: 200, body: prefixView(prefix)}
    },
  }),
  route({
    method: 'patch',
    path: '/v1/prefixes/{id}',
    summary: 'Change what a prefix’s machines are told; what is left out stays',
    permission: 'operate',
    changes: true,
    params: prefixParam,
    body: z.strictObject(settings).refine(change => Object.keys(change).length > 0, 'names nothing to change'),
    answers: {200: 'the prefix', 404: 'there is none', 409: 'an address it would use is held'},
    async handle({params, body, actor, services}, tx) {
      const {ipam, evidence} = services
      const before = await ipam.getPrefix(params.id, undefined, tx)
      if (!before) throw new IngotError('NOT_FOUND', `no prefix '${params.id}'`)
      const prefix = await ipam.updatePrefix(tx, before.id, body as PrefixSettings, actor)
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
    method: 'delete',
    path: '/v1/allocations/{id}',
    summary: 'Free an address',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {200: 'the allocation as it ended'},
    async handle({params, actor, services}, tx) {
      const now = await databaseNow(tx)
      const freed = await services.ipam.free(tx, params.id, actor, now)
      await services.evidence.changed(tx, {
        at: now,
        actor,
        kind: 'address_freed',
        subject: freed.address,
        detail: {holder: freed.holder.name},
      })
      return {status: 200, body: allocationView(freed)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/addresses/{address}',
    summary: 'Who holds an address, or held it at a time',
    permission: 'view',
    changes: false,
    params: z.object({address: addressText}),
    query: z.strictObject({at: instant.optional()}),
    answers: {200: 'the holding', 404: 'nobody'},
    async handle({params, query, services}) {
      const address = requireAddress(params.address)
      const holding = await services.ipam.who(address, query.at)
      if (!holding) throw new IngotError('NOT_FOUND', `nobody holds ${address}${query.at ? ` at ${query.at.toISOString()}` : ''}`)
      return {status: 200, body: allocationView(holding)}
    },
  }),
]

function requireAddress(text: string): IpAddress {
  const address = parseIpv4(text) ?? parseIpv6(text)
  if (address) return address
  throw new IngotError('INVALID_INPUT', `'${text}' is not an address`, {
    errors: [{field: 'address', code: 'format', message: 'must be a dotted quad or an IPv6 address'}],
  })
}
