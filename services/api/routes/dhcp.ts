/** What DHCP clients are told beside their prefix's settings: options and loaders by scope; and client keys of machines. */
import type {Kysely} from 'kysely'
import {z} from 'zod'
import {parseIpv4} from '../../../lib/addresses.ts'
import {hexColon, parseHex} from '../../../lib/bytes.ts'
import {type FieldError, IngotError} from '../../../lib/errors.ts'
import type {Database} from '../../../lib/schema.ts'
import type {ClientKeyRow, DhcpScopeOwner} from '../../inventory/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {machineParam, prefixText, uuidParam} from '../fields.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'

/** At most one; none is the whole site. */
const scopeFields = {
  prefix: prefixText.optional(),
  profile: z.string().min(1).max(63).optional(),
  machine: z.string().min(1).max(64).describe('id or name').optional(),
}
type ScopeNames = {readonly [K in keyof typeof scopeFields]?: string | undefined}

const oneScope = (names: ScopeNames) => [names.prefix, names.profile, names.machine].filter(Boolean).length <= 1
const ONE_SCOPE = 'names more than one of prefix, profile and machine'

const optionName = z.string().min(1).max(80)
const loaderKey = z.string().min(1).max(40)

export const dhcpRoutes = [
  route({
    method: 'get',
    path: '/v1/dhcp/option-types',
    summary: 'List the DHCP options that have a name, with their type and whether they can be set',
    permission: 'view',
    changes: false,
    answers: {200: 'the options by code'},
    async handle({services}) {
      return {status: 200, body: {items: services.dhcp.listOptionTypes(), next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/dhcp/options',
    summary: 'List the DHCP options set for the site, a prefix, a profile or a machine',
    permission: 'view',
    changes: false,
    query: z.strictObject(scopeFields).refine(oneScope, ONE_SCOPE),
    answers: {200: 'the options of that scope, by name', 404: 'there is no such scope'},
    async handle({query, services}) {
      const {owner, name} = await findScope(services, query)
      const {options} = await services.inventory.dhcpScope(owner)
      return {status: 200, body: {scope: name, options}}
    },
  }),
  route({
    method: 'patch',
    path: '/v1/dhcp/options',
    summary: 'Set and unset DHCP options of the site, a prefix, a profile or a machine; what is left out stays',
    permission: 'operate',
    changes: true,
    body: z
      .strictObject({
        ...scopeFields,
        set: z
          .array(
            z.strictObject({
              name: optionName.describe('of /v1/dhcp/option-types, or option-<code>:<type>'),
              value: z.unknown().describe('as its type wants it, or as text'),
              always: z.boolean().default(false).describe('for clients that do not ask for it, too'),
            }),
          )
          .max(64)
          .default([]),
        unset: z.array(optionName).max(64).default([]),
      })
      .refine(oneScope, ONE_SCOPE)
      .refine(body => body.set.length + body.unset.length > 0, 'sets and unsets nothing'),
    answers: {200: 'the options of that scope, by name', 404: 'there is no such scope'},
    async handle({body, actor, services}, tx) {
      const {owner, name} = await findScope(services, body, tx)
      const set = Object.fromEntries(body.set.map(option => [option.name, {value: option.value, always: option.always}]))
      const {options} = await services.inventory.changeDhcpScope(tx, owner, before => ({
        ...before,
        options: orRefuse(services.dhcp.changeOptions(before.options, {set, unset: body.unset})).options,
      }))
      const detail = {set: Object.keys(set), unset: body.unset}
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'dhcp_options_set', subject: name, detail})
      return {status: 200, body: {scope: name, options}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/dhcp/loaders',
    summary: 'List the boot loaders set for the site, a prefix, a profile or a machine',
    permission: 'view',
    changes: false,
    query: z.strictObject(scopeFields).refine(oneScope, ONE_SCOPE),
    answers: {200: 'the loaders of that scope, by kind or architecture', 404: 'there is no such scope'},
    async handle({query, services}) {
      const {owner, name} = await findScope(services, query)
      const {loaders} = await services.inventory.dhcpScope(owner)
      return {status: 200, body: {scope: name, loaders}}
    },
  }),
  route({
    method: 'patch',
    path: '/v1/dhcp/loaders',
    summary: 'Set and unset boot loaders of the site, a prefix, a profile or a machine; what is left out stays',
    permission: 'operate',
    changes: true,
    body: z
      .strictObject({
        ...scopeFields,
        set: z.record(loaderKey, z.string().min(1).max(200)).default({}),
        unset: z.array(loaderKey).max(64).default([]),
      })
      .refine(oneScope, ONE_SCOPE)
      .refine(body => Object.keys(body.set).length + body.unset.length > 0, 'sets and unsets nothing'),
    answers: {200: 'the loaders of that scope, by kind or architecture', 404: 'there is no such scope or loader'},
    async handle({body, actor, services}, tx) {
      const {owner, name} = await findScope(services, body, tx)
      for (const loader of Object.values(body.set)) requireLoader(services, loader)
      const {loaders} = await services.inventory.changeDhcpScope(tx, owner, before => ({
        ...before,
        loaders: orRefuse(services.dhcp.changeLoaders(before.loaders, body)).loaders,
      }))
      const detail = {set: body.set, unset: body.unset}
      await services.evidence.changed(tx, {at: await databaseNow(tx), actor, kind: 'dhcp_loaders_set', subject: name, detail})
      return {status: 200, body: {scope: name, loaders}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/client-keys',
    summary: 'By what else than its MACs DHCP knows a machine',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the keys', 404: 'there is no such machine'},
    async handle({params, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      const keys = await services.inventory.clientKeys(machine.id)
      return {status: 200, body: {items: keys.map(keyView), next: null}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/client-keys',
    summary: 'Let DHCP know a machine by a client identifier or a circuit, when its MAC is not known',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z
      .strictObject({
        kind: z.enum(['client_id', 'circuit_id']),
        value: z
          .string()
          .min(2)
          .max(767)
          .refine(text => (parseHex(text)?.length ?? 0) > 0, 'is not octets in hexadecimal, such as 01:52:54:00:12:34:56')
          .describe('octets in hexadecimal'),
        relay: z
          .string()
          .refine(text => parseIpv4(text) !== undefined, 'is not an IPv4 address')
          .describe('the relay that names the circuit; without it every relay')
          .optional(),
      })
      .refine(key => key.kind === 'circuit_id' || key.relay === undefined, 'has a relay, which only circuits have'),
    answers: {201: 'the key', 409: 'another machine has it'},
    async handle({params, body, actor, services}, tx) {
      const {inventory, evidence} = services
      const machine = await inventory.requireMachine(params.id, tx)
      const value = hexColon(parseHex(body.value) ?? new Uint8Array())
      const key = await inventory.addClientKey(tx, machine.id, {kind: body.kind, value, relay: body.relay ?? null})
      const detail = {kind: key.kind, value: key.value, relay: key.relay}
      const at = await databaseNow(tx)
      await evidence.changed(tx, {at, actor, kind: 'client_key_added', machineId: machine.id, subject: machine.name, detail})
      return {status: 201, body: keyView(key)}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/machines/{id}/client-keys/{key}',
    summary: 'Take a client key from a machine',
    permission: 'operate',
    changes: true,
    params: machineParam.extend({key: uuidParam.shape.id}),
    answers: {200: 'the key that was', 404: 'there is none'},
    async handle({params, actor, services}, tx) {
      const {inventory, evidence} = services
      const machine = await inventory.requireMachine(params.id, tx)
      const key = await inventory.removeClientKey(tx, machine.id, params.key)
      if (key === undefined) throw new IngotError('NOT_FOUND', `machine '${machine.name}' has no key ${params.key}`)
      const detail = {kind: key.kind, value: key.value, relay: key.relay}
      const at = await databaseNow(tx)
      await evidence.changed(tx, {at, actor, kind: 'client_key_removed', machineId: machine.id, subject: machine.name, detail})
      return {status: 200, body: keyView(key)}
    },
  }),
]

async function findScope(
  services: ApiServices,
  {prefix, profile, machine}: ScopeNames,
  tx: Kysely<Database> = services.db,
): Promise<{owner: DhcpScopeOwner; name: string}> {
  const {inventory, ipam} = services
  if (prefix !== undefined) {
    const found = await ipam.getPrefix(prefix, undefined, tx)
    if (!found) throw new IngotError('NOT_FOUND', `no prefix '${prefix}'`)
    return {owner: {prefixId: found.id}, name: `prefix ${found.cidr}`}
  }
  if (profile !== undefined) {
    const found = await inventory.requireProfile(profile, tx)
    return {owner: {profileId: found.id}, name: `profile ${found.name}`}
  }
  if (machine === undefined) return {owner: {}, name: 'site'}
  const found = await inventory.requireMachine(machine, tx)
  return {owner: {machineId: found.id}, name: `machine ${found.name}`}
}

/** Firmware that is sent to a name nobody has waits long before it gives up: better to be told here. */
function requireLoader({artefacts}: ApiServices, name: string): void {
  if (artefacts.lookup(`loaders/${name}`)) return
  const there = artefacts
    .list()
    .flatMap(({name: known}) => (known.startsWith('loaders/') ? [known.slice('loaders/'.length)] : []))
  throw new IngotError('NOT_FOUND', `no loader '${name}'; there are ${there.length > 0 ? there.join(', ') : 'none'}`)
}

function orRefuse<T extends object>(result: T | {readonly errors: readonly FieldError[]}): T {
  if (!('errors' in result)) return result
  const {errors} = result as {readonly errors: readonly FieldError[]}
  throw new IngotError('INVALID_INPUT', errors.map(error => `${error.field}: ${error.message}`).join('; '), {errors})
}

function keyView(key: ClientKeyRow) {
  return {id: key.id, kind: key.kind, value: key.value, relay: key.relay, created_at: key.created_at}
}
