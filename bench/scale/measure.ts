/** Runs inside a ground of its own (sim/ground.ts): enrols, idles, provisions all at once, and tells what it took as one line of JSON. */
import {sleep} from '../../lib/clock.ts'
import {createChance} from '../../sim/chance.ts'
import {MIXES, type MixName} from '../../sim/faults.ts'
import {isInside, runInside} from '../../sim/ground.ts'
import {checkInvariants} from '../../sim/invariants.ts'
import {readUsage, totalOf, type Usage} from '../../sim/usage.ts'
import {createWorld, eachOf, type World} from '../../sim/world.ts'

export type ScaleOptions = {
  readonly machines: number
  readonly enrolled: number
  readonly nodes: 1 | 2
  readonly mix: MixName
  readonly seed: number
}

export type Percentiles = {readonly count: number; readonly p50_ms: number; readonly p99_ms: number; readonly most_ms: number}

export type ScaleResult = {
  readonly declared_per_s: number
  readonly idle: {readonly usage: Usage; readonly cpu_share: number; readonly lists: Percentiles}
  readonly storm: {
    readonly accepted_s: number
    readonly all_ended_s: number
    readonly cpu_s: number
    readonly usage: Usage
    readonly most_mb: number
    readonly lists: Percentiles
    readonly steps: Readonly<Record<string, Percentiles>>
    readonly succeeded: number
    readonly first_attempt: number
    readonly failures: readonly {readonly code: string; readonly phase: string; readonly count: number}[]
    readonly dhcp: {readonly sent: number; readonly answered: number}
  }
  readonly violations: readonly string[]
}

const IDLE_MS = 10_000
const LIST_ROUNDS = 300
const DECLARING = 16
/** Real jobs of a rack that nothing was heard of for so long belong to machines that hang. */
const HUNG_MS = 45_000
const LIMIT_MS = 30 * 60_000

if (!isInside()) process.exit(await runInside(import.meta.url, process.argv.slice(2)))
const options = JSON.parse(process.argv[2] ?? '{}') as ScaleOptions
process.stdout.write(`${JSON.stringify(await measure(options))}\n`)
process.exit(0)

async function measure({machines, enrolled, nodes, mix, seed}: ScaleOptions): Promise<ScaleResult> {
  const world = await createWorld({random: createChance(seed), machines, hosts: nodes, onProgress: tell})
  try {
    await world.declareAll()
    const declared_per_s = await declareIdle(world, enrolled)
    await world.placeAll('available')
    const idle = await measureIdle(world)
    world.setMix(MIXES[mix])
    const storm = await measureStorm(world)
    const violations = (await checkInvariants(world)).map(({invariant, what}) => `${invariant}: ${what}`)
    return {declared_per_s, idle, storm, violations}
  } finally {
    await world.close()
  }
}

/** Machines that are known and do nothing: declared by the API like any other. */
async function declareIdle(world: World, count: number): Promise<number> {
  const startMs = performance.now()
  let done = 0
  await eachOf(Array.from({length: count}), DECLARING, async () => {
    const index = done++
    const mac = `02:1d:00:${hex(index >> 16)}:${hex((index >> 8) & 255)}:${hex(index & 255)}`
    const answer = await world.nodes[0]?.api.post('/v1/machines', {name: `idle-${index}`, macs: [mac], prefix: world.prefixes[0]})
    if (answer?.status !== 201) throw new Error(`a machine was refused: ${JSON.stringify(answer?.body)}`)
  })
  const seconds = (performance.now() - startMs) / 1000
  tell(`${count} idle machines are declared (${seconds.toFixed(1)} s)`)
  return count === 0 ? 0 : count / seconds
}

async function measureIdle(world: World): Promise<ScaleResult['idle']> {
  await sleep(IDLE_MS)
  const before = usageOf(world)
  await sleep(IDLE_MS)
  const usage = usageOf(world)
  const cpu_share = (totalOf(usage, 'cpu_s') - totalOf(before, 'cpu_s')) / (IDLE_MS / 1000)
  const lists = await measureLists(world, LIST_ROUNDS)
  tell(`idle: ${totalOf(usage, 'pss_mb').toFixed(0)} MB, lists p99 ${lists.p99_ms.toFixed(0)} ms`)
  return {usage, cpu_share, lists}
}

/** Pages of machines, one after another as a person leafs through them; of jobs and of one state in between. */
async function measureLists(world: World, rounds: number, signal?: AbortSignal): Promise<Percentiles> {
  const took: number[] = []
  let after: string | undefined
  for (let round = 0; round < rounds && !signal?.aborted; round++) {
    const path =
      round % 4 === 2
        ? '/v1/jobs?limit=50'
        : round % 4 === 3
          ? '/v1/machines?limit=50&state=provisioning'
          : `/v1/machines?limit=100${after ? `&after=${after}` : ''}`
    const startMs = performance.now()
    // Asked until it is answered: what a list cost is the whole of it.
    const answer = await world.nodes[0]?.api.get(path)
    if (answer?.status !== 200) throw new Error(`a list was answered ${answer?.status}`)
    took.push(performance.now() - startMs)
    if (round % 4 < 2) after = (answer.body.next as string | null) ?? undefined
    if (signal) await sleep(100, signal)
  }
  return percentiles(took)
}

async function measureStorm(world: World): Promise<ScaleResult['storm']> {
  const before = usageOf(world)
  const watching = new AbortController()
  let most_mb = 0
  const watch = (async () => {
    while (!watching.signal.aborted) {
      most_mb = Math.max(most_mb, totalOf(usageOf(world), 'pss_mb'))
      await sleep(2_000, watching.signal)
    }
  })()
  const lists = measureLists(world, Number.POSITIVE_INFINITY, watching.signal)
  lists.catch(error => tell(`lists are not measured any more: ${String(error)}`))
  const startMs = performance.now()
  const orders = await world.orderAll()
  const accepted_s = (performance.now() - startMs) / 1000
  tell(`${orders.length} jobs are accepted (${accepted_s.toFixed(1)} s)`)
  await world.settle(orders, {limitMs: LIMIT_MS, hurryMs: HUNG_MS})
  const all_ended_s = (performance.now() - startMs) / 1000
  tell(`all have ended (${all_ended_s.toFixed(1)} s)`)
  const usage = usageOf(world)
  watching.abort()
  await watch
  const ids = orders.map(order => order.jobId)
  const rows = await world.query<{state: string; attempt: number; code: string | null; phase: string; count: number}>(
    `SELECT state, attempt, cause->>'code' AS code, phase, count(*)::int AS count FROM jobs WHERE id = ANY($1::uuid[]) GROUP BY 1, 2, 3, 4`,
    [ids],
  )
  const count = (wanted: (row: (typeof rows)[number]) => boolean) => rows.filter(wanted).reduce((sum, row) => sum + row.count, 0)
  return {
    accepted_s,
    all_ended_s,
    cpu_s: totalOf(usage, 'cpu_s') - totalOf(before, 'cpu_s'),
    usage,
    most_mb,
    lists: await lists,
    steps: await stepLatencies(world, ids),
    succeeded: count(row => row.state === 'succeeded'),
    first_attempt: count(row => row.state === 'succeeded' && row.attempt === 1),
    failures: rows
      .filter(row => row.state !== 'succeeded')
      .map(row => ({code: row.code ?? '', phase: row.phase, count: row.count})),
    dhcp: {
      sent: world.racks.reduce((sum, rack) => sum + rack.relay.counts.sent, 0),
      answered: world.racks.reduce((sum, rack) => sum + rack.relay.counts.answered, 0),
    },
  }
}

/** How long a job waited for Ingot wherever it was Ingot's turn: from what made a step due to the step's beginning. */
async function stepLatencies(world: World, ids: readonly string[]): Promise<ScaleResult['storm']['steps']> {
  const rows = await world.query<{step: string; ms: number}>(
    `WITH mine AS (SELECT a.fence, a.started_at, a.number FROM attempts a WHERE a.job_id = ANY($1::uuid[])),
       effect AS (SELECT f.fence, f.phase, f.started_at, f.finished_at FROM effects f JOIN mine USING (fence) WHERE f.tries = 1)
     SELECT 'taken up after the request' AS step, extract(epoch FROM e.started_at - m.started_at)::float8 * 1000 AS ms
       FROM mine m JOIN effect e USING (fence) WHERE e.phase = 'network_ready' AND m.number = 1
     UNION ALL SELECT 'power cycle begun after the step before', extract(epoch FROM p.started_at - n.finished_at)::float8 * 1000
       FROM effect n JOIN effect p USING (fence) WHERE n.phase = 'network_ready' AND p.phase = 'power_cycled'
     UNION ALL SELECT 'facts recorded after the first boot', extract(epoch FROM r.started_at - v.at)::float8 * 1000
       FROM effect r JOIN evidence v ON v.fence = r.fence AND v.kind = 'first_boot' WHERE r.phase = 'facts_recorded'
     UNION ALL SELECT 'handed off after that', extract(epoch FROM h.started_at - r.finished_at)::float8 * 1000
       FROM effect r JOIN effect h USING (fence) WHERE r.phase = 'facts_recorded' AND h.phase = 'handed_off'`,
    [ids],
  )
  const names = [...new Set(rows.map(row => row.step))]
  const of = (name: string) => percentiles(rows.filter(row => row.step === name).map(row => row.ms))
  return {...Object.fromEntries(names.map(name => [name, of(name)])), all: percentiles(rows.map(row => row.ms))}
}

function usageOf(world: World): Usage {
  const all = world.nodes.map(node => readUsage(node.host))
  const sum = (part: keyof Usage) => ({
    cpu_s: all.reduce((total, usage) => total + usage[part].cpu_s, 0),
    pss_mb: all.reduce((total, usage) => total + usage[part].pss_mb, 0),
  })
  return {supervisor: sum('supervisor'), wire: sum('wire'), control: sum('control'), postgres: sum('postgres')}
}

function percentiles(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return {count: sorted.length, p50_ms: at(0.5), p99_ms: at(0.99), most_ms: at(1)}
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`)
}
