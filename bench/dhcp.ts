/**
 * How fast DHCP is answered, under ISC's perfdhcp as a relay, beside the servers of Debian: Kea with its leases in a file and in
 * PostgreSQL, dnsmasq, ISC dhcpd. Servers and their databases share core 0, the generator has core 1.
 *
 * Ingot is the real one: all services, leases in its embedded PostgreSQL, each committed before its ACK.
 */
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {parseArgs} from 'node:util'
import {runCommand} from '../lab/commands.ts'
import {waitFor} from '../lab/walk.ts'
import {type RunningIngot, startIngot} from './dhcp/ingot.ts'
import {KEA_DATABASE_PACKAGES} from './dhcp/kea-database.ts'
import {type Bench, type Measured, measureBurst, measureFresh, measureHighest, measureLatency} from './dhcp/measure.ts'
import {isAnswered} from './dhcp/perfdhcp.ts'
import {declareMany, LEASED_BASE, RESERVED_BASE} from './dhcp/reservations.ts'
import {makeStateDir, PEERS, type Running} from './dhcp/servers.ts'
import {createWires, type Wires} from './dhcp/wires.ts'
import {installPackages} from './packages.ts'
import {median} from './provision/phases.ts'
import type {Benchmark, Goal, Report, Table} from './report.ts'

const USAGE = `npm run bench -- dhcp [--passes N] [--servers NAMES] [--tests NAMES] [--seconds N] [--json] [--keep] [--name NAME]
  --passes   over all servers; medians are compared (default 3)
  --servers  comma-separated beginnings of names: ingot, kea memfile, kea postgresql, dnsmasq, isc (default all)
  --tests    of latency, burst, highest, fresh, many (default all; fresh and many are Ingot's alone)
  --seconds  of each run of perfdhcp (default 2)
  --json     print one JSON object as the last line
  --keep     leave the servers' files and logs
  --name     of the network namespace (default ingot-bench-dhcp)`

const PEER_PACKAGES = [
  'kea-dhcp4-server',
  'dnsmasq-base',
  'isc-dhcp-server',
  'iputils-ping',
  'gcc',
  'libc6-dev',
  ...KEA_DATABASE_PACKAGES,
]
const TESTS = ['latency', 'burst', 'highest', 'fresh', 'many'] as const
type Test = (typeof TESTS)[number]
const OURS = 'ingot'
const START_LIMIT_MS = 60_000

type Options = {
  readonly passes: number
  readonly servers: readonly string[]
  readonly tests: readonly Test[]
  readonly seconds: number
  readonly keep: boolean
  readonly name: string
}

export const dhcp: Benchmark = {
  name: 'dhcp',
  about: 'DHCP exchanges a second, latency and bursts, against Kea, dnsmasq and ISC dhcpd',
  usage: USAGE,
  run: async args => reportOf(await measure(parseOptions(args))),
}

function parseOptions(args: readonly string[]): Options {
  const {values} = parseArgs({
    args: [...args],
    options: {
      passes: {type: 'string', default: '3'},
      servers: {type: 'string', default: ''},
      tests: {type: 'string', default: TESTS.join(',')},
      seconds: {type: 'string', default: '2'},
      keep: {type: 'boolean', default: false},
      name: {type: 'string', default: 'ingot-bench-dhcp'},
    },
  })
  const [passes, seconds] = [Number(values.passes), Number(values.seconds)]
  if (!Number.isInteger(passes) || passes < 1) throw new Error('--passes is a number from 1')
  if (!Number.isInteger(seconds) || seconds < 1) throw new Error('--seconds is a number from 1')
  const tests = values.tests.split(',').map(name => TESTS.find(test => test === name))
  if (tests.includes(undefined)) throw new Error(`--tests are some of ${TESTS.join(', ')}`)
  return {
    passes,
    seconds,
    tests: tests.filter(test => test !== undefined),
    servers: values.servers === '' ? [''] : values.servers.split(','),
    keep: values.keep,
    name: values.name,
  }
}

async function measure(options: Options): Promise<Measured[]> {
  if (process.getuid?.() !== 0) throw new Error('it makes network namespaces, which only root may: run it as root')
  await installPackages(PEER_PACKAGES, note)
  const wires = await createWires(options.name)
  try {
    const buffer = join(wires.dir, 'receive-buffer.so')
    const source = fileURLToPath(new URL('dhcp/receive-buffer.c', import.meta.url))
    await runCommand(['gcc', '-O2', '-shared', '-fPIC', '-o', buffer, source, '-ldl'])
    const rows: Measured[] = []
    for (let pass = 1; pass <= options.passes; pass++) {
      note(`pass ${pass} of ${options.passes}`)
      for (const peer of PEERS.filter(({name}) => isAsked(options, name))) {
        const dir = makeStateDir(wires, `${peer.name} ${pass}`)
        const env: Record<string, string> = peer.tuned ? {LD_PRELOAD: buffer} : {}
        const running = await peer.start(wires, dir, env)
        rows.push(...(await measureOne(options, {wires, buffer, server: peer.name, running}, peer.from, [])))
      }
      if (isAsked(options, OURS)) rows.push(...(await measureOurs(options, wires, buffer, pass)))
    }
    return rows
  } finally {
    await wires.close({keepFiles: options.keep})
  }
}

type Target = Pick<Bench, 'wires' | 'buffer' | 'server'> & {readonly running: Running}

async function measureOurs(options: Options, wires: Wires, buffer: string, pass: number): Promise<Measured[]> {
  const ingot = await startIngot(wires, makeStateDir(wires, `${OURS} ${pass}`), {})
  return await measureOne(options, {wires, buffer, server: OURS, running: ingot}, 5000, [
    bench => measureFresh(bench, 30_000, 1500, 99),
    bench => measureMany(bench, ingot),
  ])
}

/** Each server is stopped again, whatever happens. */
async function measureOne(
  options: Options,
  target: Target,
  from: number,
  own: readonly ((bench: Bench) => Promise<Measured | Measured[]>)[],
): Promise<Measured[]> {
  const bench: Bench = {...target, seconds: options.seconds, note}
  note(bench.server)
  try {
    await waitFor(
      `${bench.server} to answer`,
      START_LIMIT_MS,
      async () => (await isAnswered(bench.wires, bench.buffer)) || undefined,
    )
    const rows: Measured[] = []
    const asked = (test: Test) => options.tests.includes(test)
    if (asked('latency')) rows.push(await measureLatency(bench, 200), await measureLatency(bench, 1000))
    if (asked('burst')) rows.push(await measureBurst(bench, 1000, 1), await measureBurst(bench, 5000, 2))
    if (asked('highest')) rows.push(await measureHighest(bench, from))
    const [fresh, many] = own
    if (asked('fresh') && fresh) rows.push(...[await fresh(bench)].flat())
    if (asked('many') && many) rows.push(...[await many(bench)].flat())
    return rows
  } finally {
    await target.running.stop()
  }
}

async function measureMany(bench: Bench, ingot: RunningIngot): Promise<Measured[]> {
  await declareMany(ingot)
  return [
    await measureHighest(bench, 5000, RESERVED_BASE, 'highest rate, 60 000 reserved'),
    await measureHighest(bench, 5000, LEASED_BASE, 'highest rate, 60 000 leased'),
  ]
}

function reportOf(rows: readonly Measured[]): Report {
  return {bench: 'dhcp', goals: goalsOf(rows), rows, tables: [{title: 'Measured', rows: medianRows(rows)} satisfies Table]}
}

/** One row for each server and test: the medians of what the passes found. */
function medianRows(rows: readonly Measured[]): Measured[] {
  const groups = Map.groupBy(rows, row => `${row.test}\n${row.server}`)
  return [...groups.values()].flatMap(group => {
    const [first] = group
    if (!first) return []
    const names = [...new Set(group.flatMap(row => Object.keys(row)))]
    const figures = names.map(name => {
      const values = group.map(row => row[name]).filter(value => typeof value === 'number')
      return [name, values.length === 0 ? (first[name] ?? null) : median(values)] as const
    })
    return [{...Object.fromEntries(figures), test: first.test, server: first.server}]
  })
}

function goalsOf(all: readonly Measured[]): Goal[] {
  const rows = medianRows(all)
  const read = (test: string, name: string, server: string) => {
    const value = rows.find(row => row.test === test && row.server === server)?.[name]
    return typeof value === 'number' ? value : undefined
  }
  const bestOf = (test: string, name: string, best: (...values: number[]) => number) => {
    const values = PEERS.flatMap(peer => read(test, name, peer.name) ?? [])
    return values.length === 0 ? null : best(...values)
  }
  const goal = (
    id: string,
    what: string,
    ours: number | undefined,
    peer: number | null,
    isMet: (ours: number) => boolean,
  ): Goal[] => (ours === undefined ? [] : [{id, what, ours, peer, ratio: peer === null ? null : ours / peer, met: isMet(ours)}])

  const highest = read('highest rate', 'dora_per_s', OURS)
  const cost = (read('highest rate', 'cpu_us', OURS) ?? Number.NaN) + (read('highest rate', 'database_us', OURS) ?? Number.NaN)
  const reserved = read('highest rate, 60 000 reserved', 'dora_per_s', OURS)
  const leased = read('highest rate, 60 000 leased', 'dora_per_s', OURS)
  const share = (many: number | undefined) => (many === undefined || highest === undefined ? undefined : many / highest)
  const doubled = all.filter(row => row.server === OURS).reduce((sum, row) => sum + Number(row.doubled ?? 0), 0)
  return [
    ...goal(
      'G1',
      'DORA/s with the lease committed before the ACK, ≥ 20 000',
      highest,
      bestOf('highest rate', 'dora_per_s', Math.max),
      ours => ours >= 20_000,
    ),
    ...goal(
      'G1',
      'µs of processor a DORA, database included, ≤ 45',
      Number.isNaN(cost) ? undefined : cost,
      null,
      ours => ours <= 45,
    ),
    ...goal('G1', 'addresses given twice, 0', doubled, null, ours => ours === 0),
    ...goal('G2', 'rate with 60 000 reservations, of the empty one, ≥ 0.9', share(reserved), null, ours => ours >= 0.9),
    ...goal('G2', 'rate with 60 000 leases, of the empty one, ≥ 0.9', share(leased), null, ours => ours >= 0.9),
    ...goal(
      'G2',
      'MB of dhcpd with both, ≤ 150',
      read('highest rate, 60 000 leased', 'memory_mb', OURS),
      null,
      ours => ours <= 150,
    ),
    ...goal(
      'G3',
      's until 1000 at once are leased, ≤ 0.21',
      read('1000 at once', 'took_s', OURS),
      bestOf('1000 at once', 'took_s', Math.min),
      ours => ours <= 0.21,
    ),
    ...goal(
      'G3',
      's until 5000 at once are leased, ≤ 0.30',
      read('5000 at once', 'took_s', OURS),
      bestOf('5000 at once', 'took_s', Math.min),
      ours => ours <= 0.3,
    ),
    ...goal(
      'G4',
      'ms until an OFFER at 1000/s, ≤ 0.4',
      read('latency at 1000/s', 'offer_ms', OURS),
      bestOf('latency at 1000/s', 'offer_ms', Math.min),
      ours => ours <= 0.4,
    ),
    ...goal(
      'G4',
      'ms until a durable ACK at 1000/s, ≤ 1.5',
      read('latency at 1000/s', 'ack_ms', OURS),
      bestOf('latency at 1000/s', 'ack_ms', Math.min),
      ours => ours <= 1.5,
    ),
  ]
}

function isAsked(options: Options, name: string): boolean {
  return options.servers.some(server => name.startsWith(server))
}

function note(line: string): void {
  process.stderr.write(`${line}\n`)
}
