/**
 * F17 allocate, free, move and expire by 64 clients at once, against the model of a set: any free address, one holder. What each client
 * was told, and when, must be what some order of the calls explains. `INGOT_SEEDS=N` runs N histories.
 *
 * F1 processes killed with -9 in the middle of each change.
 */
import {type ChildProcess, spawn} from 'node:child_process'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {IngotError} from '../../lib/errors.ts'
import {createIpamWorld, findBreaches, type IpamWorld, person} from '../support/ipam-world.ts'

const SEEDS = Array.from({length: Number(process.env.INGOT_SEEDS ?? 8)}, (_, index) => index + 1)
const CLIENTS = 64
const STEPS = 3
const SIZE = 40
const COOL_DOWN_S = 120

let world: IpamWorld
beforeAll(async () => {
  world = await createIpamWorld(24)
})
afterAll(async () => {
  await world.database.drop()
})

/** Surely somebody's from `sureFrom` to `sureTo`, possibly from `from` to `to`; stamps of one counter. */
type Known = {address: string; holder: string; from: number; sureFrom: number; sureTo: number; to: number}

describe('F17 sixty-four clients', () => {
  const totals = new Map<string, number>()

  test.each(SEEDS)('see a history that some order explains, history %i', async seed => {
    const cidr = `10.${100 + (seed % 100)}.${Math.floor(seed / 100)}.0/24`
    const base = cidr.replace('.0/24', '')
    const ranges = [{kind: 'static', first: `${base}.1`, last: `${base}.${SIZE}`}] as const
    const prefix = await world.ipam.createPrefix(world.db, {cidr, ranges, cool_down_s: COOL_DOWN_S}, 'test')
    const from = {prefixIds: [prefix.id]}
    const known: Known[] = []
    const fulls: {from: number; to: number}[] = []
    let stamp = 0
    let seconds = 0
    const count = (what: string) => totals.set(what, (totals.get(what) ?? 0) + 1)
    const begin = (address: string, holder: string, began: number) => {
      const hold = {address, holder, from: began, sureFrom: stamp++, sureTo: Infinity, to: Infinity}
      known.push(hold)
      return hold
    }

    await Promise.all(
      Array.from({length: CLIENTS}, async (_, number) => {
        const random = createRandom(seed * 1000 + number)
        const name = `client${number}`
        const mine: {id: string; hold: Known}[] = []
        for (let step = 0; step < STEPS; step++) {
          const now = world.at(++seconds)
          const began = stamp++
          const own = mine[random(Math.max(mine.length, 1))]
          const kind = random(8)
          try {
            if (!own || kind < 3) {
              const holds = kind === 0
              const ask = {
                from,
                holder: person(name),
                purpose: 'service',
                reason: '',
                expiresAt: holds ? world.at(seconds + 40) : null,
              } as const
              const request = {prefixId: prefix.id, holder: person(name), purpose: 'service', reason: ''} as const
              const given =
                kind === 1
                  ? await world.ipam.allocateGrouped(request, name)
                  : (await world.ipam.ask(world.db, ask, name, now))[0]!
              const hold = begin(given.address, name, began)
              // A hold may be over at any time: nobody is sure of it.
              if (holds) hold.sureTo = hold.sureFrom
              else mine.push({id: given.id, hold})
              count(holds ? 'held' : 'allocated')
            } else if (kind < 5) {
              own.hold.sureTo = began
              mine.splice(mine.indexOf(own), 1)
              await world.ipam.free(world.db, own.id, name, now)
              own.hold.to = stamp++
              count('freed')
            } else if (kind < 7) {
              own.hold.sureTo = began
              mine.splice(mine.indexOf(own), 1)
              const to = person(`${name}'s friend`)
              const moved = await world.ipam.move(world.db, own.id, {to, reason: 'moved'}, name, now)
              own.hold.to = stamp++
              // At every instant it was one's or the other's: known to be taken all along.
              begin(moved.address, to.name, began).sureFrom = own.hold.to
              count('moved')
            } else {
              await world.ipam.expireHolds(now)
              count('expired')
            }
          } catch (error) {
            if (!(error instanceof IngotError) || error.code !== 'PREFIX_EXHAUSTED') throw error
            fulls.push({from: began, to: stamp++})
            count('full')
          }
        }
      }),
    )
    // Two owners who both knew for sure.
    const overlaps = known.flatMap((a, index) =>
      known.slice(index + 1).filter(b => a.address === b.address && a.sureFrom < b.sureTo && b.sureFrom < a.sureTo),
    )
    expect(overlaps).toEqual([])
    // "Full" is true only when every address was somebody's, or cooling: nothing cools down within a history of these few seconds.
    for (const full of fulls) expect(new Set(known.filter(hold => hold.from < full.to).map(hold => hold.address)).size).toBe(SIZE)
    expect(await findBreaches(world.db)).toEqual([])
    const {rows} = await sql<{address: string; holder: string}>`SELECT host(a.address) AS address, al.holder FROM addresses a
      JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL AND al.expires_at IS NULL WHERE a.prefix_id = ${prefix.id}`.execute(
      world.db,
    )
    const told = known
      .filter(hold => hold.to === Infinity && hold.sureTo === Infinity)
      .map(hold => `${hold.address} ${hold.holder}`)
    expect(rows.map(row => `${row.address} ${row.holder}`).toSorted()).toEqual(told.toSorted())
  })

  test('have met every case along the way', () => {
    for (const what of ['allocated', 'held', 'freed', 'moved', 'expired', 'full'])
      expect(totals.get(what) ?? 0, what).toBeGreaterThan(0)
  })
})

describe('F1 processes killed in the middle', () => {
  test('lose nothing that was acknowledged, double nothing, and leave no half of a change', async () => {
    const prefix = await world.ipam.createPrefix(world.db, {cidr: '10.250.0.0/20', cool_down_s: COOL_DOWN_S}, 'test')
    const container = await world.ipam.createPrefix(
      world.db,
      {cidr: '10.251.0.0/20', status: 'container', cool_down_s: COOL_DOWN_S},
      'test',
    )
    const said: string[][] = []
    for (let round = 0; round < 3; round++) {
      const victims = [0, 1, 2].map(number =>
        startVictim([world.database.url, prefix.id, container.id, `victim${round}-${number}`]),
      )
      // Each dies somewhere behind its n-th line, whatever it is doing by then.
      await Promise.all(victims.map((victim, index) => killAfter(victim, 9 + round * 5 + index * 3, said)))
    }
    expect(await findBreaches(world.db)).toEqual([])
    const {rows} = await sql<{id: string; live: boolean}>`SELECT id, freed_at IS NULL AS live FROM allocations
      UNION ALL SELECT id, freed_at IS NULL FROM delegations`.execute(world.db)
    const live = new Map(rows.map(row => [row.id, row.live]))
    const heard = (word: string) => new Set(said.filter(([first]) => first === word).map(([, id]) => id ?? ''))
    const [tried, ended] = [new Set([...heard('frees'), ...heard('gives')]), new Set([...heard('freed'), ...heard('gave')])]
    for (const id of [...heard('holds'), ...heard('carved')]) if (!tried.has(id)) expect(live.get(id), id).toBe(true)
    for (const id of ended) expect(live.get(id), id).toBe(false)
    expect(Math.min(heard('holds').size, heard('carved').size, ended.size)).toBeGreaterThan(3)
    expect(said.some(([first]) => first === 'expired')).toBe(true)
  })
})

function startVictim(args: readonly string[]): ChildProcess {
  const script = join(import.meta.dirname, '../support/ipam-process.ts')
  return spawn(process.execPath, [script, ...args], {stdio: ['ignore', 'pipe', 'inherit']})
}

async function killAfter(victim: ChildProcess, lines: number, said: string[][]): Promise<void> {
  const gone = new Promise(resolve => victim.once('exit', resolve))
  let heard = 0
  for await (const line of createInterface({input: victim.stdout!})) {
    said.push(line.split(' '))
    if (++heard === lines) victim.kill('SIGKILL')
  }
  await gone
}

/** Numbers below a limit, the same for the same seed (mulberry32). */
function createRandom(seed: number): (limit: number) => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0
  return limit => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}
