/**
 * A thousand BMCs asked for their power state, and a thousand machines switched on and seen on: by our own client in one process, and
 * beside it by freeipmi's `ipmipower`, against the same simulated BMCs. Who goes first alternates; medians are compared.
 *
 * `ipmipower` is timed as a process, from its start to its end. Our client lives in a server that runs anyway, so it is timed from the
 * first call to the last answer, in a process that has just started; its whole life is shown too. Its modules come out of Node's compile
 * cache, as the peer is a compiled program: without, 35 MB more are taken by what turns TypeScript into JavaScript.
 */
import {spawn} from 'node:child_process'
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {fileURLToPath} from 'node:url'
import {parseArgs} from 'node:util'
import {runCommand} from '../lab/commands.ts'
import {LOGIN} from './bmc/login.ts'
import {type Measured, runIpmipower} from './bmc/peer.ts'
import {pinned, pinnedRack} from './bmc/pin.ts'
import {installPackages} from './packages.ts'
import {medians} from './provision/phases.ts'
import type {Benchmark, Goal, Report, Row} from './report.ts'

const USAGE = `npm run bench -- bmc [--count N] [--rounds N] [--json]
  --count   of simulated BMCs (default 1000)
  --rounds  of each way (default 5)
  --json    print one JSON object as the last line`

const VERBS = ['status', 'on'] as const
const SUITES = [17, 3] as const
const MEMORY_RATIO = 0.5

type Verb = (typeof VERBS)[number]
type Compared = {readonly verb: Verb; readonly suite: number; readonly ours: Ours; readonly peer: Measured}
type Ours = Measured & {readonly whole_s: number}

export const bmc: Benchmark = {
  name: 'bmc',
  about: 'status and power-on of 1000 simulated BMCs, beside ipmipower',
  usage: USAGE,
  run: async args => reportOf(await measure(parseOptions(args))),
}

function parseOptions(args: readonly string[]): {count: number; rounds: number} {
  const options = {count: {type: 'string', default: '1000'}, rounds: {type: 'string', default: '5'}} as const
  const {values} = parseArgs({args: [...args], options})
  return {count: Number(values.count), rounds: Number(values.rounds)}
}

async function measure({count, rounds}: {count: number; rounds: number}): Promise<Compared[]> {
  const note = (line: string) => void process.stderr.write(`${line}\n`)
  await installPackages(['freeipmi-tools'], note)
  const directory = mkdtempSync(join(tmpdir(), 'ingot-bench-bmc-'))
  const config = join(directory, 'freeipmi.conf')
  writeFileSync(config, `username ${LOGIN.username}\npassword ${LOGIN.password}\n`, {mode: 0o600})
  const compared: Compared[] = []
  try {
    // The first two processes fill the compile cache; asking nobody, they measure nothing.
    for (const verb of VERBS) await runOurs(verb, [], directory)
    for (const suite of SUITES) {
      const rack = await startRack(count, suite)
      try {
        for (const verb of VERBS) {
          const [ours, peer]: [Ours[], Measured[]] = [[], []]
          for (let round = 0; round < rounds; round++) {
            const turns = [
              async () => void ours.push(await rack.asked(verb, 'all', () => runOurs(verb, rack.ports, directory))),
              async () => void peer.push(await rack.asked(verb, 'some', () => runIpmipower(verb, suite, rack.ports, config))),
            ]
            for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn()
            note(
              `${verb}, suite ${suite}, round ${round + 1}: ours ${ours.at(-1)?.took_s.toFixed(2)} s, ipmipower ${peer.at(-1)?.took_s.toFixed(2)} s`,
            )
          }
          compared.push({verb, suite, ours: medians(ours), peer: medians(peer)})
        }
      } finally {
        await rack.stop()
      }
    }
  } finally {
    rmSync(directory, {recursive: true, force: true})
  }
  return compared
}

async function runOurs(verb: Verb, ports: readonly number[], cache: string): Promise<Ours> {
  const file = fileURLToPath(new URL('./bmc/ours.ts', import.meta.url))
  const startedMs = performance.now()
  const {stdout} = await runCommand(pinned([process.execPath, file, verb]), {
    input: JSON.stringify({ports}),
    timeout_ms: 120_000,
    env: {NODE_COMPILE_CACHE: cache},
  })
  return {...(JSON.parse(stdout) as Measured), whole_s: (performance.now() - startedMs) / 1000}
}

async function startRack(count: number, suite: number) {
  const file = fileURLToPath(new URL('./bmc/rack.ts', import.meta.url))
  const argv = pinnedRack([process.execPath, file, String(count), String(suite)])
  const child = spawn(argv[0] ?? '', argv.slice(1), {stdio: ['pipe', 'pipe', 'inherit']})
  const lines = createInterface({input: child.stdout})[Symbol.asyncIterator]()
  const answer = async <T>() => JSON.parse((await lines.next()).value ?? '{}') as T
  const ask = (word: string) => {
    child.stdin.write(`${word}\n`)
    return answer<{on: number; sessions: number}>()
  }
  const {ports} = await answer<{ports: readonly number[]}>()
  return {
    ports,
    /**
     * Every machine off before; afterwards, as the rack sees it, every machine as the verb has it.
     * @param least  whom it has to reach: the peer may give some up on a busy host, and is shown with how many it reached
     */
    async asked<T extends Measured>(verb: Verb, least: 'all' | 'some', run: () => Promise<T>): Promise<T> {
      await ask('off')
      const measured = await run()
      const {on, sessions} = await ask('count')
      const expected = verb === 'on' ? count : 0
      if (least === 'all' && (measured.seen !== count || on !== expected)) {
        throw new Error(`${verb}: ${measured.seen} of ${count} answered, ${on} machines are on, ${sessions} sessions are open`)
      }
      return measured
    },
    async stop() {
      const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
      child.stdin.end()
      await ended
    },
  }
}

function reportOf(compared: readonly Compared[]): Report {
  const rows: Row[] = compared.flatMap(({verb, suite, ours, peer}) => [
    {
      verb,
      suite,
      who: 'ingot',
      reached: ours.seen,
      took_s: ours.took_s,
      whole_s: ours.whole_s,
      cpu_s: ours.cpu_s,
      memory_mb: ours.memory_mb,
    },
    {
      verb,
      suite,
      who: 'ipmipower',
      reached: peer.seen,
      took_s: peer.took_s,
      whole_s: peer.took_s,
      cpu_s: peer.cpu_s,
      memory_mb: peer.memory_mb,
    },
  ])
  const [first] = compared
  const goals = compared.map(goalOf)
  if (first) {
    const [ours, peer] = [first.ours.memory_mb, first.peer.memory_mb]
    goals.push({
      id: 'G9',
      what: 'most memory, MB, at most half',
      ours,
      peer,
      ratio: ours / peer,
      met: ours / peer <= MEMORY_RATIO,
    })
  }
  return {bench: 'bmc', goals, rows, tables: [{title: 'Medians', rows}]}
}

function goalOf({verb, suite, ours, peer}: Compared): Goal {
  const ratio = ours.took_s / peer.took_s
  return {
    id: 'G9',
    what: `${verb} of all, suite ${suite}, s, at most 1.0 ×`,
    ours: ours.took_s,
    peer: peer.took_s,
    ratio,
    met: ratio <= 1,
  }
}
