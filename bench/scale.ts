/**
 * How many machines one Ingot carries: simulated ones (sim/), with real packets, provisioned all at once beside many that are enrolled and
 * idle; and the same on two hosts over one PostgreSQL. Generator and servers share this host, so times are those of both.
 */
import {spawn} from 'node:child_process'
import {fileURLToPath} from 'node:url'
import {parseArgs} from 'node:util'
import {MIXES, type MixName} from '../sim/faults.ts'
import type {Benchmark, Goal, Report, Row, Table} from './report.ts'
import type {Percentiles, ScaleOptions, ScaleResult} from './scale/measure.ts'

const USAGE = `npm run bench -- scale [--machines N] [--enrolled N] [--nodes 1|2|both] [--mix none|wire|rack|storm] [--seed N] [--json]
  --machines  simulated and provisioned at once (default 1000)
  --enrolled  known and idle beside them (default 10000)
  --nodes     hosts of Ingot over one PostgreSQL (default both: one, then two)
  --mix       of faults, from sim/faults.ts (default rack)
  --seed      of the machines and their faults (default 1)
  --json      print one JSON object as the last line`

const STEP_P99_MS = 1_000
const LIST_P99_MS = 50
const MEMORY_MB = 1_000
const SUCCESS = 0.999

type Run = {readonly options: ScaleOptions; readonly result: ScaleResult}

export const scale: Benchmark = {
  name: 'scale',
  about: 'a thousand simulated machines at once, ten thousand enrolled; on one host and on two',
  usage: USAGE,
  run: async args => {
    if (process.getuid?.() !== 0) throw new Error('it makes network namespaces, which only root may: run it as root')
    const runs: Run[] = []
    for (const options of parseOptions(args)) runs.push({options, result: await runOnce(options)})
    return reportOf(runs)
  },
}

function parseOptions(args: readonly string[]): ScaleOptions[] {
  const {values} = parseArgs({
    args: [...args],
    options: {
      machines: {type: 'string', default: '1000'},
      enrolled: {type: 'string', default: '10000'},
      nodes: {type: 'string', default: 'both'},
      mix: {type: 'string', default: 'rack'},
      seed: {type: 'string', default: '1'},
    },
  })
  const whole = (name: 'machines' | 'enrolled' | 'seed', least: number) => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < least) throw new Error(`--${name} is a whole number from ${least}`)
    return value
  }
  const {mix, nodes} = values
  if (!(mix in MIXES)) throw new Error(`--mix is one of ${Object.keys(MIXES).join(', ')}`)
  if (!['1', '2', 'both'].includes(nodes)) throw new Error('--nodes is 1, 2 or both')
  const shared = {machines: whole('machines', 1), enrolled: whole('enrolled', 0), mix: mix as MixName, seed: whole('seed', 0)}
  return ([1, 2] as const).filter(count => nodes === 'both' || nodes === String(count)).map(count => ({...shared, nodes: count}))
}

async function runOnce(options: ScaleOptions): Promise<ScaleResult> {
  process.stderr.write(`${options.machines} machines on ${options.nodes === 1 ? 'one host' : 'two hosts'}, mix ${options.mix}\n`)
  const script = fileURLToPath(new URL('scale/measure.ts', import.meta.url))
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {stdio: ['ignore', 'pipe', 'inherit']})
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const code = await new Promise(resolve => child.once('close', resolve))
  const last = Buffer.concat(chunks).toString().trim().split('\n').at(-1) ?? ''
  if (code !== 0) throw new Error(`the measurement ended with ${code}`)
  return JSON.parse(last) as ScaleResult
}

function reportOf(runs: readonly Run[]): Report {
  const goals = runs.flatMap(goalsOf)
  const tables: Table[] = [
    {title: 'All at once', rows: runs.map(stormRow)},
    {title: 'Waiting for Ingot where it was its turn, milliseconds', rows: runs.flatMap(stepRows)},
    {title: 'Idle', rows: runs.map(idleRow)},
    {title: 'Processes after the storm', rows: runs.flatMap(processRows)},
    {
      title: 'What goes wrong, shares of packets, requests or boots',
      rows: [...new Set(runs.map(run => run.options.mix))].map(mixRow),
    },
    {title: 'Jobs that failed, with their cause', rows: runs.flatMap(failureRows)},
  ]
  return {bench: 'scale', goals, tables: tables.filter(({rows}) => rows.length > 0), rows: tables.flatMap(({rows}) => rows)}
}

function goalsOf({options, result}: Run): Goal[] {
  const on = options.nodes === 1 ? '' : `.${options.nodes}nodes`
  const {storm, idle} = result
  const all = storm.steps.all?.p99_ms ?? Number.NaN
  const memory = Object.values(idle.usage).reduce((sum, part) => sum + part.pss_mb, 0)
  const share = storm.succeeded / options.machines
  const alone = (id: string, what: string, ours: number, met: boolean): Goal => ({
    id: `G11${id}${on}`,
    what,
    ours,
    peer: null,
    ratio: null,
    met,
  })
  return [
    alone('', `p99 of a step with ${options.machines} at once, ms: under ${STEP_P99_MS}`, all, all < STEP_P99_MS),
    alone(
      '.lists',
      `p99 of lists with ${options.enrolled} idle, ms: under ${LIST_P99_MS}`,
      idle.lists.p99_ms,
      idle.lists.p99_ms < LIST_P99_MS,
    ),
    alone('.memory', `idle with the database, MB: under ${MEMORY_MB} a host`, memory, memory < MEMORY_MB * options.nodes),
    alone('.success', `share that succeeded: at least ${SUCCESS}`, share, share >= SUCCESS),
    alone('.invariants', 'broken promises (I1–I5): none', result.violations.length, result.violations.length === 0),
  ]
}

function stormRow({options, result: {storm}}: Run): Row {
  return {
    hosts: options.nodes,
    machines: options.machines,
    accepted_s: storm.accepted_s,
    all_ended_s: storm.all_ended_s,
    cpu_ms_a_machine: (storm.cpu_s * 1000) / options.machines,
    most_mb: storm.most_mb,
    lists_p99_ms: storm.lists.p99_ms,
    succeeded: storm.succeeded,
    at_first_attempt: storm.first_attempt,
    dhcp_sent: storm.dhcp.sent,
    dhcp_answered: storm.dhcp.answered,
  }
}

function stepRows({options, result}: Run): Row[] {
  return Object.entries(result.storm.steps).map(([step, times]) => ({hosts: options.nodes, step, ...rounded(times)}))
}

function idleRow({options, result: {idle, declared_per_s}}: Run): Row {
  const memory = Object.values(idle.usage).reduce((sum, part) => sum + part.pss_mb, 0)
  return {
    hosts: options.nodes,
    known: options.machines + options.enrolled,
    declared_per_s,
    pss_mb: memory,
    cpu_share: idle.cpu_share,
    ...rounded(idle.lists),
  }
}

function processRows({options, result}: Run): Row[] {
  return Object.entries(result.storm.usage).map(([process, used]) => ({
    hosts: options.nodes,
    process,
    cpu_s: used.cpu_s,
    pss_mb: used.pss_mb,
  }))
}

function mixRow(mix: MixName): Row {
  return {mix, ...MIXES[mix]}
}

function failureRows({options, result}: Run): Row[] {
  const violations = result.violations.map(what => ({hosts: options.nodes, cause: what, phase: null, count: 1}))
  return [
    ...result.storm.failures.map(({code, phase, count}) => ({hosts: options.nodes, cause: code, phase, count})),
    ...violations,
  ]
}

function rounded({count, p50_ms, p99_ms, most_ms}: Percentiles): Row {
  return {count, p50_ms, p99_ms, most_ms}
}
