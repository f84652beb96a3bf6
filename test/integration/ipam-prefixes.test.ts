/** Prefixes on a real PostgreSQL: overlaps, holds, utilisation, changes. */
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {withTx} from '../../lib/db.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, refusal} from '../support/ipam-world.ts'

let world: IpamWorld
beforeAll(async () => {
  world = await createIpamWorld(16)
})
afterAll(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  await world.database.drop()
})

const create = (input: Parameters<IpamWorld['ipam']['createPrefix']>[1]) => world.ipam.createPrefix(world.db, input, 'test')

describe('creating a prefix', () => {
  test('gives it back with ranges and utilisation, its own addresses held', async () => {
    const prefix = await create({
      cidr: '10.1.0.0/24',
      gateway: '10.1.0.1',
      dns: ['10.1.0.1', '9.9.9.9'],
      boot_url: 'http://10.1.0.2:8480',
      relays: ['10.1.0.3'],
      exclude: ['10.1.0.200', '10.1.0.255'],
      role: 'provisioning',
      lease_s: 600,
    })
    expect(prefix).toMatchObject({
      cidr: '10.1.0.0/24',
      vrf: 'default',
      gateway: '10.1.0.1',
      dns: ['10.1.0.1', '9.9.9.9'],
      lease_s: 600,
    })
    expect(prefix.ranges.map(range => `${range.kind} ${range.first} ${range.last}`)).toEqual([
      'static 10.1.0.2 10.1.0.191',
      'dynamic 10.1.0.192 10.1.0.254',
    ])
    expect(prefix.utilisation).toEqual({
      static: {size: 190, held: 2, cooling: 0},
      dynamic: {size: 63, held: 1, cooling: 0},
      container: null,
    })
    expect(await world.ipam.who(ip('10.1.0.1'))).toMatchObject({
      holder: {kind: 'service', name: 'gateway'},
      reason: 'gateway, DNS server',
      createdBy: 'test',
    })
    expect(await world.ipam.who(ip('9.9.9.9'))).toBeNull()
  })

  test.each(['10.1.0.0/24', '10.1.0.0/25', '10.0.0.0/8'])('refuses %s beside 10.1.0.0/24 and names it', async cidr => {
    const error = await refusal(create({cidr}))
    expect(error.code).toBe('CONFLICT')
    expect(error.detail).toContain('prefix 10.1.0.0/24 (active')
  })

  test('leaves the transaction usable when it refuses', async () => {
    await withTx(world.db, async tx => {
      await refusal(world.ipam.createPrefix(tx, {cidr: '10.1.0.0/26'}, 'test'))
      await world.ipam.createPrefix(tx, {cidr: '10.2.0.0/26'}, 'test')
    })
    expect(await world.ipam.getPrefix('10.2.0.0/26')).toMatchObject({cidr: '10.2.0.0/26'})
  })

  test('admits the same network in another VRF, and a container around others', async () => {
    await create({cidr: '10.1.0.0/24', vrf: 'blue'})
    await create({cidr: '10.0.0.0/8', status: 'container'})
    expect(await world.ipam.getPrefix('10.1.0.0/24', 'blue')).toMatchObject({vrf: 'blue'})
    expect(await world.ipam.findPrefixOf(ip('10.1.0.77'))).toMatchObject({cidr: '10.1.0.0/24', vrf: 'default'})
    expect(await world.ipam.findPrefixOf(ip('10.200.0.1'))).toBeNull()
    expect((await refusal(create({cidr: '10.0.0.0/8', status: 'container'}))).code).toBe('CONFLICT')
  })

  test('lets one of many that overlap win, whichever it is', async () => {
    const tries = Array.from({length: 12}, (_, index) => create({cidr: index % 2 ? '10.3.0.0/24' : '10.3.0.0/23'}))
    const outcomes = await Promise.allSettled(tries)
    expect(outcomes.filter(outcome => outcome.status === 'fulfilled')).toHaveLength(1)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({code: 'CONFLICT', detail: /overlaps prefix 10\.3\.0\.0/})
    }
  })

  test('refuses bad input before the database sees it', async () => {
    const error = await refusal(create({cidr: '10.4.0.0/24', gateway: '10.5.0.1', lease_s: 1}))
    expect(error.code).toBe('INVALID_INPUT')
    expect(error.errors?.map(entry => entry.field)).toEqual(['gateway', 'lease_s'])
  })

  test('takes the host addresses of the smallest networks', async () => {
    const [point, link] = [await create({cidr: '10.6.0.4/32'}), await create({cidr: '10.6.0.6/31'})]
    const take = (prefixId: string, name: string) =>
      world.ipam.allocate(world.db, {prefixId, holder: person(name), purpose: 'host', reason: ''}, 'test', world.at(0))
    expect((await take(point.id, 'a')).address).toBe('10.6.0.4')
    expect([(await take(link.id, 'b')).address, (await take(link.id, 'c')).address]).toEqual(['10.6.0.6', '10.6.0.7'])
    expect((await refusal(take(point.id, 'd'))).code).toBe('PREFIX_EXHAUSTED')
    expect((await refusal(take(link.id, 'd'))).code).toBe('PREFIX_EXHAUSTED')
  })

  test('serves the last addresses there are', async () => {
    const prefix = await create({cidr: '255.255.255.254/31'})
    const request = {holder: person('last'), purpose: 'host', reason: ''} as const
    const taken = await world.ipam.allocateMany(world.db, {prefixId: prefix.id}, [request, request], 'test', world.at(0))
    expect(taken.map(allocation => allocation.address)).toEqual(['255.255.255.254', '255.255.255.255'])
  })

  test('hands out IPv6', async () => {
    const prefix = await create({cidr: '2001:db8::/64', gateway: '2001:db8::1'})
    const input = {prefixId: prefix.id, holder: person('six'), purpose: 'host', reason: ''} as const
    expect((await world.ipam.allocate(world.db, input, 'test', world.at(0))).address).toBe('2001:db8::2')
    expect((await world.ipam.allocate(world.db, {...input, address: '2001:db8::ff'}, 'test', world.at(0))).address).toBe(
      '2001:db8::ff',
    )
    expect((await world.ipam.getPrefix(prefix.id))?.utilisation.static).toEqual({size: 2 ** 64, held: 2, cooling: 0})
  })
})

describe('looking a prefix up', () => {
  test('works by id and by network, and says null when there is none', async () => {
    const prefix = await create({cidr: '10.7.0.0/24'})
    expect(await world.ipam.getPrefix(prefix.id)).toEqual(prefix)
    expect(await world.ipam.getPrefix('10.7.0.0/24')).toEqual(prefix)
    expect(await world.ipam.getPrefix('10.7.0.0/25')).toBeNull()
    expect(await world.ipam.getPrefix('nonsense')).toBeNull()
    expect(await world.ipam.getPrefix(machineId(1))).toBeNull()
    expect((await world.ipam.listPrefixes()).filter(listed => listed.id === prefix.id)).toEqual([prefix])
  })
})

describe('changing a prefix', () => {
  test('moves the holds with the settings', async () => {
    const prefix = await create({cidr: '10.8.0.0/24', gateway: '10.8.0.1', dns: ['10.8.0.2'], exclude: ['10.8.0.9']})
    world.wind(100)
    const changed = await world.ipam.updatePrefix(world.db, prefix.id, {gateway: '10.8.0.254', lease_s: 120}, 'ada')
    expect(changed).toMatchObject({gateway: '10.8.0.254', dns: ['10.8.0.2'], lease_s: 120, dhcp: 'authoritative'})
    const endless = {lease_s: 0xffffffff, dhcp: 'proxy', bootp: 'static'} as const
    expect(await world.ipam.updatePrefix(world.db, prefix.id, endless, 'ada')).toMatchObject(endless)
    expect(await world.ipam.getPrefix(prefix.id)).toMatchObject({...endless, gateway: '10.8.0.254'})
    expect(await world.ipam.who(ip('10.8.0.1'))).toBeNull()
    expect(await world.ipam.who(ip('10.8.0.1'), world.at(50))).toMatchObject({holder: {name: 'gateway'}, freedBy: 'ada'})
    expect(await world.ipam.who(ip('10.8.0.254'))).toMatchObject({holder: {name: 'gateway'}, createdBy: 'ada'})
    expect(await world.ipam.who(ip('10.8.0.2'))).toMatchObject({holder: {name: 'dns'}, createdBy: 'test'})
    expect(await world.ipam.who(ip('10.8.0.9'))).toMatchObject({holder: {name: 'excluded'}})
    world.wind(110)
    await world.ipam.updatePrefix(world.db, prefix.id, {gateway: '10.8.0.1'}, 'ada')
    expect(await world.ipam.who(ip('10.8.0.1'))).toMatchObject({holder: {name: 'gateway'}})
  })

  test('refuses a gateway that a machine holds, and takes over none that a person holds', async () => {
    const prefix = await create({cidr: '10.9.0.0/24'})
    const boot = await world.ipam.bootAddress(
      world.db,
      {machineId: machineId(9), name: 'node9', mac: macOf(9), prefixId: prefix.id},
      'test',
      world.at(0),
    )
    const error = await refusal(world.ipam.updatePrefix(world.db, prefix.id, {gateway: boot.address}, 'ada'))
    expect(error).toMatchObject({code: 'ADDRESS_TAKEN', detail: expect.stringContaining('machine node9')})
    expect(await world.ipam.getPrefix(prefix.id)).toMatchObject({gateway: null})

    const request = {
      prefixId: prefix.id,
      holder: person('router'),
      purpose: 'host',
      reason: 'VRRP',
      address: '10.9.0.254',
    } as const
    await world.ipam.allocate(world.db, request, 'test', world.at(0))
    expect(await world.ipam.updatePrefix(world.db, prefix.id, {gateway: '10.9.0.254'}, 'ada')).toMatchObject({
      gateway: '10.9.0.254',
    })
    expect(await world.ipam.who(ip('10.9.0.254'))).toMatchObject({holder: person('router')})
  })

  test('that does not exist is NOT_FOUND', async () => {
    expect((await refusal(world.ipam.updatePrefix(world.db, machineId(1), {lease_s: 120}, 'ada'))).code).toBe('NOT_FOUND')
  })
})

describe('the snapshot', () => {
  test('has the active IPv4 prefixes and every reservation in them', async () => {
    const prefix = await create({cidr: '10.10.0.0/24', gateway: '10.10.0.1'})
    const holder = {kind: 'machine', machineId: machineId(10), name: 'node10'} as const
    await world.ipam.bootAddress(
      world.db,
      {machineId: machineId(10), name: 'node10', mac: macOf(10), prefixId: prefix.id},
      'test',
      world.at(0),
    )
    await world.ipam.allocate(
      world.db,
      {prefixId: prefix.id, holder, purpose: 'host', reason: 'no client key'},
      'test',
      world.at(0),
    )
    const snapshot = await world.ipam.snapshot()
    expect(snapshot.reservations.filter(reservation => reservation.prefixId === prefix.id)).toEqual([
      {machineId: machineId(10), address: '10.10.0.2', prefixId: prefix.id, purpose: 'boot', clientKey: macOf(10)},
    ])
    const {utilisation: _, ...plain} = prefix
    expect(snapshot.prefixes).toContainEqual(plain)
    expect(snapshot.prefixes.every(listed => listed.status === 'active' && !listed.cidr.includes(':'))).toBe(true)
  })
})
