/** Asking for addresses and whole prefixes; what becomes of them: holds, moves, giving back. */
import type {Kysely} from 'kysely'
import {z} from 'zod'
import {parseIpv4, parseIpv6} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import type {Database} from '../../../lib/schema.ts'
import type {Allocation, From} from '../../ipam/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {addressSource, uuidParam} from '../fields.ts'
import {type Call, route} from '../route.ts'
import {allocationView, delegationView, prefixView} from '../views.ts'

const addressText = z.string().max(50)
const name = z.string().min(1).max(63)

const holder = z.strictObject({
  kind: z.enum(['machine', 'service', 'person']),
  name: z.string().min(1).max(128).describe('a machine’s id or name; else a name of your own'),
  interface: z.string().min(1).max(64).optional().describe('of a machine: MAC or name of the interface that it is for'),
})

const holdSeconds = z.int().min(1).max(31_536_000)
const reason = z.string().max(255)

export const allocationRoutes = [
  route({
    method: 'post',
    path: '/v1/allocations',
    summary: 'Ask for addresses, or for whole prefixes; all of them or none',
    permission: 'operate',
    tenants: true,
    changes: true,
    body: z
      .strictObject({
        from: addressSource.optional().describe('may be left out where `address` says it'),
        vrf: name.optional().describe('of `address`, without `from`'),
        for: holder,
        count: z.int().min(1).max(4096).default(1),
        address: addressText.optional().describe('this one'),
        length: z.int().min(0).max(128).optional().describe('whole prefixes of this length, carved out of containers'),
        cidr: addressText.optional().describe('this prefix, carved out of its container'),
        link: z
          .boolean()
          .default(false)
          .describe('of a carved prefix: the first address is the gateway, the next is the holder’s'),
        reason: reason.default(''),
        tenant: name.optional().describe('whose quota it is spent of'),
        hold_s: holdSeconds.optional().describe('held so long, then freed unless confirmed or renewed'),
      })
      .refine(body => (body.length === undefined && body.cidr === undefined) || body.hold_s === undefined, {
        path: ['hold_s'],
        message: 'only addresses are held for a time',
      })
      .refine(body => body.from !== undefined || body.address !== undefined, {
        path: ['from'],
        message: 'says nothing to take from',
      }),
    answers: {201: 'what was given', 403: 'the tenant was not granted it', 409: 'taken, full, or over quota'},
    async handle(call, tx) {
      const {body, actor, services} = call
      const now = await databaseNow(tx)
      const held = await holderOf(call, body.for, tx)
      const tenant = spenderOf(call, body.tenant)
      const wish = body.from ? await wishOf(call, body.from, tx) : await around(call, body.address ?? '', body.vrf)
      const common = {from: wish, ...held, reason: body.reason, tenant}
      if (body.length !== undefined || body.cidr !== undefined) {
        const carved = []
        for (let count = 0; count < body.count; count++) {
          const network = {
            ...(body.length === undefined ? {} : {length: body.length}),
            ...(body.cidr === undefined ? {} : {cidr: body.cidr}),
          }
          carved.push(await services.ipam.carve(tx, {...common, ...network, purpose: held.purpose, link: body.link}, actor, now))
        }
        for (const {delegation} of carved)
          await tell(call, tx, now, 'prefix_carved', delegation.cidr, held.machineId, {
            holder: body.for.name,
            reason: body.reason,
          })
        return {
          status: 201,
          body: {
            items: carved.flatMap(({address}) => (address ? [allocationView(address)] : [])),
            delegations: carved.map(({delegation, prefix}) => ({...delegationView(delegation), prefix: prefixView(prefix)})),
          },
        }
      }
      const expiresAt = body.hold_s === undefined ? null : new Date(now.getTime() + body.hold_s * 1000)
      const address = body.address === undefined ? {} : {address: body.address}
      const given = await services.ipam.ask(tx, {...common, ...address, count: body.count, expiresAt}, actor, now)
      for (const allocation of given)
        await tell(call, tx, now, 'address_allocated', allocation.address, held.machineId, {
          holder: body.for.name,
          reason: body.reason,
        })
      return {status: 201, body: {items: given.map(allocationView), delegations: []}}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/allocations/{id}',
    summary: 'Free an address',
    permission: 'operate',
    tenants: true,
    changes: true,
    params: uuidParam,
    query: z.strictObject({reason: reason.optional()}),
    answers: {200: 'the allocation as it ended'},
    async handle(call, tx) {
      const {params, query, actor, services} = call
      const now = await databaseNow(tx)
      const freed = await services.ipam.free(tx, params.id, actor, now, query.reason)
      refuseOthers(call, freed.tenant, freed.address)
      await tell(call, tx, now, 'address_freed', freed.address, machineOf(freed), {
        holder: freed.holder.name,
        reason: query.reason,
      })
      return {status: 200, body: allocationView(freed)}
    },
  }),
  route({
    method: 'post',
    path: '/v1/allocations/{id}/confirm',
    summary: 'Keep what was held for a time for good',
    permission: 'operate',
    tenants: true,
    changes: true,
    params: uuidParam,
    answers: {200: 'the allocation', 409: 'the hold was over'},
    handle: (call, tx) => setExpiry(call, tx, undefined),
  }),
  route({
    method: 'post',
    path: '/v1/allocations/{id}/renew',
    summary: 'Hold an address for longer',
    permission: 'operate',
    tenants: true,
    changes: true,
    params: uuidParam,
    body: z.strictObject({hold_s: holdSeconds}),
    answers: {200: 'the allocation', 409: 'the hold was over'},
    handle: (call, tx) => setExpiry(call, tx, call.body.hold_s),
  }),
  route({
    method: 'post',
    path: '/v1/allocations/{id}/move',
    summary: 'Pass an address to another holder, in one instant',
    permission: 'operate',
    tenants: true,
    changes: true,
    params: uuidParam,
    body: z.strictObject({to: holder, reason: reason.default('')}),
    answers: {200: 'the new allocation', 409: 'it cannot move'},
    async handle(call, tx) {
      const {params, body, actor, services} = call
      const now = await databaseNow(tx)
      const {holder: to, interface: onInterface, machineId} = await holderOf(call, body.to, tx)
      const moved = await services.ipam.move(tx, params.id, {to, interface: onInterface, reason: body.reason}, actor, now)
      refuseOthers(call, moved.tenant, moved.address)
      await tell(call, tx, now, 'address_moved', moved.address, machineId, {to: to.name, reason: body.reason})
      return {status: 200, body: allocationView(moved), headers: {location: `/v1/allocations/${moved.id}`}}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/delegations/{id}',
    summary: 'Give a whole prefix back, with every address in it',
    permission: 'operate',
    tenants: true,
    changes: true,
    params: uuidParam,
    query: z.strictObject({reason: reason.optional()}),
    answers: {200: 'the delegation as it ended', 409: 'another machine has an address in it'},
    async handle(call, tx) {
      const {params, query, actor, services} = call
      const now = await databaseNow(tx)
      const ended = await services.ipam.giveBack(tx, params.id, actor, now, query.reason)
      refuseOthers(call, ended.tenant, ended.cidr)
      const machineId = ended.holder.kind === 'machine' ? ended.holder.machineId : undefined
      await tell(call, tx, now, 'prefix_given_back', ended.cidr, machineId, {holder: ended.holder.name, reason: query.reason})
      return {status: 200, body: delegationView(ended)}
    },
  }),
]

type AnyCall = Pick<Call<unknown, unknown, unknown>, 'actor' | 'tenant' | 'services'>

async function setExpiry(call: AnyCall & {params: {id: string}}, tx: Kysely<Database>, hold_s: number | undefined) {
  const now = await databaseNow(tx)
  const until = hold_s === undefined ? null : new Date(now.getTime() + hold_s * 1000)
  const allocation = await call.services.ipam.setExpiry(tx, call.params.id, until, now)
  refuseOthers(call, allocation.tenant, allocation.address)
  const kind = until ? 'address_hold_renewed' : 'address_confirmed'
  await tell(call, tx, now, kind, allocation.address, machineOf(allocation), {until})
  return {status: 200, body: allocationView(allocation)}
}

/** Whose quota pays. A token of a tenant spends for no other. */
function spenderOf({tenant}: AnyCall, asked: string | undefined): string | null {
  if (tenant !== null && asked !== undefined && asked !== tenant)
    throw new IngotError('FORBIDDEN', `the token speaks for tenant ${tenant}, not for ${asked}`, {mend: 'Leave `tenant` out.'})
  return tenant ?? asked ?? null
}

/** Throws after the fact: what was changed is undone with the transaction. */
function refuseOthers({tenant}: AnyCall, owner: string | null, what: string): void {
  if (tenant === null || owner === tenant) return
  throw new IngotError('FORBIDDEN', `${what} is not held for tenant ${tenant}`, {mend: 'Ask an operator of the site.'})
}

async function wishOf(
  {services}: AnyCall,
  {prefix, ...rest}: z.output<typeof addressSource>,
  tx: Kysely<Database>,
): Promise<From> {
  const wish = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as From
  if (prefix === undefined) return wish
  const found = await services.ipam.getPrefix(prefix, rest.vrf, tx)
  if (!found) throw new IngotError('NOT_FOUND', `no prefix '${prefix}'`)
  return {...wish, prefixIds: [found.id]}
}

/** The prefix that an address lies in. */
async function around({services}: AnyCall, text: string, vrf: string | undefined): Promise<From> {
  const address = parseIpv4(text) ?? parseIpv6(text)
  const prefix = address && (await services.ipam.findPrefixOf(address, vrf))
  if (!prefix) throw new IngotError('NOT_FOUND', `no prefix holds '${text}'`)
  return {prefixIds: [prefix.id]}
}

async function holderOf({tenant, services}: AnyCall, given: z.output<typeof holder>, tx: Kysely<Database>) {
  if (given.kind !== 'machine') {
    return {holder: {kind: given.kind, name: given.name}, purpose: 'service' as const, interface: null, machineId: undefined}
  }
  if (tenant !== null) {
    const mend = 'Ask for a service or a person.'
    throw new IngotError('FORBIDDEN', 'machines belong to the site, not to a tenant', {mend})
  }
  const machine = await services.inventory.requireMachine(given.name, tx)
  const wanted = given.interface?.toLowerCase()
  const port = machine.interfaces.find(row => row.mac === wanted || row.name?.toLowerCase() === wanted)
  if (wanted !== undefined && !port) {
    const has = machine.interfaces.map(row => row.name ?? row.mac).join(', ')
    const message = `machine '${machine.name}' has no interface ${given.interface}; it has ${has}`
    throw new IngotError('INVALID_INPUT', message, {errors: [{field: 'for.interface', code: 'unknown', message}]})
  }
  return {
    holder: {kind: 'machine' as const, machineId: machine.id, name: machine.name},
    purpose: 'host' as const,
    interface: wanted === undefined ? null : (port?.mac ?? null),
    machineId: machine.id,
  }
}

function machineOf({holder}: Pick<Allocation, 'holder'>): string | undefined {
  return holder.kind === 'machine' ? holder.machineId : undefined
}

async function tell(
  {actor, services}: AnyCall,
  tx: Kysely<Database>,
  at: Date,
  kind: string,
  subject: string,
  machineId: string | undefined,
  detail: Record<string, unknown>,
): Promise<void> {
  await services.evidence.changed(tx, {at, actor, kind, machineId, subject, detail})
}
