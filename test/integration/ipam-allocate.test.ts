/** Allocation on a real PostgreSQL: order, cool-down, specific addresses, exhaustion, boot addresses, history. */
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {withTx} from '../../lib/db.ts'
import type {AllocateInput, PrefixWithUse} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, refusal} from '../support/ipam-world.ts'

let world: IpamWorld
let networks = 0
beforeAll(async () => {
  world = await createIpamWorld()
})
afterAll(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  await world.database.drop()
})

/** A fresh /28: static .1–.11, dynamic .12–.14. `host(n)` is its n-th address. */
async function network(input: Partial<Parameters<IpamWorld['ipam']['createPrefix']>[1]> = {}) {
  const base = `10.0.${networks++}`
  const prefix = await world.ipam.createPrefix(world.db, {cidr: `${base}.0/28`, ...input}, 'test')
  return {prefix, host: (n: number) => ip(`${base}.${n}`)}
}

const take = (prefix: PrefixWithUse, input: Partial<AllocateInput> = {}, seconds = 0) =>
  world.ipam.allocate(
    world.db,
    {prefixId: prefix.id, holder: person('ada'), purpose: 'host', reason: 'for the test', ...input},
    'test',
    world.at(seconds),
  )
const free = (id: string, seconds: number) => world.ipam.free(world.db, id, 'bob', world.at(seconds))
const lastByte = (allocation: {address: string}) => Number(allocation.address.split('.').at(-1))

describe('allocating', () => {
  test('takes the lowest address never used, over what settings hold', async () => {
    const {prefix} = await network({gateway: `10.0.${networks}.1`, exclude: [`10.0.${networks}.3`]})
    expect([lastByte(await take(prefix)), lastByte(await take(prefix))]).toEqual([2, 4])
    const {prefix: busy, host} = await network()
    await take(busy, {address: host(1)})
    await take(busy, {address: host(3)})
    expect([lastByte(await take(busy)), lastByte(await take(busy))]).toEqual([2, 4])
  })

  test('says what it did', async () => {
    const {prefix, host} = await network()
    const holder = {kind: 'machine', machineId: machineId(1), name: 'node1'} as const
    const allocation = await take(prefix, {holder, clientKey: macOf(1)}, 5)
    expect(allocation).toEqual({
      id: allocation.id,
      address: host(1),
      prefixId: prefix.id,
      cidr: prefix.cidr,
      holder,
      purpose: 'host',
      reason: 'for the test',
      clientKey: macOf(1),
      interface: null,
      tenant: null,
      expiresAt: null,
      anycast: false,
      createdAt: world.at(5),
      createdBy: 'test',
      freedAt: null,
      freedBy: null,
      freedReason: null,
    })
    expect(await world.ipam.allocationsOf(machineId(1))).toEqual([allocation])
    expect(await world.ipam.who(host(1))).toEqual(allocation)
  })

  test('takes from the dynamic range only when asked', async () => {
    const {prefix} = await network()
    expect(lastByte(await take(prefix, {range: 'dynamic'}))).toBe(12)
    expect(lastByte(await take(prefix))).toBe(1)
  })

  test('takes many in one go, all or none', async () => {
    const {prefix} = await network({cool_down_s: 120})
    const requests = (count: number) =>
      Array.from({length: count}, (_, index) => ({holder: person(`p${index}`), purpose: 'host' as const, reason: ''}))
    const many = (count: number, seconds: number) =>
      world.ipam.allocateMany(world.db, {prefixId: prefix.id}, requests(count), 'test', world.at(seconds))
    const first = await many(9, 0)
    expect(first.map(lastByte)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(first.map(allocation => allocation.holder.name)).toEqual(requests(9).map(request => request.holder.name))
    await withTx(world.db, async tx => {
      const error = await refusal(world.ipam.allocateMany(tx, {prefixId: prefix.id}, requests(3), 'test', world.at(0)))
      expect(error.detail).toContain('cannot give 3 static addresses')
      expect(error.detail).toContain('9 held')
    })
    expect((await world.ipam.getPrefix(prefix.id))?.utilisation.static.held).toBe(9)
    for (const allocation of first.slice(0, 2)) await free(allocation.id, 10)
    expect((await many(4, 130)).map(lastByte)).toEqual([10, 11, 1, 2])
  })

  test.each(['container', 'reserved', 'deprecated'] as const)('is refused from a prefix that is %s', async status => {
    const {prefix} = await network({status})
    expect(await refusal(take(prefix))).toMatchObject({code: 'CONFLICT', detail: expect.stringContaining(status)})
  })

  test('is refused from a prefix that does not exist', async () => {
    expect((await refusal(take({id: machineId(77)} as PrefixWithUse))).code).toBe('NOT_FOUND')
  })

  test('is refused to names that ipam uses itself, and to no name', async () => {
    const {prefix} = await network()
    expect((await refusal(take(prefix, {holder: {kind: 'service', name: 'gateway'}}))).code).toBe('INVALID_INPUT')
    expect((await refusal(take(prefix, {holder: person(' ')}))).code).toBe('INVALID_INPUT')
  })
})

describe('freed addresses', () => {
  test('come back in the order they were freed, once each has cooled down and nothing is unused', async () => {
    const {prefix} = await network({
      cool_down_s: 120,
      ranges: [{kind: 'static', first: `10.0.${networks}.1`, last: `10.0.${networks}.4`}],
    })
    const all = [await take(prefix), await take(prefix), await take(prefix), await take(prefix)]
    for (const [order, index] of [2, 0, 3].entries()) await free(all[index]!.id, 100 + order)
    expect((await refusal(take(prefix, {}, 219))).code).toBe('PREFIX_EXHAUSTED')
    expect(lastByte(await take(prefix, {}, 220))).toBe(3)
    expect((await refusal(take(prefix, {}, 220))).code).toBe('PREFIX_EXHAUSTED')
    expect([lastByte(await take(prefix, {}, 300)), lastByte(await take(prefix, {}, 300))]).toEqual([1, 4])
  })

  test('wait behind those never used', async () => {
    const {prefix} = await network({cool_down_s: 120})
    const first = await take(prefix)
    await free(first.id, 0)
    expect(lastByte(await take(prefix, {}, 10_000))).toBe(2)
  })

  test('are freed once: again says how it ended the first time', async () => {
    const {prefix} = await network()
    const allocation = await take(prefix)
    const ended = await free(allocation.id, 10)
    expect(ended).toEqual({...allocation, freedAt: world.at(10), freedBy: 'bob'})
    expect(await free(allocation.id, 20)).toEqual(ended)
    expect((await refusal(free(machineId(5), 0))).code).toBe('NOT_FOUND')
  })

  test('never end before they began, even by a clock that went back', async () => {
    const {prefix, host} = await network({cool_down_s: 120})
    const allocation = await take(prefix, {}, 1000)
    expect((await free(allocation.id, 10)).freedAt).toEqual(world.at(1000))
    expect((await take(prefix, {address: host(1)}, 20)).createdAt).toEqual(world.at(1000))
  })

  test('go back while they cool to nobody but who had them', async () => {
    const {prefix, host} = await network({cool_down_s: 120})
    const holder = {kind: 'machine', machineId: machineId(3), name: 'node3'} as const
    const allocation = await take(prefix, {holder})
    await free(allocation.id, 50)
    const error = await refusal(take(prefix, {address: host(1)}, 169))
    expect(error).toMatchObject({
      code: 'ADDRESS_TAKEN',
      detail: `${host(1)} was freed by machine node3 and cools down until 2030-01-01T00:02:50.000Z`,
    })
    const again = await take(prefix, {holder, address: host(1)}, 60)
    await free(again.id, 70)
    expect(lastByte(await take(prefix, {address: host(1)}, 190))).toBe(1)
  })

  test('of a machine are freed by purpose', async () => {
    const {prefix} = await network()
    const holder = {kind: 'machine', machineId: machineId(4), name: 'node4'} as const
    const boot = await world.ipam.bootAddress(
      world.db,
      {machineId: machineId(4), name: 'node4', mac: macOf(4), prefixId: prefix.id},
      'test',
      world.at(0),
    )
    const host = await take(prefix, {holder})
    const freed = await world.ipam.freeOfMachine(world.db, machineId(4), ['host', 'bmc'], 'bob', world.at(10))
    expect(freed).toEqual([{...host, freedAt: world.at(10), freedBy: 'bob'}])
    expect(await world.ipam.allocationsOf(machineId(4))).toEqual([boot])
    expect(await world.ipam.freeOfMachine(world.db, machineId(4), ['host', 'bmc'], 'bob', world.at(11))).toEqual([])
  })

  test('are not what a setting of the prefix holds', async () => {
    const {prefix, host} = await network({gateway: `10.0.${networks}.1`, exclude: [`10.0.${networks}.2`]})
    const [gateway, excluded] = [await world.ipam.who(host(1)), await world.ipam.who(host(2))]
    expect(await refusal(free(gateway!.id, 0))).toMatchObject({code: 'CONFLICT', mend: expect.stringContaining('setting')})
    expect((await free(excluded!.id, 0)).freedBy).toBe('bob')
    expect(prefix.gateway).toBe(host(1))
  })

  test('W25 with a lease on them stay out of use as long as the client may think it has it', async () => {
    const {prefix, host} = await network({
      cool_down_s: 120,
      ranges: [{kind: 'static', first: `10.0.${networks}.1`, last: `10.0.${networks}.1`}],
    })
    const boot = await world.ipam.bootAddress(
      world.db,
      {machineId: machineId(6), name: 'node6', mac: macOf(6), prefixId: prefix.id},
      'test',
      world.at(0),
    )
    const request = {
      mac: macOf(6),
      clientId: null,
      address: host(1),
      machineId: machineId(6),
      leaseS: 1000,
      kind: 'reservation',
    } as const
    expect(await world.ipam.bindLeases([request], world.at(0))).toEqual(['bound'])
    await free(boot.id, 10)
    const error = await refusal(take(prefix, {}, 999))
    expect(error.detail).toContain('1 cooling, the first of them until 2030-01-01T00:16:40.000Z')
    expect(lastByte(await take(prefix, {}, 1000))).toBe(1)
  })
})

describe('a specific address', () => {
  test('names who has it', async () => {
    const {prefix, host} = await network()
    await take(
      prefix,
      {address: host(7), holder: {kind: 'machine', machineId: machineId(7), name: 'node7'}, reason: 'rack move'},
      30,
    )
    expect(await refusal(take(prefix, {address: host(7)}, 40))).toMatchObject({
      code: 'ADDRESS_TAKEN',
      detail: `${host(7)} is held by machine node7 since 2030-01-01T00:00:30.000Z (rack move)`,
    })
  })

  test('may lie outside the ranges, and is left out when its turn comes', async () => {
    const base = `10.0.${networks}`
    const {prefix} = await network({ranges: [{kind: 'static', first: `${base}.1`, last: `${base}.3`}]})
    expect(lastByte(await take(prefix, {address: `${base}.9`}))).toBe(9)
    expect(lastByte(await take(prefix, {address: `${base}.1`}))).toBe(1)
    expect([lastByte(await take(prefix)), lastByte(await take(prefix))]).toEqual([2, 3])
    expect((await refusal(take(prefix))).code).toBe('PREFIX_EXHAUSTED')
  })

  test.each(['.0', '.15', '.16', '.99'])('is refused at %s, outside the host addresses', async end => {
    const base = `10.0.${networks}`
    const {prefix} = await network()
    expect(await refusal(take(prefix, {address: `${base}${end}`}))).toMatchObject({
      code: 'INVALID_INPUT',
      errors: [{field: 'address'}],
    })
  })

  test('of a prefix without ranges goes to one of many', async () => {
    const {prefix, host} = await network({ranges: []})
    const outcomes = await Promise.allSettled(
      Array.from({length: 8}, (_, index) => take(prefix, {address: host(5), holder: person(`p${index}`)})),
    )
    expect(outcomes.filter(outcome => outcome.status === 'fulfilled')).toHaveLength(1)
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({code: 'ADDRESS_TAKEN'})
    expect((await refusal(take(prefix))).detail).toContain('has no static range')
  })
})

describe('F16 an exhausted prefix', () => {
  test('says how many are held and cooling, until when, and who has most; and recovers when one is freed', async () => {
    const {prefix} = await network({cool_down_s: 120, gateway: `10.0.${networks}.1`})
    const cluster = await Promise.all(Array.from({length: 6}, () => take(prefix, {holder: {kind: 'service', name: 'cluster'}})))
    for (let count = 0; count < 4; count++) await take(prefix, {holder: person(`p${count}`)})
    await free(cluster[0]!.id, 60)
    await free(cluster[1]!.id, 30)
    const error = await refusal(take(prefix, {}, 100))
    expect(error.code).toBe('PREFIX_EXHAUSTED')
    expect(error.detail).toBe(
      `prefix ${prefix.cidr} cannot give 1 static address of ${prefix.ranges[0]!.first}–${prefix.ranges[0]!.last}: 8 held, ` +
        '2 cooling, the first of them until 2030-01-01T00:02:30.000Z; biggest holders: service cluster (4), person p0 (1), person p1 (1); it grew by 9 a day over 30 days, so 0 days are left',
    )
    expect((await take(prefix, {}, 150)).address).toBe(cluster[1]!.address)
  })
})

describe('a boot address', () => {
  const boot = (prefix: PrefixWithUse, number: number, seconds = 0, mac = macOf(number)) =>
    world.ipam.bootAddress(
      world.db,
      {machineId: machineId(number), name: `node${number}`, mac, prefixId: prefix.id},
      'test',
      world.at(seconds),
    )

  test('is a fresh static one, and the same ever after', async () => {
    const {prefix} = await network()
    const first = await boot(prefix, 20)
    expect(first).toMatchObject({purpose: 'boot', clientKey: macOf(20), reason: 'boot address'})
    expect(lastByte(first)).toBe(1)
    expect(await boot(prefix, 20, 500)).toEqual(first)
  })

  test('stays with the machine when its NIC is replaced', async () => {
    const {prefix} = await network()
    const first = await boot(prefix, 21)
    expect(await boot(prefix, 21, 10, macOf(2100))).toEqual({...first, clientKey: macOf(2100)})
    expect((await world.ipam.allocationsOf(machineId(21))).map(allocation => allocation.clientKey)).toEqual([macOf(2100)])
  })

  test('is the one its MAC leased while nobody knew it, passed on without a gap', async () => {
    const {prefix, host} = await network()
    const mac = macOf(22)
    expect(await world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(0)})).toEqual({address: host(12)})
    const request = {mac, clientId: '0152540000', address: host(12), leaseS: 600, kind: 'dynamic'} as const
    expect(await world.ipam.bindLeases([request], world.at(1))).toEqual(['bound'])
    const passed = await boot(prefix, 22, 100)
    expect(passed).toMatchObject({address: host(12), purpose: 'boot', clientKey: mac, createdAt: world.at(100)})
    expect(await world.ipam.who(host(12), world.at(99))).toMatchObject({
      holder: {kind: 'range', name: mac},
      freedAt: world.at(100),
    })
    expect(await world.ipam.who(host(12), world.at(100))).toEqual(passed)
    // The client renews by its old lease, whether dhcpd has heard of the machine or not.
    expect(await world.ipam.bindLeases([request], world.at(200))).toEqual(['bound'])
    expect(await world.ipam.bindLeases([{...request, kind: 'reservation', machineId: machineId(22)}], world.at(201))).toEqual([
      'bound',
    ])
    expect(await world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(202)})).toEqual({address: host(12)})
    expect(await world.ipam.findLease({mac})).toMatchObject({
      kind: 'reservation',
      machineId: machineId(22),
      state: 'bound',
      held: true,
    })
    // The lease ends; the address stays the machine's.
    expect(await world.ipam.expireLeases(world.at(5000))).toMatchObject({freed: []})
    expect(await world.ipam.who(host(12))).toEqual(passed)
  })

  test('is fresh when the lease of its MAC was swept before', async () => {
    const {prefix} = await network()
    await world.ipam.offerDynamic({mac: macOf(23), prefixId: prefix.id, now: world.at(0)})
    await world.ipam.expireLeases(world.at(61))
    expect(lastByte(await boot(prefix, 23, 62))).toBe(1)
  })

  test('is one a machine, also when asked for in two prefixes at once', async () => {
    const [one, two] = [await network(), await network()]
    const outcomes = await Promise.allSettled([
      boot(one.prefix, 24),
      boot(two.prefix, 24),
      boot(one.prefix, 24),
      boot(two.prefix, 24),
    ])
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({code: 'CONFLICT'})
    expect(await world.ipam.allocationsOf(machineId(24))).toHaveLength(1)
    expect(lastByte(await boot(two.prefix, 24))).toBe(1)
  })

  test('cannot be allocated a second time by the general way', async () => {
    const {prefix, host} = await network()
    await boot(prefix, 25)
    const holder = {kind: 'machine', machineId: machineId(25), name: 'node25'} as const
    for (const address of [undefined, host(9)]) {
      const input = address === undefined ? {} : {address}
      expect(await refusal(take(prefix, {holder, purpose: 'boot', ...input}))).toMatchObject({
        code: 'CONFLICT',
        detail: 'machine node25 has a boot address already',
      })
    }
    expect(lastByte(await take(prefix, {address: host(9)}))).toBe(9)
  })
})

describe('history', () => {
  test('tells for every instant who had the address, and why', async () => {
    const {prefix, host} = await network({cool_down_s: 120})
    const ada = await take(prefix, {reason: 'first'}, 100)
    await free(ada.id, 200)
    const bob = await take(prefix, {address: host(1), holder: person('bob'), reason: 'second'}, 400)
    const at = async (seconds: number) => (await world.ipam.who(host(1), world.at(seconds)))?.reason ?? 'nobody'
    expect([await at(99), await at(100), await at(199), await at(200), await at(399), await at(400), await at(9999)]).toEqual([
      'nobody',
      'first',
      'first',
      'nobody',
      'nobody',
      'second',
      'second',
    ])
    expect(await world.ipam.who(host(1))).toEqual(bob)
    expect(await world.ipam.who(host(2))).toBeNull()
  })
})
