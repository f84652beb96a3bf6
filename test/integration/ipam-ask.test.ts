/** Asking for addresses and prefixes, on a real PostgreSQL: where from, how many, for how long, for whom, and what is refused. */
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import type {Ask, Carve} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, refusal} from '../support/ipam-world.ts'

let world: IpamWorld
beforeAll(async () => {
  world = await createIpamWorld()
})
afterAll(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  await world.database.drop()
})

type PrefixInput = Parameters<IpamWorld['ipam']['createPrefix']>[1]
const create = (input: PrefixInput) => world.ipam.createPrefix(world.db, {cool_down_s: 120, ...input}, 'test')
const ask = (input: Partial<Ask> & Pick<Ask, 'from'>, seconds = 0) =>
  world.ipam.ask(world.db, {holder: person('ada'), purpose: 'service', reason: 'a test', ...input}, 'test', world.at(seconds))
const carve = (input: Partial<Carve> & Pick<Carve, 'from'>, seconds = 0) =>
  world.ipam.carve(world.db, {holder: person('ada'), purpose: 'service', reason: 'a test', ...input}, 'test', world.at(seconds))
const addresses = (allocations: readonly {address: string}[]) => allocations.map(allocation => allocation.address)
const small = (base: string, more: Partial<PrefixInput> = {}) =>
  create({cidr: `${base}.0/29`, ranges: [{kind: 'static', first: `${base}.1`, last: `${base}.3`}], ...more})

describe('asking', () => {
  test('by role, site or label takes from the prefixes that have it, the lowest first', async () => {
    await small('10.1.1', {role: 'public', site: 'ams', labels: {tier: 'gold'}})
    await small('10.1.2', {role: 'public', site: 'fra', labels: {tier: 'gold', rack: 'r1'}})
    expect(addresses(await ask({from: {role: 'public'}, count: 2}))).toEqual(['10.1.1.1', '10.1.1.2'])
    expect(addresses(await ask({from: {role: 'public', site: 'fra'}}))).toEqual(['10.1.2.1'])
    expect(addresses(await ask({from: {labels: {rack: 'r1', tier: 'gold'}}}))).toEqual(['10.1.2.2'])
    expect(await refusal(ask({from: {role: 'none-such'}}))).toMatchObject({
      code: 'NOT_FOUND',
      detail: 'there is no prefix of role none-such',
    })
    expect((await refusal(ask({from: {role: 'public', family: 6}}))).code).toBe('NOT_FOUND')
  })

  test('of a pool spends its prefixes in their order, then across them, all or none', async () => {
    const [first, second] = [await small('10.2.2'), await small('10.2.1')]
    await world.ipam.writePool(world.db, 'front', {prefixIds: [first.id, second.id]}, world.at(0))
    const pool = {pool: 'front'}
    expect(addresses(await ask({from: pool, count: 2}))).toEqual(['10.2.2.1', '10.2.2.2'])
    // Two are in one prefix still, three in none.
    expect(addresses(await ask({from: pool, count: 2}))).toEqual(['10.2.1.1', '10.2.1.2'])
    const error = await refusal(ask({from: pool, count: 3}))
    expect(error.code).toBe('PREFIX_EXHAUSTED')
    expect(error.detail).toContain('prefix 10.2.2.0/29 cannot give 3')
    expect(error.detail).toContain('prefix 10.2.1.0/29 cannot give 3')
    expect(addresses(await ask({from: pool, count: 2}))).toEqual(['10.2.2.3', '10.2.1.3'])
    expect((await refusal(ask({from: {pool: 'back'}}))).detail).toBe('there is no pool back')
  })

  test('for a certain address finds the prefix it lies in', async () => {
    await small('10.3.1', {role: 'named'})
    await small('10.3.2', {role: 'named'})
    expect(addresses(await ask({from: {role: 'named'}, address: '10.3.2.5'}))).toEqual(['10.3.2.5'])
    expect(await refusal(ask({from: {role: 'named'}, address: '10.3.2.5'}))).toMatchObject({code: 'ADDRESS_TAKEN'})
    expect(await refusal(ask({from: {role: 'named'}, address: '10.9.9.9'}))).toMatchObject({code: 'INVALID_INPUT'})
    expect(await refusal(ask({from: {role: 'named'}, count: 0}))).toMatchObject({code: 'INVALID_INPUT'})
  })

  test('remembers the interface, and is of both families', async () => {
    const six = await create({cidr: 'fd01::/64', role: 'six'})
    const holder = {kind: 'machine', machineId: machineId(1), name: 'node1'} as const
    const [got] = await ask({from: {prefixIds: [six.id]}, holder, purpose: 'host', interface: 'eth1'})
    expect(got).toMatchObject({address: 'fd01::1', interface: 'eth1', holder})
    expect((await world.ipam.pastOf({machineId: machineId(1)})).addresses).toEqual([got])
  })
})

describe('a hold', () => {
  test('is over at its end unless it is renewed or confirmed', async () => {
    const prefix = await small('10.4.1')
    const hold = async () => (await ask({from: {prefixIds: [prefix.id]}, expiresAt: world.at(60)}))[0]!
    const [lapses, renewed, confirmed] = [await hold(), await hold(), await hold()]
    expect(await world.ipam.setExpiry(world.db, renewed.id, world.at(90), world.at(50))).toMatchObject({expiresAt: world.at(90)})
    expect(await world.ipam.setExpiry(world.db, confirmed.id, null, world.at(59))).toMatchObject({expiresAt: null})
    expect(await world.ipam.expireHolds(world.at(59))).toEqual([])
    // Over by the clock, swept or not.
    expect((await refusal(world.ipam.setExpiry(world.db, lapses.id, null, world.at(60)))).code).toBe('CONFLICT')
    expect(await world.ipam.expireHolds(world.at(60))).toMatchObject([
      {id: lapses.id, freedBy: 'ipam', freedReason: 'its hold was over'},
    ])
    expect(addresses(await world.ipam.expireHolds(world.at(90)))).toEqual([renewed.address])
    expect(await world.ipam.who(ip(confirmed.address))).toMatchObject({id: confirmed.id, expiresAt: null})
    expect((await refusal(world.ipam.setExpiry(world.db, confirmed.id, world.at(200), world.at(100)))).detail).toContain(
      'is no hold',
    )
  })
})

describe('an elastic address', () => {
  test('moves in one instant, and both holders are remembered with the reason', async () => {
    const prefix = await small('10.5.1')
    const [a, b] = [1, 2].map(number => ({kind: 'machine', machineId: machineId(number), name: `node${number}`}) as const)
    const [had] = await ask({from: {prefixIds: [prefix.id]}, holder: a!, tenant: null})
    const moved = await world.ipam.move(world.db, had!.id, {to: b!, reason: 'failover'}, 'ops', world.at(50))
    expect(moved).toMatchObject({address: had!.address, holder: b, reason: 'failover', createdAt: world.at(50), createdBy: 'ops'})
    expect((await world.ipam.pastOf({address: ip(had!.address)})).addresses).toMatchObject([
      {holder: b, freedAt: null},
      {holder: a, freedAt: world.at(50), freedBy: 'ops', freedReason: 'moved to machine node2'},
    ])
    expect(await world.ipam.move(world.db, moved.id, {to: b!, reason: 'again'}, 'ops', world.at(60))).toEqual(moved)
    expect((await refusal(world.ipam.move(world.db, had!.id, {to: a!, reason: ''}, 'ops', world.at(70)))).code).toBe('CONFLICT')
  })

  test('is none that a machine boots with or a setting holds', async () => {
    const prefix = await create({cidr: '10.5.2.0/28', gateway: '10.5.2.1'})
    const node = {machineId: machineId(5), name: 'node5', mac: macOf(5), prefixId: prefix.id}
    const boot = await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    const gateway = await world.ipam.who(ip('10.5.2.1'))
    for (const id of [boot.id, gateway!.id])
      expect((await refusal(world.ipam.move(world.db, id, {to: person('eve'), reason: ''}, 'ops', world.at(1)))).code).toBe(
        'CONFLICT',
      )
  })
})

describe('an anycast address', () => {
  test('has several holders, each once, and is free when the last is gone', async () => {
    const prefix = await create({cidr: '10.6.1.0/29', anycast: true, role: 'anycast'})
    const from = {prefixIds: [prefix.id]}
    const share = (name: string) => ask({from, holder: {kind: 'service', name}, address: '10.6.1.1'})
    const [one] = await ask({from, holder: {kind: 'service', name: 'dns-a'}})
    const [two] = await share('dns-b')
    expect([one?.address, two?.address]).toEqual(['10.6.1.1', '10.6.1.1'])
    expect((await refusal(share('dns-b'))).code).toBe('ADDRESS_TAKEN')
    expect(addresses(await ask({from}))).toEqual(['10.6.1.2'])
    await world.ipam.free(world.db, one!.id, 'test', world.at(10))
    expect(await world.ipam.who(ip('10.6.1.1'))).toMatchObject({holder: {name: 'dns-b'}})
    await world.ipam.free(world.db, two!.id, 'test', world.at(20))
    expect((await world.ipam.getPrefix(prefix.id))?.utilisation.static.cooling).toBe(1)
    expect(await findBreaches(world.db)).toEqual([])
  })

  test('is refused by the database where the prefix does not say so', async () => {
    const prefix = await small('10.6.2')
    const [held] = await ask({from: {prefixIds: [prefix.id]}})
    const insert = sql`INSERT INTO allocations (address_id, holder_kind, holder, purpose, created_by, anycast)
      SELECT address_id, 'service', 'other', 'service', 'test', true FROM allocations WHERE id = ${held!.id}`
    await expect(insert.execute(world.db)).rejects.toThrow('allocation_of_an_address')
    await expect(sql`UPDATE prefixes SET anycast = true WHERE id = ${prefix.id}`.execute(world.db)).rejects.toThrow('anycast')
  })
})

describe('a carved prefix', () => {
  test('comes out of the smallest block that it fits in, so that large ones stay whole', async () => {
    const pool = await create({cidr: '10.16.0.0/16', status: 'container', role: 'links', site: 'ams'})
    const from = {prefixIds: [pool.id]}
    const {prefix, delegation} = await carve({from, length: 31})
    expect(prefix).toMatchObject({cidr: '10.16.0.0/31', parent: '10.16.0.0/16', role: 'links', site: 'ams', dhcp: 'off'})
    expect(delegation).toMatchObject({cidr: '10.16.0.0/31', holder: person('ada'), freedAt: null})
    const sizes = [31, 29, 24, 31, 17, 30]
    const got: string[] = []
    for (const length of sizes) got.push((await carve({from, length})).prefix.cidr)
    expect(got).toEqual(['10.16.0.2/31', '10.16.0.8/29', '10.16.1.0/24', '10.16.0.4/31', '10.16.128.0/17', '10.16.0.16/30'])
    expect((await world.ipam.getPrefix(pool.id))?.utilisation.container).toEqual({size: 65536, used: 33042, cooling: 0})
    expect(await refusal(carve({from, length: 17}))).toMatchObject({
      code: 'PREFIX_EXHAUSTED',
      detail: expect.stringContaining('container 10.16.0.0/16 has no free /17: its largest free block is 10.16.64.0/18'),
    })
    expect((await refusal(carve({from: {role: 'links'}, length: 16}))).code).toBe('PREFIX_EXHAUSTED')
  })

  test('may be a certain one, and names who has it otherwise', async () => {
    const pool = await create({cidr: 'fd10::/48', status: 'container'})
    const from = {prefixIds: [pool.id]}
    expect((await carve({from, cidr: 'fd10:0:0:56::/64'})).prefix.cidr).toBe('fd10:0:0:56::/64')
    expect((await carve({from, length: 56})).prefix.cidr).toBe('fd10:0:0:100::/56')
    expect((await carve({from, length: 64})).prefix.cidr).toBe('fd10:0:0:57::/64')
    expect(await refusal(carve({from, cidr: 'fd10::/57'}))).toMatchObject({
      code: 'CONFLICT',
      detail: expect.stringContaining('fd10::/57 overlaps prefix fd10:0:0:56::/64'),
    })
    expect((await refusal(carve({from: {prefixIds: [(await small('10.17.1')).id]}, length: 31}))).code).toBe('CONFLICT')
  })

  test('given back cools, then joins its neighbours again; its history stays', async () => {
    const pool = await create({cidr: '10.18.0.0/28', status: 'container', cool_down_s: 120})
    const from = {prefixIds: [pool.id]}
    const two = [await carve({from, length: 29, link: true}), await carve({from, length: 29})]
    const ended = await world.ipam.giveBack(world.db, two[0]!.delegation.id, 'bob', world.at(1000), 'moved away')
    expect(ended).toMatchObject({prefixId: null, freedAt: world.at(1000), freedBy: 'bob', freedReason: 'moved away'})
    await world.ipam.giveBack(world.db, two[1]!.delegation.id, 'bob', world.at(1000))
    expect(await world.ipam.giveBack(world.db, two[0]!.delegation.id, 'eve', world.at(1001))).toEqual(ended)
    expect((await refusal(carve({from, length: 29}, 1119))).detail).toContain('one comes free at 2030-01-01T00:18:40.000Z')
    expect(await world.ipam.settleFreeBlocks(world.at(1120))).toBeGreaterThan(0)
    expect(await refusal(carve({from, length: 28}, 1120))).toMatchObject({code: 'PREFIX_EXHAUSTED'})
    expect((await world.ipam.getPrefix(pool.id))?.utilisation.container).toEqual({size: 16, used: 0, cooling: 0})
    expect((await carve({from, length: 29}, 1120)).prefix.cidr).toBe('10.18.0.0/29')
    const past = await world.ipam.pastOf({address: ip('10.18.0.2')})
    expect(past.networks.map(row => `${row.cidr} ${row.freedBy}`)).toEqual(['10.18.0.0/29 null', '10.18.0.0/29 bob'])
    expect(past.addresses).toMatchObject([{reason: 'a test', cidr: '10.18.0.0/29', freedReason: 'moved away'}])
    expect(await world.ipam.who(ip('10.18.0.2'), world.at(500))).toMatchObject({holder: person('ada')})
  })

  test.each([
    ['10.19.0.0/24', 31, '10.19.0.0/31', '10.19.0.0', '10.19.0.1'],
    ['10.20.0.0/24', 29, '10.20.0.0/29', '10.20.0.1', '10.20.0.2'],
    ['fd19::/120', 127, 'fd19::/127', 'fd19::', 'fd19::1'],
    ['fd20::/48', 64, 'fd20::/64', 'fd20::1', 'fd20::2'],
  ])('as a link out of %s (/%i) has its gateway first, the host after it', async (cidr, length, network, gateway, host) => {
    const pool = await create({cidr, status: 'container'})
    const holder = {kind: 'machine', machineId: machineId(length), name: `l3-${length}`} as const
    const link = await carve({from: {prefixIds: [pool.id]}, length, link: true, holder, purpose: 'host'})
    expect(link).toMatchObject({prefix: {cidr: network, gateway}, address: {address: host, purpose: 'host', holder}})
    await world.ipam.freeOfMachine(world.db, machineId(length), ['host'], 'lifecycle', world.at(10))
    expect((await world.ipam.getPrefix(pool.id))?.utilisation.container).toMatchObject({
      cooling: 2 ** ((cidr.includes(':') ? 128 : 32) - length),
    })
    expect(await world.ipam.allocationsOf(machineId(length))).toEqual([])
  })
})

describe('containers', () => {
  test('come later, around and inside, and go again: what is free follows', async () => {
    await create({cidr: '10.32.1.0/24'})
    await create({cidr: '10.32.2.0/30'})
    const outer = await create({cidr: '10.32.0.0/16', status: 'container'})
    const inner = await create({cidr: '10.32.0.0/22', status: 'container'})
    const deep = await create({cidr: '10.32.3.0/24', status: 'container'})
    expect(await findBreaches(world.db)).toEqual([])
    expect((await carve({from: {prefixIds: [deep.id]}, length: 25})).prefix.parent).toBe('10.32.3.0/24')
    expect((await carve({from: {prefixIds: [inner.id]}, length: 24})).prefix.cidr).toBe('10.32.0.0/24')
    await world.ipam.removePrefix(world.db, inner.id, 'test')
    expect(await findBreaches(world.db)).toEqual([])
    expect((await world.ipam.getPrefix(deep.id))?.parent).toBe('10.32.0.0/16')
    const empty = await create({cidr: '10.32.64.0/18', status: 'container'})
    await world.ipam.removePrefix(world.db, empty.id, 'test')
    expect(await findBreaches(world.db)).toEqual([])
    expect((await carve({from: {prefixIds: [outer.id]}, length: 17})).prefix.cidr).toBe('10.32.128.0/17')
  })
})

describe('the database itself refuses', () => {
  test('a prefix that holds others and is no container, naming them', async () => {
    await create({cidr: '10.33.0.0/24', status: 'container'})
    expect(await refusal(create({cidr: '10.33.0.0/16'}))).toMatchObject({
      code: 'CONFLICT',
      detail: 'prefix 10.33.0.0/16 (active) cannot hold prefix 10.33.0.0/24 (container): only a container holds prefixes',
    })
    await create({cidr: '10.34.0.0/24'})
    expect((await refusal(create({cidr: '10.34.0.0/25', status: 'container'}))).detail).toContain(
      'cannot lie in prefix 10.34.0.0/24 (active)',
    )
  })

  test('an address outside its prefix, a range outside or around the gateway, a gateway in a range', async () => {
    const prefix = await create({cidr: '10.35.0.0/24', gateway: '10.35.0.1'})
    const run = (query: ReturnType<typeof sql>) => query.execute(world.db)
    const place = sql`INSERT INTO addresses (vrf_id, prefix_id, address) SELECT vrf_id, id, '10.36.0.1' FROM prefixes WHERE id = ${prefix.id}`
    await expect(run(place)).rejects.toThrow('address 10.36.0.1 does not lie in prefix 10.35.0.0/24')
    await expect(run(sql`UPDATE addresses SET address = '10.36.0.1' WHERE prefix_id = ${prefix.id}`)).rejects.toThrow(
      'does not lie in',
    )
    const range = (first: string, last: string) =>
      sql`INSERT INTO ranges (prefix_id, kind, first_address, last_address) VALUES (${prefix.id}, 'static', ${first}, ${last})`
    await expect(run(range('10.35.1.1', '10.35.1.9'))).rejects.toThrow('does not lie in its prefix 10.35.0.0/24')
    await expect(run(range('10.35.0.0', '10.35.0.1'))).rejects.toThrow('holds 10.35.0.1, the gateway of prefix 10.35.0.0/24')
    await expect(run(sql`UPDATE prefixes SET gateway = '10.35.0.9' WHERE id = ${prefix.id}`)).rejects.toThrow(
      'gateway 10.35.0.9 of prefix 10.35.0.0/24 lies in its range 10.35.0.2–10.35.0.191',
    )
  })

  test('a second owner of an address or of a prefix, and the end of a prefix that is held', async () => {
    const prefix = await small('10.37.1')
    const [held] = await ask({from: {prefixIds: [prefix.id]}, holder: {kind: 'service', name: 'cluster'}})
    const second = sql`INSERT INTO allocations (address_id, holder_kind, holder, purpose, created_by)
      SELECT address_id, 'person', 'eve', 'service', 'test' FROM allocations WHERE id = ${held!.id}`
    await expect(second.execute(world.db)).rejects.toThrow('one_holder_per_address')
    await expect(sql`DELETE FROM prefixes WHERE id = ${prefix.id}`.execute(world.db)).rejects.toThrow(
      '10.37.1.1 of prefix 10.37.1.0/29 is held by service cluster',
    )
    expect(await refusal(world.ipam.removePrefix(world.db, prefix.id, 'test'))).toMatchObject({
      code: 'CONFLICT',
      detail: '10.37.1.1 of prefix 10.37.1.0/29 is held by service cluster',
    })
    const pool = await create({cidr: '10.37.2.0/24', status: 'container'})
    const {delegation} = await carve({from: {prefixIds: [pool.id]}, length: 30})
    const again = sql`INSERT INTO delegations (vrf_id, prefix_id, cidr, holder_kind, holder, purpose, created_at, created_by)
      SELECT vrf_id, prefix_id, '10.37.2.0/31', 'person', 'eve', 'service', now(), 'test' FROM delegations WHERE id = ${delegation.id}`
    await expect(again.execute(world.db)).rejects.toThrow('one_holder_per_delegation')
  })
})

describe('a removed prefix', () => {
  test('leaves its addresses their history, and they cool down in the next one around them', async () => {
    const prefix = await small('10.38.1')
    const [held] = await ask({from: {prefixIds: [prefix.id]}})
    await world.ipam.free(world.db, held!.id, 'test', world.at(100), 'not needed')
    world.wind(110)
    await world.ipam.removePrefix(world.db, prefix.id, 'test')
    expect(await world.ipam.who(ip('10.38.1.1'), world.at(50))).toMatchObject({
      prefixId: null,
      cidr: null,
      freedReason: 'not needed',
    })
    const wider = await create({cidr: '10.38.1.0/24'})
    expect(addresses(await ask({from: {prefixIds: [wider.id]}}, 120))).toEqual(['10.38.1.2'])
    expect(
      (await refusal(ask({from: {prefixIds: [wider.id]}, address: '10.38.1.1', holder: person('eve')}, 120))).detail,
    ).toContain('cools down')
    world.wind(0)
  })
})

describe('tenants', () => {
  test('spend only what is theirs, was granted to them, or lies in a container granted to them', async () => {
    const [own, granted, pooled, foreign] = [
      await small('10.40.1', {tenant: 'acme'}),
      await small('10.40.2'),
      await small('10.40.3'),
      await small('10.40.4'),
    ]
    const container = await create({cidr: '10.41.0.0/24', status: 'container'})
    const inside = await small('10.41.0')
    await world.ipam.writePool(world.db, 'acme-pool', {prefixIds: [pooled.id]}, world.at(0))
    const grants = {prefixIds: [granted.id, container.id], pools: ['acme-pool']}
    const tenant = await world.ipam.writeTenant(world.db, 'acme', grants, world.at(0))
    expect(tenant).toMatchObject({prefixes: ['10.40.2.0/29', '10.41.0.0/24'], pools: ['acme-pool']})
    for (const prefix of [own, granted, pooled, inside])
      expect(await ask({from: {prefixIds: [prefix.id]}, tenant: 'acme'})).toMatchObject([{tenant: 'acme'}])
    expect(await refusal(ask({from: {prefixIds: [foreign.id]}, tenant: 'acme'}))).toMatchObject({
      code: 'FORBIDDEN',
      detail: 'tenant acme was granted nothing of 10.40.4.0/29',
    })
    expect((await refusal(ask({from: {prefixIds: [own.id]}, tenant: 'nobody'}))).detail).toBe('there is no tenant nobody')
    expect((await world.ipam.grantedTo('acme', null)).toSorted()).toEqual(
      [own, granted, pooled, container, inside].map(row => row.id).toSorted(),
    )
    expect((await refusal(world.ipam.removeTenant(world.db, 'acme'))).code).toBe('CONFLICT')
  })

  test('keep their quotas by family and role, and the error is not that of a full prefix', async () => {
    const prefix = await small('10.42.1', {role: 'public', tenant: 'beta'})
    await create({cidr: '10.43.0.0/24', status: 'container', role: 'links', tenant: 'beta'})
    const quotas = [
      {family: 4, role: 'public', at_most: 2},
      {family: 4, role: null, at_most: 5},
    ] as const
    await world.ipam.writeTenant(world.db, 'beta', {quotas}, world.at(0))
    const from = {prefixIds: [prefix.id]}
    await ask({from, tenant: 'beta', holder: {kind: 'service', name: 'web'}, count: 2})
    expect(await refusal(ask({from, tenant: 'beta'}))).toMatchObject({
      code: 'QUOTA_EXCEEDED',
      detail:
        'tenant beta may hold 2 of IPv4 in prefixes of role public; with these from 10.42.1.0/29 it would hold 3. ' +
        'Its biggest users, these included: service web (2), person ada (1)',
    })
    // A network counts its addresses: 2 + 2 are within 5, 4 + 2 are not.
    await carve({from: {role: 'links'}, length: 31, tenant: 'beta'})
    expect((await refusal(carve({from: {role: 'links'}, length: 31, tenant: 'beta'}))).code).toBe('QUOTA_EXCEEDED')
    expect(await world.ipam.tenantUse('beta')).toEqual([
      {family: 4, role: 'links', used: 2},
      {family: 4, role: 'public', used: 2},
    ])
    // Nothing was taken by what was refused, and others are not bound by the quota.
    expect(addresses(await ask({from}))).toEqual(['10.42.1.3'])
    expect((await refusal(ask({from}))).code).toBe('PREFIX_EXHAUSTED')
  })

  test('cannot be outwitted by asking many times at once', async () => {
    const prefix = await create({cidr: '10.44.0.0/24', tenant: 'gamma'})
    await world.ipam.writeTenant(world.db, 'gamma', {quotas: [{family: 4, role: null, at_most: 5}]}, world.at(0))
    const outcomes = await Promise.allSettled(
      Array.from({length: 12}, () => ask({from: {prefixIds: [prefix.id]}, tenant: 'gamma'})),
    )
    expect(outcomes.filter(outcome => outcome.status === 'fulfilled')).toHaveLength(5)
    expect(await world.ipam.tenantUse('gamma')).toEqual([{family: 4, role: null, used: 5}])
  })
})

describe('the conflict probe', () => {
  test('keeps an address at which something answers out of use until it falls silent', async () => {
    const prefix = await small('10.45.1')
    const held = await ask({from: {prefixIds: [prefix.id]}, count: 3})
    for (const allocation of held) await world.ipam.free(world.db, allocation.id, 'test', world.at(1000))
    const looked: string[] = []
    const probe = (seconds: number, answers: readonly string[]) =>
      world.ipam.probeFreed(world.at(seconds), async address => {
        if (address.startsWith('10.45.1.')) looked.push(address)
        return answers.includes(address) ? 'link address 52:54:00:00:00:01' : null
      })
    // So soon after, a kernel may still believe in who was there.
    await probe(1030, [])
    expect(looked).toEqual([])
    expect(await probe(1060, ['10.45.1.1'])).toEqual([
      {address: '10.45.1.1', cidr: '10.45.1.0/29', seen: 'link address 52:54:00:00:00:01'},
    ])
    expect(looked.splice(0).toSorted()).toEqual(['10.45.1.1', '10.45.1.2', '10.45.1.3'])
    const from = {prefixIds: [prefix.id]}
    expect(addresses(await ask({from, count: 2, holder: person('eve')}, 1120))).toEqual(['10.45.1.2', '10.45.1.3'])
    expect((await refusal(ask({from, holder: person('eve')}, 1130))).code).toBe('PREFIX_EXHAUSTED')
    expect((await refusal(ask({from, holder: person('eve'), address: '10.45.1.1'}, 1130))).detail).toContain(
      'something answers at it',
    )
    expect((await world.ipam.report({ids: [prefix.id]})).map(row => row.conflicts)).toEqual([1])
    expect(await probe(1121, ['10.45.1.1'])).toEqual([])
    await probe(1200, [])
    expect(looked).toEqual(['10.45.1.1', '10.45.1.1'])
    expect(addresses(await ask({from, holder: person('eve')}, 1201))).toEqual(['10.45.1.1'])
  })
})

describe('a report', () => {
  test('says how full, who fills it, and how long it lasts at the present rate', async () => {
    const prefix = await create({cidr: '10.46.0.0/24', ranges: [{kind: 'static', first: '10.46.0.1', last: '10.46.0.200'}]})
    const day = 86_400
    const from = {prefixIds: [prefix.id]}
    const first = await ask({from, count: 30, holder: {kind: 'service', name: 'web'}}, day)
    await ask({from, count: 50, holder: {kind: 'service', name: 'db'}}, 9 * day)
    for (const allocation of first.slice(0, 20)) await world.ipam.free(world.db, allocation.id, 'test', world.at(9 * day))
    world.wind(10 * day)
    const [row] = await world.ipam.report({ids: [prefix.id]})
    world.wind(0)
    // 60 more in ten days, 140 left.
    expect(row).toMatchObject({size: 200, used: 60, forecast: {per_day: 6, days_left: 23}})
    expect(row?.biggest).toEqual([
      {kind: 'service', name: 'db', addresses: 50},
      {kind: 'service', name: 'web', addresses: 10},
    ])
    expect((await world.ipam.next(prefix.id, 2, world.at(9 * day))).map(next => next.address)).toEqual([
      '10.46.0.81',
      '10.46.0.82',
    ])
  })
})

describe('single askers of one process', () => {
  test('share transactions and get one address each, or their own refusal', async () => {
    const prefix = await create({cidr: '10.47.0.0/26', ranges: [{kind: 'static', first: '10.47.0.1', last: '10.47.0.40'}]})
    const outcomes = await Promise.allSettled(
      Array.from({length: 60}, (_, index) =>
        world.ipam.allocateGrouped({prefixId: prefix.id, holder: person(`p${index}`), purpose: 'host', reason: ''}, 'test'),
      ),
    )
    const got = outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    expect(new Set(addresses(got)).size).toBe(40)
    for (const allocation of got) expect(await world.ipam.who(ip(allocation.address))).toEqual(allocation)
    const refusals = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason.code] : []))
    expect(refusals).toEqual(Array(20).fill('PREFIX_EXHAUSTED'))
  })

  test('are not held back by one among them who may not', async () => {
    const prefix = await create({cidr: '10.48.0.0/26'})
    const node = {machineId: machineId(48), name: 'node48', mac: macOf(48), prefixId: prefix.id}
    await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    const holder = {kind: 'machine', machineId: machineId(48), name: 'node48'} as const
    const asked = [
      world.ipam.allocateGrouped({prefixId: prefix.id, holder: person('a'), purpose: 'host', reason: ''}, 'test'),
      world.ipam.allocateGrouped({prefixId: prefix.id, holder, purpose: 'boot', reason: ''}, 'test'),
      world.ipam.allocateGrouped({prefixId: prefix.id, holder: person('b'), purpose: 'host', reason: ''}, 'test'),
    ]
    const outcomes = await Promise.allSettled(asked)
    expect(outcomes.map(outcome => (outcome.status === 'fulfilled' ? outcome.value.address : outcome.reason.code))).toEqual([
      '10.48.0.2',
      'CONFLICT',
      '10.48.0.3',
    ])
  })
})
