/**
 * F17 random histories against a model. Alone, every answer must be the very one that a set model gives. Sixteen at once, the history must
 * be one that some order of the calls explains: the model's sets are then compared with what the callers were told and when.
 */
import {sql} from 'kysely'
import {afterAll, afterEach, beforeAll, describe, expect, test} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import type {PrefixWithUse} from '../../services/ipam/index.ts'
import {createIpamWorld, findBreaches, type IpamWorld, ip, machineId, macOf, person, readHoldings} from '../support/ipam-world.ts'

const SEEDS = Array.from({length: 30}, (_, index) => index + 1)
const CLIENTS = 16
const STEPS = 12
const COOL_DOWN_S = 120
const LEASE_S = 200
const STATIC = 12

let world: IpamWorld
beforeAll(async () => {
  world = await createIpamWorld(CLIENTS + 1)
})
afterEach(async () => {
  expect(await findBreaches(world.db)).toEqual([])
  await sql`TRUNCATE prefixes CASCADE`.execute(world.db)
})
afterAll(async () => {
  await world.database.drop()
})

/** Static .1–.12, dynamic .17–.22 */
const createSmall = () =>
  world.ipam.createPrefix(
    world.db,
    {
      cidr: '10.0.0.0/24',
      cool_down_s: COOL_DOWN_S,
      ranges: [
        {kind: 'static', first: '10.0.0.1', last: `10.0.0.${STATIC}`},
        {kind: 'dynamic', first: '10.0.0.17', last: '10.0.0.22'},
      ],
    },
    'test',
  )

describe('F17 one caller', () => {
  type Spot = {holder: string | null; id: string; freedAt: number; order: number; last: string}

  /** What ipam promises, on a plain array: lowest unused, else longest freed and cooled; a name is refused while held or cooling for another. */
  function createModel() {
    const spots = new Map<number, Spot>()
    let order = 0
    const cool = (spot: Spot, now: number) => now >= spot.freedAt + COOL_DOWN_S
    const choose = (now: number): number | undefined => {
      for (let n = 1; n <= STATIC; n++) if (!spots.has(n)) return n
      const free = [...spots].filter(([n, spot]) => n <= STATIC && spot.holder === null && cool(spot, now))
      return free.sort(([a, x], [b, y]) => x.freedAt - y.freedAt || a - b)[0]?.[0]
    }
    const mayTake = (n: number, holder: string, now: number) => {
      const spot = spots.get(n)
      return !spot || (spot.holder === null && (cool(spot, now) || spot.last === holder))
    }
    return {
      choose,
      mayTake,
      take: (n: number, holder: string, id: string) => spots.set(n, {holder, id, freedAt: 0, order: order++, last: holder}),
      free(n: number, now: number) {
        const spot = spots.get(n)!
        spots.set(n, {...spot, holder: null, freedAt: now})
      },
      held: () => [...spots].filter(([, spot]) => spot.holder !== null),
    }
  }

  test.each(SEEDS)('gets exactly what the model says, history %i', async seed => {
    const random = createRandom(seed)
    const prefix = await createSmall()
    const model = createModel()
    for (let step = 0, now = 0; step < 50; step++, now += 1 + random.below(60)) {
      const holder = `p${random.below(4)}`
      const held = model.held()
      const kind = random.below(10)
      if (kind < 5) {
        const expected = model.choose(now)
        const got = await outcome(allocate(prefix, holder, now))
        expect(got.address ?? got.code).toBe(expected === undefined ? 'PREFIX_EXHAUSTED' : `10.0.0.${expected}`)
        if (expected !== undefined) model.take(expected, holder, got.id)
      } else if (kind < 7) {
        const n = 1 + random.below(STATIC + 4)
        const got = await outcome(allocate(prefix, holder, now, ip(`10.0.0.${n}`)))
        expect(got.address ?? got.code).toBe(model.mayTake(n, holder, now) ? `10.0.0.${n}` : 'ADDRESS_TAKEN')
        if (got.address) model.take(n, holder, got.id)
      } else if (held.length > 0) {
        const [n, spot] = held[random.below(held.length)]!
        await world.ipam.free(world.db, spot.id, 'test', world.at(now))
        model.free(n, now)
      }
    }
    const live = (await readHoldings(world.db)).filter(holding => holding.freed_at === null)
    const expected = model.held().map(([n, spot]) => `10.0.0.${n} ${spot.holder}`)
    expect(live.map(holding => `${holding.address} ${holding.holder}`).sort()).toEqual(expected.sort())
  })
})

describe('F17 sixteen callers', () => {
  const totals = new Map<string, number>()

  test.each(SEEDS)('see a history that some order explains, history %i', async seed => {
    const prefix = await createSmall()
    const run = createRun(seed, prefix)
    let done = false
    const watching = (async () => {
      while (!done) expect(await findBreaches(world.db)).toEqual([])
    })()
    await Promise.all(Array.from({length: CLIENTS}, (_, client) => run.client(client)))
    done = true
    await watching
    expect(run.overlaps()).toEqual([])
    expect(run.falseFulls()).toEqual([])
    expect(await run.shortCoolDowns()).toEqual([])
    expect(await run.disagreements()).toEqual([])
    for (const [what, count] of Object.entries(await run.seen())) totals.set(what, (totals.get(what) ?? 0) + count)
  })

  test('have met every case along the way', () => {
    expect([...totals.keys()].sort()).toEqual(['cooled', 'declared', 'expired', 'full', 'passedOn', 'reused', 'taken'])
    for (const [what, count] of totals) expect(count, what).toBeGreaterThan(0)
  })
})

/** A holding as its owner knows it, in stamps of one counter: surely from `sureFrom` to `sureTo`, possibly from `from` to `to`. */
type Known = {
  address: string
  holder: string
  id: string
  from: number
  sureFrom: number
  sureTo: number
  to: number
  freedAt: number
}
type Full = {kind: 'static'; from: number; to: number; now: number}

function createRun(seed: number, prefix: PrefixWithUse) {
  let stamp = 0
  let seconds = 0
  const known: Known[] = []
  const fulls: Full[] = []
  const refusals = {taken: 0, cooled: 0}

  /** Every call has a time of its own, so that the tables can be matched with the calls. */
  const tick = (random: Random) => {
    seconds += 1 + random.below(20)
    return seconds
  }

  async function client(number: number) {
    const random = createRandom(seed * 1000 + number)
    const name = `client${number}`
    const mac = macOf(number)
    const mine: Known[] = []
    for (let step = 0; step < STEPS; step++) {
      const now = tick(random)
      const from = stamp++
      const kind = random.below(12)
      const own = mine[random.below(Math.max(mine.length, 1))]
      if (kind < 4 || (kind < 6 && !own)) {
        const address = kind === 0 ? ip(`10.0.0.${1 + random.below(STATIC)}`) : undefined
        const got = await outcome(allocate(prefix, name, now, address))
        if (got.address) mine.push(begin(got.address, name, got.id, from))
        else if (got.code === 'PREFIX_EXHAUSTED') fulls.push({kind: 'static', from, to: stamp++, now})
        else {
          expect(got.code).toBe('ADDRESS_TAKEN')
          refusals[got.detail?.includes('cools down') ? 'cooled' : 'taken']++
        }
      } else if (kind < 7 && own) {
        own.sureTo = from
        mine.splice(mine.indexOf(own), 1)
        await world.ipam.free(world.db, own.id, name, world.at(now))
        end(own, now)
      } else if (kind < 9) await leaseOf(mac, now)
      else if (kind === 9) await world.ipam.expireLeases(world.at(now))
      else if (kind === 10) {
        const node = {machineId: machineId(number), name, mac, prefixId: prefix.id}
        const got = await outcome(world.ipam.bootAddress(world.db, node, name, world.at(now)))
        if (got.code) expect(got.code).toBe('PREFIX_EXHAUSTED')
        else if (!known.some(hold => hold.id === got.id)) begin(got.address!, `machine ${name}`, got.id, from)
      } else {
        for (const hold of known) if (hold.holder === `machine ${name}`) hold.sureTo = Math.min(hold.sureTo, from)
        const freed = await world.ipam.freeOfMachine(world.db, machineId(number), ['boot'], name, world.at(now))
        for (const allocation of freed) {
          const hold = known.find(hold => hold.id === allocation.id)
          if (hold) end(hold, now)
        }
      }
    }
  }

  function begin(address: string, holder: string, id: string, from: number): Known {
    const hold = {address, holder, id, from, sureFrom: stamp++, sureTo: Infinity, to: Infinity, freedAt: Infinity}
    known.push(hold)
    return hold
  }

  function end(hold: Known, now: number) {
    hold.to = stamp++
    hold.freedAt = now
  }

  /** DISCOVER, REQUEST, and sometimes RELEASE. */
  async function leaseOf(mac: Mac, now: number) {
    const offer = await world.ipam.offerDynamic({mac, prefixId: prefix.id, now: world.at(now)})
    if (offer === 'full') return
    const request = {mac, clientId: null, address: offer.address as Ipv4, leaseS: LEASE_S, kind: 'dynamic' as const}
    const [bound] = await world.ipam.bindLeases([request], world.at(now))
    if (bound === 'bound' && now % 3 === 0) await world.ipam.releaseLease({mac, address: offer.address}, world.at(now))
  }

  return {
    client,
    /** How often each case was met. */
    async seen() {
      const {rows} = await sql<{passedOn: number; declared: number; expired: number; reused: number}>`
        SELECT count(*) FILTER (WHERE reason LIKE 'boot address, taken over%') AS "passedOn",
          count(*) FILTER (WHERE reason = 'boot address') AS declared, count(*) FILTER (WHERE freed_by = 'dhcpd') AS expired,
          count(*) - count(DISTINCT address_id) AS reused FROM allocations`.execute(world.db)
      return {...rows[0]!, ...refusals, full: fulls.length}
    },
    /** Two owners who both knew for sure that an address was theirs. */
    overlaps: () =>
      known.flatMap((a, index) =>
        known
          .slice(index + 1)
          .filter(b => a.address === b.address && a.id !== b.id && a.sureFrom < b.sureTo && b.sureFrom < a.sureTo)
          .map(b => `${a.address}: ${a.holder} and ${b.holder}`),
      ),
    /** "Full", though some address was surely free and cool from before the call began until after it ended. */
    falseFulls: () =>
      fulls.flatMap(full =>
        Array.from({length: STATIC}, (_, index) => `10.0.0.${index + 1}`)
          .filter(address =>
            known
              .filter(hold => hold.address === address && hold.from < full.to)
              .every(hold => hold.to < full.from && hold.freedAt + longestRest(hold) <= full.now),
          )
          .map(address => `at ${full.now} s: ${address} was free`),
      ),
    /** Addresses that went to another before they had cooled down. */
    async shortCoolDowns() {
      const holdings = await readHoldings(world.db)
      return holdings.flatMap((holding, index) => {
        const before = holdings[index - 1]
        if (!before?.freed_at || before.address !== holding.address || before.holder === holding.holder) return []
        const gapS = (holding.created_at.getTime() - before.freed_at.getTime()) / 1000
        // A lease passed on to its machine has no gap at all.
        const passedOn = gapS === 0 && before.holder.includes(':') && holding.holder.startsWith('client')
        return gapS >= COOL_DOWN_S || passedOn ? [] : [`${holding.address}: ${before.holder}, ${gapS} s, ${holding.holder}`]
      })
    },
    /** What the callers were told against what is stored: every acknowledged holding there, every ended one ended, none besides. */
    async disagreements() {
      const {rows} = await sql<{id: string; live: boolean}>`
        SELECT id, freed_at IS NULL AS live FROM allocations WHERE holder_kind IN ('person', 'machine')`.execute(world.db)
      const stored = new Map(rows.map(row => [row.id, row.live]))
      const told = new Map(known.map(hold => [hold.id, hold.to === Infinity]))
      return [
        ...[...told].filter(([id, live]) => stored.get(id) !== live).map(([id]) => `told otherwise: ${id}`),
        ...[...stored].filter(([id]) => !told.has(id)).map(([id]) => `nobody was told: ${id}`),
      ]
    },
  }
}

/** A machine may have leased its address just before it lost it. */
const longestRest = (hold: Known) => COOL_DOWN_S + (hold.holder.startsWith('machine') ? LEASE_S : 0)

const allocate = (prefix: PrefixWithUse, name: string, seconds: number, address?: Ipv4) =>
  world.ipam.allocate(
    world.db,
    {prefixId: prefix.id, holder: person(name), purpose: 'host', reason: '', ...(address ? {address} : {})},
    name,
    world.at(seconds),
  )

/** Its allocation, or the code of its refusal. */
async function outcome(
  promise: Promise<{id: string; address: string}>,
): Promise<{id: string; address?: string; code?: string; detail?: string}> {
  try {
    return await promise
  } catch (error) {
    if (error instanceof IngotError) return {id: '', code: error.code, detail: error.detail}
    throw error
  }
}

type Random = {below(limit: number): number}

/** Mulberry32 */
function createRandom(seed: number): Random {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0
  return {
    below(limit) {
      state = (state + 0x6d2b79f5) >>> 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
    },
  }
}
