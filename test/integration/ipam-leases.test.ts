/** Leases on a real PostgreSQL: what dhcpd asks of ipam. */
import {sql} from 'kysely'
import {afterAll, afterEach, beforeAll, describe, expect, test} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {BindRequest, PrefixWithUse} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, refusal} from '../support/ipam-world.ts'

let world: IpamWorld
let networks = 0
beforeAll(async () => {
  world = await createIpamWorld()
})
afterEach(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  await sql`TRUNCATE prefixes CASCADE`.execute(world.db)
})
afterAll(async () => {
  await world.database.drop()
})

/** A fresh /28 with dynamic .12–.14; leases of ten minutes, cool-down of two. */
async function network(input: Partial<Parameters<IpamWorld['ipam']['createPrefix']>[1]> = {}) {
  const base = `10.0.${networks++}`
  const prefix = await world.ipam.createPrefix(world.db, {cidr: `${base}.0/28`, cool_down_s: 120, ...input}, 'test')
  return {prefix, host: (n: number) => ip(`${base}.${n}`)}
}

const offer = (prefix: PrefixWithUse, mac: Mac, seconds: number, requested?: Ipv4) =>
  world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(seconds), ...(requested ? {requested} : {})})
const dynamic = (mac: Mac, address: Ipv4, leaseS = 600): BindRequest => ({mac, clientId: null, address, leaseS, kind: 'dynamic'})
const bind = (requests: readonly BindRequest[], seconds: number) => world.ipam.bindLeases(requests, world.at(seconds))
const use = async (prefix: PrefixWithUse) => (await world.ipam.getPrefix(prefix.id))!.utilisation.dynamic

/** Offered and bound. */
async function lease(prefix: PrefixWithUse, mac: Mac, seconds: number): Promise<Ipv4> {
  const offered = await offer(prefix, mac, seconds)
  if (offered === 'full') throw new Error('full')
  expect(await bind([dynamic(mac, offered.address)], seconds)).toEqual(['bound'])
  return offered.address
}

describe('an offer', () => {
  test('is a dynamic address, the same until it lapses, and never another client’s meanwhile', async () => {
    const {prefix, host} = await network()
    expect(await offer(prefix, macOf(1), 0)).toEqual({address: host(12)})
    expect(await offer(prefix, macOf(2), 1)).toEqual({address: host(13)})
    expect(await offer(prefix, macOf(1), 50)).toEqual({address: host(12)})
    await world.ipam.expireLeases(world.at(61))
    expect(await world.ipam.who(host(12))).toMatchObject({
      holder: {kind: 'range', name: macOf(1)},
      reason: `dynamic lease of ${macOf(1)}`,
    })
    expect(await world.ipam.who(host(13))).toBeNull()
    expect(await world.ipam.findLease({mac: macOf(2)})).toMatchObject({address: host(13), state: 'expired', held: false})
  })

  test('W17 is the current address, else the previous, else the requested, else a new one', async () => {
    const {prefix, host} = await network()
    expect(await offer(prefix, macOf(1), 0, host(14))).toEqual({address: host(14)})
    expect(await offer(prefix, macOf(1), 1, host(13))).toEqual({address: host(14)})
    await world.ipam.expireLeases(world.at(100))
    expect(await offer(prefix, macOf(2), 101, host(14))).toEqual({address: host(12)})
    expect(await offer(prefix, macOf(1), 102, host(13))).toEqual({address: host(14)})
  })

  test.each([1, 15, 99])('is not the requested address when that is no dynamic one (.%i)', async last => {
    const {prefix, host} = await network()
    expect(await offer(prefix, macOf(1), 0, host(last))).toEqual({address: host(12)})
  })

  test('is full when every address is held or cools, and no sooner', async () => {
    const {prefix, host} = await network()
    for (const [index, last] of [12, 13, 14].entries())
      expect(await offer(prefix, macOf(index), 0)).toEqual({address: host(last)})
    expect(await offer(prefix, macOf(9), 1)).toBe('full')
    await world.ipam.expireLeases(world.at(60))
    expect(await offer(prefix, macOf(9), 179)).toBe('full')
    expect(await offer(prefix, macOf(9), 180)).toEqual({address: host(12)})
  })

  test('is full in a prefix without a dynamic range, or one no longer active', async () => {
    const {prefix} = await network({ranges: []})
    expect(await offer(prefix, macOf(1), 0)).toBe('full')
    const {prefix: old} = await network({status: 'deprecated'})
    expect(await offer(old, macOf(1), 0)).toBe('full')
    expect((await refusal(offer({id: machineId(1)} as PrefixWithUse, macOf(1), 0))).code).toBe('NOT_FOUND')
  })

  test('of a bound lease leaves it bound, and keeps it from ending under the client’s request', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    await offer(prefix, macOf(1), 590)
    expect(await world.ipam.findLease({mac: macOf(1)})).toMatchObject({
      state: 'bound',
      startsAt: world.at(0),
      expiresAt: world.at(650),
    })
    await offer(prefix, macOf(1), 100)
    expect(await world.ipam.findLease({mac: macOf(1)})).toMatchObject({state: 'bound', expiresAt: world.at(650)})
    expect(await world.ipam.expireLeases(world.at(620))).toMatchObject({freed: []})
    expect(await world.ipam.who(host(12))).not.toBeNull()
  })
})

describe('binding', () => {
  test('answers each request of a batch in order', async () => {
    const {prefix, host} = await network()
    const node = {machineId: machineId(1), name: 'node1', mac: macOf(50), prefixId: prefix.id}
    const boot = await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    await offer(prefix, macOf(1), 0)
    const reservation = {clientId: null, leaseS: 600, kind: 'reservation'} as const
    const results = await bind(
      [
        dynamic(macOf(2), host(12)),
        {...reservation, mac: macOf(50), address: boot.address, machineId: machineId(1)},
        dynamic(macOf(1), host(12)),
        dynamic(macOf(3), host(13)),
        {...reservation, mac: macOf(51), address: host(5), machineId: machineId(1)},
        dynamic(macOf(4), boot.address),
      ],
      10,
    )
    expect(results).toEqual([{refused: 'taken'}, 'bound', 'bound', {refused: 'gone'}, {refused: 'gone'}, {refused: 'taken'}])
    expect(await world.ipam.liveLeases(prefix.id)).toHaveLength(2)
    expect(await world.ipam.findLease({mac: macOf(50)})).toEqual({
      address: boot.address,
      prefixId: prefix.id,
      mac: macOf(50),
      kind: 'reservation',
      machineId: machineId(1),
      state: 'bound',
      startsAt: world.at(10),
      expiresAt: world.at(610),
      held: true,
    })
  })

  test('gives one address of a machine to one of its NICs in a batch', async () => {
    const {prefix} = await network()
    const node = {machineId: machineId(2), name: 'node2', mac: macOf(60), prefixId: prefix.id}
    const boot = await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    const request = {clientId: null, address: boot.address, machineId: machineId(2), leaseS: 600, kind: 'reservation'} as const
    expect(
      await bind(
        [
          {...request, mac: macOf(61)},
          {...request, mac: macOf(60)},
        ],
        0,
      ),
    ).toEqual(['bound', {refused: 'taken'}])
    expect(await bind([{...request, mac: macOf(60)}], 10)).toEqual(['bound'])
  })

  test('renews: the end moves, the beginning stays, until the lease was over', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    await bind([dynamic(macOf(1), host(12))], 300)
    expect(await world.ipam.findLease({mac: macOf(1)})).toMatchObject({startsAt: world.at(0), expiresAt: world.at(900)})
    await bind([dynamic(macOf(1), host(12))], 1000)
    expect(await world.ipam.findLease({mac: macOf(1)})).toMatchObject({startsAt: world.at(1000), expiresAt: world.at(1600)})
  })

  test('W26 holds a lease without end', async () => {
    const {prefix, host} = await network()
    await offer(prefix, macOf(1), 0)
    expect(await bind([dynamic(macOf(1), host(12), 0xffffffff)], 0)).toEqual(['bound'])
    expect((await world.ipam.findLease({mac: macOf(1)}))?.expiresAt).toEqual(world.at(0xffffffff))
  })

  test('tells the same address in two VRFs apart by the prefix', async () => {
    const {prefix, host} = await network()
    const other = await world.ipam.createPrefix(world.db, {cidr: prefix.cidr, vrf: 'blue'}, 'test')
    await offer(other, macOf(1), 0)
    expect(await bind([{...dynamic(macOf(1), host(12)), prefixId: prefix.id}], 0)).toEqual([{refused: 'gone'}])
    expect(await bind([{...dynamic(macOf(1), host(12)), prefixId: other.id}], 0)).toEqual(['bound'])
    expect((await world.ipam.liveLeases(prefix.id)).length + (await world.ipam.liveLeases(other.id)).length).toBe(1)
  })

  test('survives a client identifier that is no hexadecimal', async () => {
    const {prefix, host} = await network()
    await offer(prefix, macOf(1), 0)
    expect(await bind([{...dynamic(macOf(1), host(12)), clientId: 'zz'}], 0)).toEqual(['bound'])
    expect(await bind([], 0)).toEqual([])
  })

  test('after the address went to another is refused', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    await world.ipam.expireLeases(world.at(600))
    expect(await bind([dynamic(macOf(1), host(12))], 601)).toEqual([{refused: 'gone'}])
    const input = {prefixId: prefix.id, holder: person('ada'), purpose: 'host', reason: '', address: host(12)} as const
    await world.ipam.allocate(world.db, input, 'test', world.at(800))
    expect(await bind([dynamic(macOf(1), host(12))], 801)).toEqual([{refused: 'taken'}])
    expect(await world.ipam.findLease({mac: macOf(1)})).toMatchObject({state: 'expired', held: false})
  })
})

describe('the end of a lease', () => {
  test('W24 a released dynamic address cools down and keeps its history', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    expect(await world.ipam.releaseLease({mac: macOf(2), address: host(12)}, world.at(50))).toBe(false)
    expect(await world.ipam.releaseLease({mac: macOf(1), address: host(12)}, world.at(100))).toBe(true)
    expect(await world.ipam.releaseLease({mac: macOf(1), address: host(12)}, world.at(101))).toBe(false)
    expect(await world.ipam.who(host(12))).toBeNull()
    expect(await world.ipam.who(host(12), world.at(99))).toMatchObject({
      holder: {name: macOf(1)},
      freedAt: world.at(100),
      freedBy: 'dhcpd',
    })
    expect(await world.ipam.findLease({mac: macOf(1)})).toBeNull()
    expect(await offer(prefix, macOf(3), 101, host(12))).toEqual({address: host(13)})
    expect(await offer(prefix, macOf(4), 220, host(12))).toEqual({address: host(12)})
  })

  test('a released reservation stays the machine’s', async () => {
    const {prefix} = await network()
    const node = {machineId: machineId(3), name: 'node3', mac: macOf(70), prefixId: prefix.id}
    const boot = await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    await bind(
      [{mac: macOf(70), clientId: null, address: boot.address, machineId: machineId(3), leaseS: 600, kind: 'reservation'}],
      0,
    )
    expect(await world.ipam.releaseLease({mac: macOf(70), address: boot.address}, world.at(10))).toBe(true)
    expect(await world.ipam.who(boot.address)).toMatchObject({holder: {kind: 'machine'}, freedAt: null})
    expect(await world.ipam.liveLeases(prefix.id)).toEqual([])
  })

  test('W23 a declined dynamic address is out of use for a day, then cools down', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    expect(await world.ipam.declineLease({mac: macOf(2), address: host(12)}, world.at(5))).toEqual({ignored: 'not_this_client'})
    expect(await world.ipam.declineLease({mac: macOf(1), address: host(12)}, world.at(10))).toEqual({
      event: `${macOf(1)} declined ${host(12)}: another device uses it; the address is out of use until 2030-01-02T00:00:10.000Z`,
    })
    expect(await world.ipam.who(host(12))).toMatchObject({
      holder: {kind: 'service', name: 'declined'},
      reason: `declined by ${macOf(1)}: another device uses the address`,
      createdAt: world.at(10),
    })
    expect(await bind([dynamic(macOf(1), host(12))], 11)).toEqual([{refused: 'taken'}])
    expect(await offer(prefix, macOf(1), 12, host(12))).toEqual({address: host(13)})
    await world.ipam.expireLeases(world.at(86_409))
    expect(await world.ipam.who(host(12))).not.toBeNull()
    expect((await world.ipam.expireLeases(world.at(86_410))).freed.map(allocation => allocation.address)).toContain(host(12))
    expect(await use(prefix)).toMatchObject({held: 0})
  })

  test('a declined address comes back sooner when a person frees it', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    await world.ipam.declineLease({mac: macOf(1), address: host(12)}, world.at(10))
    const held = await world.ipam.who(host(12))
    await world.ipam.free(world.db, held!.id, 'ada', world.at(20))
    expect(await offer(prefix, macOf(5), 140, host(12))).toEqual({address: host(12)})
  })

  test('a machine that declines its address keeps it, and the event names the machine', async () => {
    const {prefix} = await network()
    const node = {machineId: machineId(4), name: 'node4', mac: macOf(80), prefixId: prefix.id}
    const boot = await world.ipam.bootAddress(world.db, node, 'test', world.at(0))
    const request = {
      mac: macOf(80),
      clientId: null,
      address: boot.address,
      machineId: machineId(4),
      leaseS: 600,
      kind: 'reservation',
    } as const
    await bind([request], 0)
    expect(await world.ipam.declineLease({mac: macOf(80), address: boot.address}, world.at(10))).toEqual({
      event: `${macOf(80)} declined ${boot.address}, reserved for machine node4: another device uses the address`,
    })
    expect(await world.ipam.who(boot.address)).toMatchObject({id: boot.id})
    expect(await bind([request], 20)).toEqual(['bound'])
  })

  test('comes by the clock that was given: not a second before', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    expect((await world.ipam.expireLeases(world.at(599))).freed).toEqual([])
    const swept = await world.ipam.expireLeases(world.at(600))
    expect(swept.freed).toMatchObject([{address: host(12), holder: {name: macOf(1)}, freedAt: world.at(600), freedBy: 'dhcpd'}])
    expect(await world.ipam.expireLeases(world.at(600))).toEqual({expired: 0, freed: []})
    expect(await offer(prefix, macOf(2), 719, host(12))).toEqual({address: host(13)})
    expect(await offer(prefix, macOf(3), 720, host(12))).toEqual({address: host(12)})
  })

  test('of a dynamic lease that a person freed refuses the client’s renewal', async () => {
    const {prefix, host} = await network()
    await lease(prefix, macOf(1), 0)
    const held = await world.ipam.who(host(12))
    await world.ipam.free(world.db, held!.id, 'ada', world.at(10))
    expect(await bind([dynamic(macOf(1), host(12))], 20)).toEqual([{refused: 'gone'}])
    expect(await world.ipam.findLease({mac: macOf(1)})).toBeNull()
  })
})

describe('finding a lease', () => {
  test('prefers the one whose address is still kept, and can be asked for an address or a prefix', async () => {
    const [one, two] = [await network(), await network()]
    const mac = macOf(90)
    await lease(one.prefix, mac, 0)
    await lease(two.prefix, mac, 500)
    await world.ipam.expireLeases(world.at(700))
    expect(await world.ipam.findLease({mac})).toMatchObject({address: two.host(12), held: true})
    expect(await world.ipam.findLease({mac, address: one.host(12)})).toMatchObject({state: 'expired', held: false})
    expect(await world.ipam.findLease({mac, prefixId: one.prefix.id})).toMatchObject({address: one.host(12)})
    expect(await world.ipam.findLease({mac: macOf(91)})).toBeNull()
  })
})
