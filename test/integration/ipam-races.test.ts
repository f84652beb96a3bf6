/** F17: many callers at once, each on a connection of its own; connections that are killed in the middle. */
import {setTimeout as pause} from 'node:timers/promises'
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {createDb, withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import type {PrefixWithUse} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, readHoldings} from '../support/ipam-world.ts'

const CALLERS = 64

let world: IpamWorld
beforeAll(async () => {
  world = await createIpamWorld(CALLERS)
  // All connections are there before the races begin.
  await Promise.all(Array.from({length: CALLERS}, () => sql`SELECT pg_sleep(0.05)`.execute(world.db)))
})
afterAll(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  expect(await countDeadlocks()).toBe(0)
  await world.database.drop()
})

const create = (cidr: string) => world.ipam.createPrefix(world.db, {cidr, cool_down_s: 120}, 'test')
const take = (prefix: PrefixWithUse, name: string, seconds = 0) =>
  world.ipam.allocate(world.db, {prefixId: prefix.id, holder: person(name), purpose: 'host', reason: ''}, name, world.at(seconds))

describe('F17 sixty-four callers', () => {
  /** Every caller takes until it is told that the prefix is full. */
  async function drain(prefix: PrefixWithUse, seconds: number) {
    let clock = 0
    const begun: number[] = []
    const full: number[] = []
    const addresses: string[] = []
    await Promise.all(
      Array.from({length: CALLERS}, async (_, caller) => {
        for (;;) {
          const start = clock++
          try {
            addresses.push((await take(prefix, `caller${caller}`, seconds)).address)
            begun.push(start)
          } catch (error) {
            if (!(error instanceof IngotError) || error.code !== 'PREFIX_EXHAUSTED') throw error
            full.push(clock++)
            return
          }
        }
      }),
    )
    return {addresses, begun, full}
  }

  test('share no address, and hear "full" only when the very last one is on its way to somebody', async () => {
    const prefix = await create('10.0.0.0/24')
    const {size} = prefix.utilisation.static
    for (const round of [0, 1]) {
      const {addresses, begun, full} = await drain(prefix, round * 1000)
      expect(addresses).toHaveLength(size)
      expect(new Set(addresses).size).toBe(size)
      expect(full).toHaveLength(CALLERS)
      // Whoever heard "full" heard it after every one of the successful calls had begun.
      expect(Math.min(...full)).toBeGreaterThan(Math.max(...begun))
      const held = (await readHoldings(world.db)).filter(holding => holding.freed_at === null)
      const ids = await sql<{id: string}>`SELECT id FROM allocations WHERE freed_at IS NULL`.execute(world.db)
      expect(held).toHaveLength(size)
      await Promise.all(ids.rows.map(row => world.ipam.free(world.db, row.id, 'test', world.at(round * 1000 + 100))))
    }
  })

  test('get one address each when there are just as many', async () => {
    const ranges = [{kind: 'static', first: '10.1.0.10', last: '10.1.0.73'}] as const
    const prefix = await world.ipam.createPrefix(world.db, {cidr: '10.1.0.0/24', ranges}, 'test')
    const taken = await Promise.all(Array.from({length: CALLERS}, (_, caller) => take(prefix, `caller${caller}`)))
    expect(new Set(taken.map(allocation => allocation.address)).size).toBe(CALLERS)
  })

  test('who want the same address: one gets it, the others learn who', async () => {
    const prefix = await create('10.2.0.0/24')
    const outcomes = await Promise.allSettled(
      Array.from({length: CALLERS}, (_, caller) =>
        world.ipam.allocate(
          world.db,
          {prefixId: prefix.id, holder: person(`caller${caller}`), purpose: 'host', reason: '', address: '10.2.0.50'},
          'test',
          world.at(0),
        ),
      ),
    )
    const winner = await world.ipam.who(ip('10.2.0.50'))
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') expect(outcome.value).toEqual(winner)
      else
        expect(outcome.reason).toMatchObject({
          code: 'ADDRESS_TAKEN',
          detail: expect.stringContaining(`person ${winner?.holder.name} since`),
        })
    }
    expect(outcomes.filter(outcome => outcome.status === 'fulfilled')).toHaveLength(1)
  })

  test('offer one dynamic address a client, also when a client asks many times at once', async () => {
    const prefix = await create('10.3.0.0/24')
    const {size} = prefix.utilisation.dynamic
    const offers = await Promise.all(
      Array.from({length: size * 2}, async (_, index) => {
        const mac = macOf(index % size)
        const offer = await world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(0)})
        return offer === 'full' ? 'full' : `${mac} ${offer.address}`
      }),
    )
    expect(offers).not.toContain('full')
    expect(new Set(offers).size).toBe(size)
    expect(new Set(offers.map(offer => offer.split(' ')[1])).size).toBe(size)
    expect(await world.ipam.offerDynamic({mac: macOf(5000), prefixId: prefix.id, now: world.at(0)})).toBe('full')
  })
})

describe('a dynamic lease that becomes a boot address', () => {
  test('has one holder at every instant, and its client is never refused', async () => {
    const prefix = await create('10.4.0.0/24')
    const clients = await Promise.all(
      Array.from({length: 40}, async (_, index) => {
        const mac = macOf(0x400 + index)
        const offer = await world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(0)})
        if (offer === 'full') throw new Error('full')
        return {mac, address: offer.address, clientId: null, leaseS: 600, kind: 'dynamic' as const, index}
      }),
    )
    const refused: unknown[] = []
    const counts = new Set<number>()
    let done = false
    let looks = 0
    let renewals = 0
    const watch = async () => {
      for (; !done || looks < 5; looks++) {
        const {rows} = await sql<{holders: number}>`SELECT count(al.id) AS holders FROM addresses a
          LEFT JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL WHERE a.prefix_id = ${prefix.id} GROUP BY a.id`.execute(
          world.db,
        )
        for (const row of rows) counts.add(row.holders)
      }
    }
    const renew = async (from: number) => {
      const batch = clients.filter(client => client.index % 4 === from)
      for (; !done; renewals++) {
        const results = await world.ipam.bindLeases(batch, world.at(10))
        refused.push(...results.filter(result => result !== 'bound'))
      }
    }
    const handOver = async () => {
      const passed = await Promise.all(
        clients.map(({mac, index}) =>
          world.ipam.bootAddress(
            world.db,
            {machineId: machineId(index), name: `node${index}`, mac, prefixId: prefix.id},
            'test',
            world.at(20),
          ),
        ),
      )
      done = true
      return passed
    }
    const [passed] = await Promise.all([handOver(), watch(), ...[0, 1, 2, 3].map(renew)])
    expect(passed.map(allocation => allocation.address)).toEqual(clients.map(client => client.address))
    expect([...counts]).toEqual([1])
    expect(refused).toEqual([])
    expect(renewals).toBeGreaterThan(0)
    const holdings = (await readHoldings(world.db)).filter(holding => clients.some(client => client.address === holding.address))
    expect(holdings).toHaveLength(80)
    for (let index = 0; index < holdings.length; index += 2)
      expect(holdings[index]?.freed_at).toEqual(holdings[index + 1]?.created_at)
  })
})

describe('a connection killed', () => {
  test('in the middle of a transaction leaves nothing, and nobody waits for it', async () => {
    const prefix = await create('10.5.0.0/24')
    let waiting: Promise<{address: string}> | undefined
    const killed = withTx(world.db, async tx => {
      const input = {prefixId: prefix.id, holder: person('victim'), purpose: 'host', reason: ''} as const
      expect((await world.ipam.allocate(tx, input, 'test', world.at(0))).address).toBe('10.5.0.1')
      const node = {machineId: machineId(500), name: 'victim', mac: macOf(500), prefixId: prefix.id}
      await world.ipam.bootAddress(tx, node, 'test', world.at(0))
      waiting = take(prefix, 'waiting')
      const {rows} = await sql<{pid: number}>`SELECT pg_backend_pid() AS pid`.execute(tx)
      await sql`SELECT pg_terminate_backend(${rows[0]?.pid})`.execute(world.db)
      await world.ipam.allocate(tx, input, 'test', world.at(0))
    })
    await expect(killed).rejects.toThrow()
    expect((await waiting)?.address).toBe('10.5.0.1')
    expect((await take(prefix, 'next')).address).toBe('10.5.0.2')
    expect(await world.ipam.allocationsOf(machineId(500))).toEqual([])
    const holders = (await readHoldings(world.db))
      .filter(holding => holding.address.startsWith('10.5.'))
      .map(holding => holding.holder)
    expect(holders).toEqual(['waiting', 'next'])
  })

  test('again and again loses no acknowledged allocation, doubles none, and leaks no address', async () => {
    const prefix = await create('10.6.0.0/24')
    const {size} = prefix.utilisation.static
    const victims = createDb({url: world.database.url, applicationName: 'ipam-victim', maxConnections: 16, log: silentLog})
    const acknowledged = new Map<string, string>()
    const tried = new Set<string>()
    let failures = 0
    const caller = async (number: number) => {
      for (let count = 0; count < 10; count++) {
        const name = `caller${number}-${count}`
        tried.add(name)
        const input = {prefixId: prefix.id, holder: person(name), purpose: 'host', reason: ''} as const
        try {
          acknowledged.set(name, (await world.ipam.allocate(victims, input, 'test', world.at(0))).address)
        } catch (error) {
          if (error instanceof IngotError && error.code !== 'DATABASE_AWAY') throw error
          failures++
        }
      }
    }
    let done = false
    const killer = async () => {
      while (!done) {
        await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ipam-victim'
          AND datname = current_database() ORDER BY random() LIMIT 3`.execute(world.db)
        await pause(20)
      }
    }
    const killing = killer()
    await Promise.all(Array.from({length: 16}, (_, number) => caller(number)))
    done = true
    await killing
    await victims.destroy()
    expect(failures).toBeGreaterThan(0)
    const live = (await readHoldings(world.db)).filter(
      holding => holding.address.startsWith('10.6.') && holding.freed_at === null,
    )
    const byName = new Map(live.map(holding => [holding.holder, holding.address]))
    expect(byName.size).toBe(live.length)
    for (const [name, address] of acknowledged) expect(byName.get(name)).toBe(address)
    for (const name of byName.keys()) expect(tried).toContain(name)
    const rest = Array.from({length: size - live.length}, (_, index) => take(prefix, `rest${index}`))
    expect(new Set([...(await Promise.all(rest)).map(allocation => allocation.address), ...byName.values()]).size).toBe(size)
  })
})

/** Backends report what they counted when they end, so everyone but the asker leaves first. */
async function countDeadlocks(): Promise<number> {
  await world.db.destroy()
  const db = createDb({url: world.database.url, applicationName: 'ingot-test', log: silentLog})
  try {
    for (;;) {
      const {rows} = await sql<{others: number; deadlocks: number}>`SELECT (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS others, deadlocks
        FROM pg_stat_database WHERE datname = current_database()`.execute(db)
      if (rows[0]?.others === 0) return rows[0].deadlocks
      await pause(20)
    }
  } finally {
    await db.destroy()
  }
}
