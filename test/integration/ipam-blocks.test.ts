/** Blocks of dynamic ranges, and the binds of what was offered from them, on a real PostgreSQL. */
import {randomUUID} from 'node:crypto'
import {sql} from 'kysely'
import {afterAll, afterEach, beforeAll, describe, expect, it} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {BindRequest, KnownLease, PrefixWithUse} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, macOf, person} from '../support/ipam-world.ts'

let world: IpamWorld
let networks = 0
beforeAll(async () => {
  world = await createIpamWorld()
})
afterEach(async () => {
  expect(await findBreaches(world.db)).toEqual([])
})
afterAll(async () => {
  await world.database.drop()
})

const [ONE, TWO, THREE] = [randomUUID(), randomUUID(), randomUUID()]

/** A /24 with `size` dynamic addresses from .64; leases of ten minutes, cool-down of two. */
async function network(size = 64) {
  const base = `10.1.${networks++}`
  const ranges = [{kind: 'dynamic' as const, first: `${base}.64`, last: `${base}.${63 + size}`}]
  const prefix = await world.ipam.createPrefix(world.db, {cidr: `${base}.0/24`, cool_down_s: 120, ranges}, 'test')
  return {prefix, host: (n: number) => ip(`${base}.${n}`)}
}

const claim = (prefix: PrefixWithUse, owner: string, addresses: number, seconds = 0) =>
  world.ipam.claimBlocks({prefixId: prefix.id, owner, addresses, now: world.at(seconds)})
const freeOf = async (blocks: ReturnType<typeof claim>) => (await blocks).flatMap(block => block.free)
const fresh = (prefix: PrefixWithUse, mac: Mac, address: Ipv4): BindRequest => ({
  ...{mac, address, prefixId: prefix.id, clientId: null, leaseS: 600, kind: 'dynamic', offered: 'new'},
})
const renewal = (prefix: PrefixWithUse, mac: Mac, address: Ipv4, leaseS = 600): BindRequest => ({
  ...{mac, address, prefixId: prefix.id, clientId: null, leaseS, kind: 'dynamic'},
})
const bind = (requests: readonly BindRequest[], seconds: number, by = ONE) =>
  world.ipam.bindLeases(requests, world.at(seconds), by)
const last = (address: string) => Number(address.split('.')[3])

describe('blocks', () => {
  it('are cut of a range in order, each for one owner', async () => {
    const {prefix} = await network()
    const one = await freeOf(claim(prefix, ONE, 8))
    const two = await freeOf(claim(prefix, TWO, 8))
    expect(one.map(last)).toEqual([64, 65, 66, 67, 68, 69, 70, 71])
    expect(two.map(last)).toEqual([72, 73, 74, 75, 76, 77, 78, 79])
  })

  it('claimed by ten at once never share an address, and together have them all', async () => {
    const {prefix} = await network(128)
    const owners = Array.from({length: 10}, () => randomUUID())
    const got: Ipv4[] = []
    for (let round = 0; round < 4; round++) {
      const claims = await Promise.all(owners.map(owner => freeOf(claim(prefix, owner, 8))))
      got.push(...claims.flat())
    }
    expect(got).toHaveLength(128)
    expect(new Set(got).size).toBe(128)
  })

  it('leave out what somebody holds, what cools down, and what lies outside', async () => {
    const {prefix, host} = await network(16)
    const request = {prefixId: prefix.id, holder: person('ada'), purpose: 'service', reason: 'printer'} as const
    await world.ipam.allocate(world.db, {...request, address: host(64)}, 'test', world.at(0))
    const freed = await world.ipam.allocate(world.db, {...request, address: host(65)}, 'test', world.at(0))
    await world.ipam.free(world.db, freed.id, 'test', world.at(1))
    expect((await freeOf(claim(prefix, ONE, 4, 2))).map(last)).toEqual([66, 67])
  })

  it('of a dead owner come back once they have been expired for as long as an offer lasts, with a higher epoch', async () => {
    const {prefix} = await network(16)
    const before = await claim(prefix, ONE, 1)
    for (let claims = 0; claims < 15; claims++) expect(await claim(prefix, TWO, 1)).toHaveLength(1)
    expect(await claim(prefix, THREE, 16, 119)).toEqual([])
    const [after] = await claim(prefix, THREE, 1, 120)
    expect(after).toMatchObject({id: before[0]?.id, epoch: (before[0]?.epoch ?? 0) + 1})
  })

  it('stay their owner’s while it prolongs them, and are lost to it once another took them over', async () => {
    const {prefix} = await network(16)
    const [block] = await claim(prefix, ONE, 1)
    for (let claims = 0; claims < 15; claims++) await claim(prefix, TWO, 1)
    expect(await world.ipam.prolongBlocks([block!.id], ONE, world.at(100))).toEqual([block!.id])
    expect((await claim(prefix, THREE, 4, 219)).map(taken => taken.id)).not.toContain(block!.id)
    for (let claims = 0; claims < 4; claims++) await claim(prefix, THREE, 4, 220)
    expect(await world.ipam.prolongBlocks([block!.id], ONE, world.at(221))).toEqual([])
  })

  it('given back are anybody’s at once', async () => {
    const {prefix} = await network(16)
    const [block] = await claim(prefix, ONE, 1)
    for (let claims = 0; claims < 15; claims++) await claim(prefix, TWO, 1)
    await world.ipam.giveBackBlocks([block!.id], ONE, world.at(1))
    expect((await claim(prefix, THREE, 1, 1)).map(taken => taken.id)).toEqual([block!.id])
  })

  it('that others hold make no range full: single addresses are taken out of them', async () => {
    const {prefix} = await network(16)
    for (let claims = 0; claims < 16; claims++) await claim(prefix, TWO, 1)
    expect(await claim(prefix, ONE, 1)).toEqual([])
    const offers: Awaited<ReturnType<IpamWorld['ipam']['offerDynamic']>>[] = []
    for (let number = 0; number < 16; number++) {
      offers.push(await world.ipam.offerDynamic({mac: macOf(700 + number), prefixId: prefix.id, now: world.at(0)}))
    }
    expect(new Set(offers.map(offer => (offer === 'full' ? offer : offer.address))).size).toBe(16)
    expect(offers).not.toContain('full')
    expect(await world.ipam.offerDynamic({mac: macOf(799), prefixId: prefix.id, now: world.at(0)})).toBe('full')
  })

  it('are none in a prefix without dynamic ranges, or one no longer active', async () => {
    const {prefix} = await network()
    await sql`UPDATE prefixes SET status = 'deprecated' WHERE id = ${prefix.id}`.execute(world.db)
    expect(await claim(prefix, ONE, 1)).toEqual([])
  })
})

describe('the bind of an offer', () => {
  it('takes the address, for one of two clients', async () => {
    const {prefix, host} = await network()
    const requests = [fresh(prefix, macOf(1), host(70)), fresh(prefix, macOf(2), host(70)), fresh(prefix, macOf(3), host(71))]
    const results = await bind(requests, 0)
    expect(results.filter(result => result === 'bound')).toHaveLength(2)
    expect(results.filter(result => result !== 'bound')).toEqual([{refused: 'taken'}])
    expect(await world.ipam.who(host(71))).toMatchObject({holder: {kind: 'range', name: macOf(3)}, purpose: 'dynamic'})
  })

  it('by many processes at once gives an address to one of them', async () => {
    const {prefix, host} = await network()
    const rounds = Array.from({length: 12}, (_, round) => 64 + round)
    const wins = await Promise.all(
      Array.from({length: 8}, async (_, process) => {
        const results = await Promise.all(
          rounds.map(n => bind([fresh(prefix, macOf(1000 + process * 100 + n), host(n))], 0, randomUUID())),
        )
        return results.flat().filter(result => result === 'bound').length
      }),
    )
    expect(wins.reduce((sum, won) => sum + won, 0)).toBe(rounds.length)
  })

  it('of an address that cools down is its last holder’s only', async () => {
    const {prefix, host} = await network()
    await bind([fresh(prefix, macOf(1), host(64))], 0)
    await world.ipam.releaseLease({mac: macOf(1), address: host(64), prefixId: prefix.id}, world.at(10), ONE)
    expect(await bind([fresh(prefix, macOf(2), host(64))], 129)).toEqual([{refused: 'gone'}])
    expect(await bind([fresh(prefix, macOf(1), host(64))], 20)).toEqual(['bound'])
    await world.ipam.releaseLease({mac: macOf(1), address: host(64), prefixId: prefix.id}, world.at(30), ONE)
    expect(await bind([fresh(prefix, macOf(2), host(64))], 150)).toEqual(['bound'])
  })

  it('is refused outside the dynamic ranges and for what is no address of the prefix', async () => {
    const {prefix, host} = await network()
    const results = await bind([fresh(prefix, macOf(1), host(20)), fresh(prefix, macOf(2), ip('10.250.0.1'))], 0)
    expect(results).toEqual([{refused: 'gone'}, {refused: 'gone'}])
  })

  it('of what the client had renews it, or takes it again when it was freed', async () => {
    const {prefix, host} = await network()
    const again: BindRequest = {...renewal(prefix, macOf(1), host(64)), offered: 'before'}
    await bind([fresh(prefix, macOf(1), host(64))], 0)
    expect(await bind([again], 10)).toEqual(['bound'])
    await world.ipam.releaseLease({mac: macOf(1), address: host(64), prefixId: prefix.id}, world.at(20), ONE)
    expect(await bind([again], 30)).toEqual(['bound'])
    expect(await world.ipam.findLease({mac: macOf(1), prefixId: prefix.id})).toMatchObject({startsAt: world.at(30), held: true})
  })

  it('goes the careful way when the client holds the address already', async () => {
    const {prefix, host} = await network()
    await bind([fresh(prefix, macOf(1), host(64))], 0)
    expect(await bind([fresh(prefix, macOf(1), host(64))], 5)).toEqual(['bound'])
    expect(await world.ipam.findLease({mac: macOf(1), prefixId: prefix.id})).toMatchObject({
      expiresAt: world.at(605),
      startsAt: world.at(0),
    })
  })
})

describe('a renewal', () => {
  it('moves the end, and is refused once the lease was freed', async () => {
    const {prefix, host} = await network()
    await bind([fresh(prefix, macOf(1), host(64))], 0)
    expect(await bind([renewal(prefix, macOf(1), host(64))], 300)).toEqual(['bound'])
    expect(await world.ipam.findLease({mac: macOf(1), prefixId: prefix.id})).toMatchObject({
      expiresAt: world.at(900),
      startsAt: world.at(0),
    })
    await world.ipam.expireLeases(world.at(900))
    expect(await bind([renewal(prefix, macOf(1), host(64))], 901)).toEqual([{refused: 'gone'}])
  })

  it('in flight while its address is freed either fails or is waited for: the address cools as long as the lease', async () => {
    const {prefix, host} = await network()
    for (let round = 0; round < 20; round++) {
      const [mac, address] = [macOf(3000 + round), host(64 + round)]
      await bind([fresh(prefix, mac, address)], 0)
      const holding = (await world.ipam.who(address))!
      const [[renewed]] = await Promise.all([
        bind([renewal(prefix, mac, address, 3600)], 10),
        world.ipam.free(world.db, holding.id, 'test', world.at(10)),
      ])
      const cooling = await sql<{
        until: Date
      }>`SELECT cool_until AS until FROM addresses WHERE address = ${address}::inet`.execute(world.db)
      if (renewed === 'bound') expect(cooling.rows[0]?.until).toEqual(world.at(3610))
      else expect(renewed).toEqual({refused: 'gone'})
    }
  })

  it('given back at one of two processes that renewed it, the address cools until the lease would have ended', async () => {
    const {prefix, host} = await network()
    await bind([fresh(prefix, macOf(1), host(64))], 0, ONE)
    await bind([renewal(prefix, macOf(1), host(64))], 10, TWO)
    await bind([renewal(prefix, macOf(1), host(64))], 20, ONE)
    await world.ipam.releaseLease({mac: macOf(1), address: host(64), prefixId: prefix.id}, world.at(30), ONE)
    expect(await bind([fresh(prefix, macOf(2), host(64))], 619)).toEqual([{refused: 'gone'}])
    expect(await bind([fresh(prefix, macOf(2), host(64))], 620)).toEqual(['bound'])
  })
})

describe('what clients had', () => {
  it('is told to a process that starts, and what others bind to those that run', async () => {
    const {prefix, host} = await network()
    await claim(prefix, TWO, 4)
    await bind([fresh(prefix, macOf(41), host(64))], 0, TWO)
    await bind([fresh(prefix, macOf(42), host(80))], 0, ONE)
    const known: KnownLease[] = []
    for await (const page of world.ipam.knownLeases()) known.push(...page)
    expect(known.filter(lease => lease.prefixId === prefix.id).map(lease => lease.address)).toEqual([host(64), host(80)])
    const news = await world.ipam.leasesOfOthers(ONE, world.at(-1))
    expect(news.filter(lease => lease.prefixId === prefix.id)).toMatchObject([{mac: macOf(41), address: host(64)}])
  })
})
