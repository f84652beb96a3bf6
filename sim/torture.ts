/**
 * `npm run torture -- --seed N --minutes M [--machines N] [--only F4,F7] [--json]`: simulated machines, real `ingot serve`, and one fault
 * after another, drawn from the seed. After each the invariants I1–I5 are checked. A failure is told with the seed that leads to it again.
 */
import {parseArgs} from 'node:util'
import {messageOf} from '../lib/errors.ts'
import {createChance} from './chance.ts'
import {MIXES} from './faults.ts'
import {isInside, runInside} from './ground.ts'
import {checkInvariants, type Violation} from './invariants.ts'
import {SCENARIOS} from './scenarios/registry.ts'
import type {Scenario} from './scenarios/scenario.ts'
import type {Round, TortureReport} from './torture-report.ts'
import {createWorld, type World} from './world.ts'

const USAGE = `npm run torture -- [--seed N] [--minutes M] [--machines N] [--only F1b,F7] [--json] [--keep]
  --seed      what is drawn from it comes again with it (default: the time)
  --minutes   how long it goes on, round after round (default: each scenario once)
  --machines  simulated at once (default 24)
  --only      faults, separated by commas: F1 is F1a, F1b and F1c
  --json      print one JSON object as the last line
  --keep      leave logs and state where they are`

type Options = {
  readonly seed: number
  readonly minutes: number | undefined
  readonly machines: number
  readonly only: readonly string[]
  readonly json: boolean
  readonly keep: boolean
}

const STATE_MB = 700

if (process.argv.includes('--help')) {
  process.stdout.write(`${USAGE}\n`)
  process.exit(0)
}
if (!isInside()) process.exit(await runInside(import.meta.url, process.argv.slice(2)))
const options = readOptions(process.argv.slice(2))
const report = await torture(options)
tell('')
for (const round of report.rounds.filter(({ok}) => !ok))
  tell(`FAILED ${round.scenario}\n  ${round.failure}\n  again: ${round.replay}`)
tell(`${report.rounds.length} rounds, ${report.failed} failed; seed ${report.seed}`)
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`)
process.exit(report.failed === 0 ? 0 : 1)

function readOptions(args: readonly string[]): Options {
  const {values} = parseArgs({
    args: [...args],
    options: {
      seed: {type: 'string'},
      minutes: {type: 'string'},
      machines: {type: 'string', default: '24'},
      only: {type: 'string', default: ''},
      json: {type: 'boolean', default: false},
      keep: {type: 'boolean', default: false},
    },
  })
  const number = (name: string, text: string | undefined, fallback: number) => {
    const value = text === undefined ? fallback : Number(text)
    if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} is a number from 0`)
    return value
  }
  return {
    seed: number('seed', values.seed, Date.now() % 1_000_000),
    minutes: values.minutes === undefined ? undefined : number('minutes', values.minutes, 0),
    machines: number('machines', values.machines, 24),
    only: values.only.split(',').filter(Boolean),
    json: values.json,
    keep: values.keep,
  }
}

async function torture({seed, minutes, machines, only, keep}: Options): Promise<TortureReport> {
  const wanted = SCENARIOS.filter(({name}) => only.length === 0 || only.some(start => new RegExp(`^${start}[a-z]? `).test(name)))
  if (wanted.length === 0) throw new Error(`no scenario begins with ${only.join(', ')}`)
  const random = createChance(seed)
  const end = minutes === undefined ? undefined : performance.now() + minutes * 60_000
  tell(`seed ${seed}: ${machines} machines`)
  const world = await createWorld({
    random: random.fork('rack'),
    machines,
    hosts: wanted.some(({hosts}) => hosts === 2) ? 2 : 1,
    stateMb: STATE_MB,
    cuttable: true,
    node: {script: 'sim/serve-mortal.ts'},
    onProgress: tell,
  })
  const rounds: Round[] = []
  const tried = new Set<string>()
  try {
    await world.declareAll()
    await world.placeAll('available')
    for (let number = 0; end === undefined ? number < wanted.length : performance.now() < end; number++) {
      const scenario = end === undefined ? wanted[number] : random.fork('round', number).pick(wanted)
      if (!scenario) break
      rounds.push(await runRound({world, scenario, seed, number, machines, tried}))
    }
  } finally {
    const failed = rounds.some(({ok}) => !ok)
    await world.close({keepFiles: keep || failed})
    if (keep || failed) tell(`logs are left in ${world.dir}`)
  }
  return {seed, rounds, failed: rounds.filter(({ok}) => !ok).length}
}

type RoundParts = {
  readonly world: World
  readonly scenario: Scenario
  readonly seed: number
  readonly number: number
  readonly machines: number
  readonly tried: Set<string>
}

async function runRound({world, scenario, seed, number, machines, tried}: RoundParts): Promise<Round> {
  const startMs = performance.now()
  const facts: Record<string, number | string> = {}
  const notes: string[] = []
  let failure: string | null = null
  try {
    await scenario.run({
      world,
      random: createChance(seed).fork('scenario', scenario.name, number),
      facts,
      tried,
      note: line => notes.push(line),
    })
  } catch (error) {
    failure = messageOf(error)
  }
  world.setMix(MIXES.none)
  let violations: Violation[] = []
  try {
    violations = await checkInvariants(world)
  } catch (error) {
    failure ??= `the invariants could not be checked: ${messageOf(error)}`
  }
  if (violations.length > 0)
    failure ??= violations
      .slice(0, 3)
      .map(({invariant, what}) => `${invariant}: ${what}`)
      .join('; ')
  const seconds = Math.round((performance.now() - startMs) / 100) / 10
  const told = Object.entries(facts)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ')
  tell(`${failure === null ? 'ok    ' : 'FAILED'} ${scenario.name} (${seconds} s; ${told})`)
  if (failure !== null) for (const line of [...notes.slice(-10), failure]) tell(`         ${line}`)
  const [fault = ''] = scenario.name.split(' ')
  const replay = `npm run torture -- --seed ${seed} --machines ${machines} --only ${fault}`
  return {scenario: scenario.name, seed, ok: failure === null, seconds, facts, failure, violations, replay}
}

/** The story goes to standard error, so that standard output holds the answer alone. */
function tell(text: string): void {
  process.stderr.write(`${text}\n`)
}
