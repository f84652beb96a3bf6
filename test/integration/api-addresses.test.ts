/** Addresses over the API: asked for once whatever is sent twice, held, moved, given back; tenants see and spend what is theirs. */
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {createToken} from '../../services/api/index.ts'
import {type ApiWorld, createApiWorld, expectProblem} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
  await made('POST', '/v1/prefixes', {cidr: '10.80.0.0/24', role: 'public', site: 'ams', labels: {tier: 'gold'}})
  await made('POST', '/v1/prefixes', {cidr: '10.81.0.0/24', status: 'container', role: 'links'})
  await made('POST', '/v1/prefixes', {cidr: '10.82.0.0/24', role: 'private'})
})
afterAll(() => api.close())

type Item = {id: string; address: string; cidr: string; holder: {name: string}; freed_at: string | null; interface: string | null}
type Body = {items: Item[]; delegations: {id: string; cidr: string; freed_at: string | null}[]}

async function made(method: string, path: string, body: unknown): Promise<Record<string, unknown>> {
  const answer = await api.ask(method, path, {body})
  expect(answer.status, answer.text).toBeLessThan(300)
  return answer.body
}
const asked = async (body: object) =>
  (await made('POST', '/v1/allocations', {for: {kind: 'service', name: 'web'}, ...body})) as unknown as Body
const count = async (cidr: string) =>
  ((await api.ask('GET', `/v1/prefixes/${encodeURIComponent(cidr)}`)).body as unknown as {utilisation: {static: {held: number}}})
    .utilisation.static.held

describe('asking', () => {
  test('gives what was asked for once, however often it is sent under one key', async () => {
    const before = await count('10.80.0.0/24')
    const body = {from: {role: 'public'}, count: 4, for: {kind: 'service', name: 'web01'}, reason: 'launch'}
    const send = () => api.ask('POST', '/v1/allocations', {body, headers: {'idempotency-key': 'four-for-web01'}})
    const answers = await Promise.all([send(), send(), send()])
    answers.push(await send())
    expect(new Set(answers.map(answer => answer.text)).size).toBe(1)
    expect((answers[0]!.body as unknown as Body).items.map(item => item.holder.name)).toEqual(Array(4).fill('web01'))
    expect(await count('10.80.0.0/24')).toBe(before + 4)
    const other = await api.ask('POST', '/v1/allocations', {
      body: {...body, count: 1},
      headers: {'idempotency-key': 'four-for-web01'},
    })
    expectProblem(other, 422, 'IDEMPOTENCY_MISMATCH')
  })

  test('is by site, label, pool, or for a certain address; and says when nothing fits', async () => {
    const [one] = (await asked({from: {site: 'ams', labels: {tier: 'gold'}}})).items
    expect(one?.cidr).toBe('10.80.0.0/24')
    await made('PUT', '/v1/prefix-pools/mixed', {prefixes: ['10.82.0.0/24', '10.80.0.0/24']})
    expect((await asked({from: {pool: 'mixed'}})).items[0]?.cidr).toBe('10.82.0.0/24')
    expect((await asked({from: {pool: 'mixed'}, address: '10.80.0.99'})).items[0]?.address).toBe('10.80.0.99')
    const again = await api.ask('POST', '/v1/allocations', {
      body: {from: {pool: 'mixed'}, address: '10.80.0.99', for: {kind: 'person', name: 'eve'}},
    })
    expect(expectProblem(again, 409, 'ADDRESS_TAKEN').detail).toContain('held by service web since')
    const nobody = await api.ask('POST', '/v1/allocations', {body: {from: {role: 'none'}, for: {kind: 'person', name: 'eve'}}})
    expectProblem(nobody, 404, 'NOT_FOUND')
    const nothing = await api.ask('POST', '/v1/allocations', {body: {from: {family: 4}, for: {kind: 'person', name: 'eve'}}})
    expectProblem(nothing, 400, 'INVALID_INPUT')
  })

  test('carves whole prefixes, links among them, and takes them back', async () => {
    const body = await asked({from: {role: 'links'}, length: 31, link: true, count: 2})
    expect(body.delegations.map(row => row.cidr)).toEqual(['10.81.0.0/31', '10.81.0.2/31'])
    expect(body.items.map(item => item.address)).toEqual(['10.81.0.1', '10.81.0.3'])
    const freed = await api.ask('DELETE', `/v1/delegations/${body.delegations[0]?.id}?reason=moved`)
    expect(freed.body).toMatchObject({cidr: '10.81.0.0/31', freed_reason: 'moved', freed_by: 'api:test-administer'})
    const free = await api.ask('GET', `/v1/prefixes/${encodeURIComponent('10.81.0.0/24')}/available`)
    expect((free.body as unknown as Body).items.map(block => block.cidr)).toContain('10.81.0.128/25')
    const history = await api.ask('GET', '/v1/addresses/10.81.0.1/history')
    expect(history.body).toMatchObject({
      items: [{freed_reason: 'moved', holder: {name: 'web'}}],
      delegations: [{cidr: '10.81.0.0/31'}],
    })
  })
})

describe('a holding', () => {
  test('is held for a time, renewed, confirmed; moves with its reason; and is freed with one', async () => {
    const [held] = (await asked({from: {role: 'private'}, hold_s: 600})).items
    const renewed = await made('POST', `/v1/allocations/${held?.id}/renew`, {hold_s: 1200})
    expect(new Date(String(renewed.expires_at)).getTime()).toBeGreaterThan(
      new Date(String((held as unknown as {expires_at: string}).expires_at)).getTime(),
    )
    expect(await made('POST', `/v1/allocations/${held?.id}/confirm`, {})).toMatchObject({expires_at: null})
    const moved = await made('POST', `/v1/allocations/${held?.id}/move`, {to: {kind: 'person', name: 'ada'}, reason: 'failover'})
    expect(moved).toMatchObject({address: held?.address, holder: {kind: 'person', name: 'ada'}, reason: 'failover'})
    expect((await api.ask('DELETE', `/v1/allocations/${moved.id}?reason=done`)).body).toMatchObject({freed_reason: 'done'})
    const history = (await api.ask('GET', `/v1/addresses/${held?.address}/history`)).body as unknown as {
      items: {holder: {name: string}; freed_reason: string}[]
    }
    expect(history.items.map(item => `${item.holder.name}: ${item.freed_reason}`)).toEqual([
      'ada: done',
      'web: moved to person ada',
    ])
    const events = (await api.ask('GET', '/v1/events?last=20')).body as unknown as {items: {kind: string; subject: string}[]}
    const about = events.items.filter(event => event.subject === held?.address).map(event => event.kind)
    expect(about).toEqual(['address_allocated', 'address_hold_renewed', 'address_confirmed', 'address_moved', 'address_freed'])
  })

  test('is for one interface of a machine', async () => {
    const machine = await api.ask('POST', '/v1/machines', {
      body: {name: 'web09', macs: ['52:54:00:99:00:01', '52:54:00:99:00:02'], bmc: {driver: 'manual'}},
    })
    expect(machine.status, machine.text).toBe(201)
    const body = (port: string) => ({from: {role: 'public'}, for: {kind: 'machine', name: 'web09', interface: port}})
    const [given] = (await asked(body('52:54:00:99:00:02'))).items
    expect(given).toMatchObject({interface: '52:54:00:99:00:02', holder: {name: 'web09'}})
    const wrong = await api.ask('POST', '/v1/allocations', {body: body('eth7')})
    expect(expectProblem(wrong, 400, 'INVALID_INPUT').detail).toContain('has no interface eth7')
    const all = (await api.ask('GET', '/v1/machines/web09/addresses')).body as unknown as Body
    expect(all.items.map(item => item.address)).toContain(given?.address)
  })
})

describe('a token of a tenant', () => {
  test('sees and spends what was granted to it, within its quota, and nothing else', async () => {
    await made('POST', '/v1/prefixes', {cidr: '10.83.0.0/28', role: 'acme'})
    await made('PUT', '/v1/tenants/acme', {prefixes: ['10.83.0.0/28'], quotas: [{family: 4, at_most: 2}]})
    const token = (await createToken(api.db, {name: 'acme-bot', permission: 'operate', tenant: 'acme'})).reveal()
    const call = (method: string, path: string, body?: unknown) => api.ask(method, path, {token, ...(body ? {body} : {})})
    const spend = (from: object, more: object = {}) =>
      call('POST', '/v1/allocations', {from, for: {kind: 'service', name: 'shop'}, ...more})
    expect(((await call('GET', '/v1/prefixes')).body as unknown as Body).items.map(prefix => prefix.cidr)).toEqual([
      '10.83.0.0/28',
    ])
    expectProblem(await call('GET', `/v1/prefixes/${encodeURIComponent('10.80.0.0/24')}`), 404, 'NOT_FOUND')
    const given = await spend({role: 'acme'}, {count: 2})
    expect(given.body).toMatchObject({items: [{tenant: 'acme'}, {tenant: 'acme'}]})
    expect(expectProblem(await spend({role: 'acme'}), 409, 'QUOTA_EXCEEDED').detail).toContain('tenant acme may hold 2 of IPv4')
    expectProblem(await spend({role: 'public'}), 403, 'FORBIDDEN')
    expectProblem(await spend({role: 'acme'}, {tenant: 'other'}), 403, 'FORBIDDEN')
    for (const path of ['/v1/machines', '/v1/events', '/v1/tokens', '/metrics'])
      expect((await call('GET', path)).status).toBe(403)
    // What others hold is none of its business, be the id guessed or not; and it is not freed by the try.
    const [others] = (await asked({from: {role: 'public'}})).items
    expectProblem(await call('DELETE', `/v1/allocations/${others?.id}`), 403, 'FORBIDDEN')
    expect((await api.ask('GET', `/v1/addresses/${others?.address}`)).body).toMatchObject({id: others?.id, freed_at: null})
    expectProblem(await call('GET', `/v1/addresses/${others?.address}`), 404, 'NOT_FOUND')
    const [own] = (given.body as unknown as Body).items
    expect((await call('DELETE', `/v1/allocations/${own?.id}`)).status).toBe(200)
    expect((await call('GET', '/v1/tenants')).body).toMatchObject({
      items: [{name: 'acme', used: [{family: 4, role: 'acme', used: 1}]}],
    })
  })
})

describe('lists', () => {
  test('of prefixes are narrowed, and paged without skipping', async () => {
    const cidrs = async (query: string) =>
      ((await api.ask('GET', `/v1/prefixes?${query}`)).body as unknown as Body).items.map(row => row.cidr)
    expect(await cidrs('role=public&label=tier%3Dgold')).toEqual(['10.80.0.0/24'])
    expect(await cidrs('within=10.81.0.0/16&status=container')).toEqual(['10.81.0.0/24'])
    const all = await cidrs('limit=500')
    const paged: string[] = []
    let after = ''
    do {
      const page = (await api.ask('GET', `/v1/prefixes?limit=2${after === '' ? '' : `&after=${encodeURIComponent(after)}`}`))
        .body as unknown as Body & {next: string | null}
      paged.push(...page.items.map(row => row.cidr))
      after = page.next ?? ''
    } while (after !== '')
    expect(paged).toEqual(all)
    expectProblem(await api.ask('GET', '/v1/prefixes?after=nonsense'), 400, 'INVALID_INPUT')
  })

  test('report the fullest first', async () => {
    const report = (await api.ask('GET', '/v1/prefix-report')).body as unknown as {
      items: {used: number; size: number; biggest: unknown[]}[]
    }
    const fullness = report.items.map(row => row.used / row.size)
    expect(fullness).toEqual(fullness.toSorted((a, b) => b - a))
    expect(report.items.some(row => row.biggest.length > 0)).toBe(true)
  })

  test('of VRFs and aggregates tell what is in them', async () => {
    await made('POST', '/v1/vrfs', {name: 'blue', description: 'apart'})
    await made('POST', '/v1/prefixes', {cidr: '10.80.0.0/24', vrf: 'blue'})
    await made('POST', '/v1/aggregates', {cidr: '10.0.0.0/8', vrf: 'blue', registry: 'RFC 1918'})
    const overlap = await api.ask('POST', '/v1/aggregates', {body: {cidr: '10.0.0.0/16', vrf: 'blue'}})
    expect(expectProblem(overlap, 409, 'CONFLICT').detail).toContain('10.0.0.0/8')
    expect((await api.ask('GET', '/v1/aggregates')).body).toMatchObject({items: [{cidr: '10.0.0.0/8', in_prefixes: 256}]})
    expectProblem(await api.ask('DELETE', '/v1/vrfs/blue'), 409, 'CONFLICT')
    expectProblem(await api.ask('DELETE', '/v1/vrfs/green'), 404, 'NOT_FOUND')
  })

  test('lose a prefix that is removed, unless somebody holds an address of it', async () => {
    const held = await api.ask('DELETE', `/v1/prefixes/${encodeURIComponent('10.80.0.0/24')}`)
    expect(expectProblem(held, 409, 'CONFLICT').detail).toContain('is held by')
    expect((await api.ask('DELETE', `/v1/prefixes/${encodeURIComponent('10.80.0.0/24')}?vrf=blue`)).status).toBe(204)
    expectProblem(await api.ask('GET', `/v1/prefixes/${encodeURIComponent('10.80.0.0/24')}?vrf=blue`), 404, 'NOT_FOUND')
  })
})
