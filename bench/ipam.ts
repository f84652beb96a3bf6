/**
 * G5: allocations a second by single callers and by many, with a prefix empty, used and nearly full, IPv4 and IPv6, beside the ways of
 * NetBox, phpIPAM and MAAS on the same PostgreSQL in the same run, every answer checked for doubles and for a "full" that is none; and a
 * tree of 100 000 prefixes.
 */
import {parseArgs} from 'node:util'
import {systemClock} from '../lib/clock.ts'
import {createDb} from '../lib/db.ts'
import {IngotError} from '../lib/errors.ts'
import {createLog} from '../lib/log.ts'
import {migrateDatabase} from '../lib/schema-state.ts'
import {createIpam, type Ipam, type PrefixWithUse} from '../services/ipam/index.ts'
import {createPeers, preparePeers} from './ipam/peers.ts'
import {startBenchServer} from './ipam/server.ts'
import {measureTree, plantTree, TREE_SIZE} from './ipam/tree.ts'
import type {Benchmark, Goal, Report, Row} from './report.ts'

const USAGE = `npm run bench -- ipam [--seconds N] [--rounds N] [--no-tree] [--json]
  --seconds  of each measurement (default 2)
  --rounds   of each, of which the median counts (default 3)
  --no-tree  leave the tree of 100 000 prefixes out
  --json     print one JSON object as the last line`

const SINGLE_AT_LEAST = 10_000
const GROUPED_AT_LEAST = 50_000
const TREE_P99_MS = 10

type Options = {readonly seconds: number; readonly rounds: number; readonly tree: boolean}
type Measured = Row & {
  readonly way: string
  readonly callers: number
  readonly taken: number
  readonly per_s: number
  readonly doubles: number
  readonly false_full: number
}

export const ipam: Benchmark = {
  name: 'ipam',
  about: 'allocations a second against NetBox’s, phpIPAM’s and MAAS’s ways; a tree of 100 000 prefixes',
  usage: USAGE,
  run: async args => await measure(parseOptions(args)),
}

function parseOptions(args: readonly string[]): Options {
  const {values} = parseArgs({
    args: [...args],
    options: {
      seconds: {type: 'string', default: '2'},
      rounds: {type: 'string', default: '3'},
      'no-tree': {type: 'boolean', default: false},
    },
  })
  const [seconds, rounds] = [Number(values.seconds), Number(values.rounds)]
  if (!(seconds > 0) || !Number.isInteger(rounds) || rounds < 1) throw new Error('--seconds and --rounds are numbers above 0')
  return {seconds, rounds, tree: !values['no-tree']}
}

async function measure(options: Options): Promise<Report> {
  const server = await startBenchServer()
  try {
    const rows: Measured[] = []
    for (const taken of [0, 1_000, 60_000]) rows.push(...(await measureTaken(server, taken, options)))
    const url = await server.createDatabase()
    const world = await openWorld(url)
    for (const callers of [16, 200]) rows.push(await ours(world, 'Ingot, IPv6 /64', callers, 0, options, '6'))
    await world.close()
    const tree = options.tree ? await measureTreeOn(await server.createDatabase()) : []
    return reportOf(rows, tree)
  } finally {
    await server.stop()
  }
}

type World = {readonly ipam: Ipam; close(): Promise<void>; readonly db: ReturnType<typeof createDb>}

async function openWorld(url: string): Promise<World> {
  const log = createLog('bench', 'error')
  await migrateDatabase({url, log})
  const db = createDb({url, applicationName: 'ingot-bench', maxConnections: 16, log})
  return {db, ipam: createIpam({db, clock: systemClock, log}), close: () => db.destroy()}
}

async function measureTaken(server: {createDatabase(): Promise<string>}, taken: number, options: Options): Promise<Measured[]> {
  const rows: Measured[] = []
  const world = await openWorld(await server.createDatabase())
  for (const callers of [16, 200]) rows.push(await ours(world, 'Ingot', callers, taken, options, '4'))
  await world.close()
  const url = await server.createDatabase()
  await preparePeers(url, taken)
  for (const peer of createPeers(url, 16)) {
    rows.push(
      await run({way: peer.name, callers: 16, taken, seconds: options.seconds, most: Number.POSITIVE_INFINITY}, () =>
        peer.allocate(),
      ),
    )
    await peer.close()
  }
  return rows
}

/** The median of the rounds, each on a prefix of its own; of all rounds every double and false "full" counts. */
async function ours(
  world: World,
  way: string,
  callers: number,
  taken: number,
  options: Options,
  family: '4' | '6',
): Promise<Measured> {
  const rounds: Measured[] = []
  for (let round = 0; round <= options.rounds; round++) {
    const prefix = await makePrefix(world, `${family}-${taken}-${callers}-${round}`, family)
    // The first round warms up, on an empty prefix.
    if (round > 0) await fill(world, prefix, taken)
    const left = family === '4' ? prefix.utilisation.static.size - taken : Number.POSITIVE_INFINITY
    const request = {prefixId: prefix.id, holder: {kind: 'service', name: 'bench'}, purpose: 'service', reason: ''} as const
    const row = await run(
      {way, callers, taken, seconds: options.seconds, most: left},
      async () => (await world.ipam.allocateGrouped(request, 'bench')).address,
    )
    if (round > 0) rounds.push(row)
  }
  const sorted = rounds.toSorted((a, b) => a.per_s - b.per_s)
  const middle = sorted[Math.floor(sorted.length / 2)]
  if (!middle) throw new Error('nothing was measured')
  const sum = (key: 'doubles' | 'false_full') => rounds.reduce((total, row) => total + row[key], 0)
  return {...middle, doubles: sum('doubles'), false_full: sum('false_full')}
}

let networks = 0

async function makePrefix({db, ipam}: World, role: string, family: '4' | '6'): Promise<PrefixWithUse> {
  const number = networks++
  if (family === '6') return await ipam.createPrefix(db, {cidr: `fd00:${number.toString(16)}::/64`, role}, 'bench')
  const base = `10.${number}`
  return await ipam.createPrefix(
    db,
    {cidr: `${base}.0.0/16`, role, ranges: [{kind: 'static', first: `${base}.0.1`, last: `${base}.255.254`}]},
    'bench',
  )
}

async function fill({db, ipam}: World, prefix: PrefixWithUse, taken: number): Promise<void> {
  const request = {holder: {kind: 'service', name: 'earlier'}, purpose: 'service', reason: ''} as const
  for (let done = 0; done < taken; done += 5_000) {
    const count = Math.min(5_000, taken - done)
    await ipam.allocateMany(db, {prefixId: prefix.id}, Array(count).fill(request), 'bench', new Date())
  }
}

/** Callers ask, each again when it was answered, for so long or until so many are taken. */
async function run(
  what: {way: string; callers: number; taken: number; seconds: number; most: number},
  allocate: () => Promise<string>,
): Promise<Measured> {
  const got: string[] = []
  let falseFull = 0
  let begun = 0
  const startedMs = performance.now()
  const untilMs = startedMs + what.seconds * 1000
  const caller = async () => {
    while (performance.now() < untilMs && begun < what.most) {
      begun++
      try {
        got.push(await allocate())
      } catch (error) {
        if (!(error instanceof IngotError) || error.code !== 'PREFIX_EXHAUSTED') throw error
        falseFull++
      }
    }
  }
  await Promise.all(Array.from({length: what.callers}, caller))
  const seconds = (performance.now() - startedMs) / 1000
  return {
    way: what.way,
    callers: what.callers,
    taken: what.taken,
    per_s: Math.round(got.length / seconds),
    doubles: got.length - new Set(got).size,
    false_full: falseFull,
  }
}

async function measureTreeOn(url: string): Promise<Row[]> {
  const world = await openWorld(url)
  try {
    await plantTree(world.db, world.ipam)
    return await measureTree(world.db, world.ipam, 300)
  } finally {
    await world.close()
  }
}

function reportOf(rows: readonly Measured[], tree: readonly Row[]): Report {
  const find = (way: string, callers: number, taken: number) =>
    rows.find(row => row.way === way && row.callers === callers && row.taken === taken)?.per_s ?? 0
  const wrong = rows.filter(row => row.way.startsWith('Ingot')).reduce((sum, row) => sum + row.doubles + row.false_full, 0)
  const peer = find('NetBox', 16, 60_000)
  const goal = (what: string, ours: number, atLeast: number): Goal => ({
    id: 'G5',
    what: `${what}, at least ${atLeast}; no doubles, no false "full"`,
    ours,
    peer,
    ratio: peer === 0 ? null : ours / peer,
    met: ours >= atLeast && wrong === 0,
  })
  const slowest = Math.max(0, ...tree.map(row => Number(row.p99_ms)))
  return {
    bench: 'ipam',
    goals: [
      goal('allocations/s, 16 single callers, 60 000 of a /16 taken', find('Ingot', 16, 60_000), SINGLE_AT_LEAST),
      goal('allocations/s, 200 callers, empty /16', find('Ingot', 200, 0), GROUPED_AT_LEAST),
      ...(tree.length === 0
        ? []
        : [
            {
              id: 'G5',
              what: `slowest p99 in a tree of ${TREE_SIZE} prefixes, below ${TREE_P99_MS} ms`,
              ours: slowest,
              peer: null,
              ratio: null,
              met: slowest < TREE_P99_MS,
            },
          ]),
    ],
    rows: [...rows, ...tree],
    tables: [
      {title: 'Allocations a second', rows},
      ...(tree.length === 0 ? [] : [{title: `A tree of ${TREE_SIZE} prefixes`, rows: tree}]),
    ],
  }
}
