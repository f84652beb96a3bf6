/**
 * Mutated packets through the real dhcpd: decode → decide → (ask, bind) → reply → encode, with every reply held against the rules.
 *
 * Looks for three things. *Crashes*: an exception, a broken rule, a packet that takes long. *Hangs*: the packets run in a thread, and
 * a packet on which it stands still is named. *Growth*: memory after a garbage collection, within each stretch of packets, which has
 * one responder, and from the first stretch to the last.
 */
import {Worker} from 'node:worker_threads'
import {kindOf} from './dhcp/minimise.ts'
import {collectSeeds} from './dhcp/seeds.ts'
import {makePacket, STRETCH_PACKETS} from './dhcp/stretch.ts'
import type {FuzzedResponder, ThreadAnswer, ThreadData, ThreadFailure, ThreadTask} from './dhcp/thread.ts'
import {type FuzzReport, type FuzzTarget, readNumbers} from './report.ts'

const USAGE = `npm run fuzz -- dhcp [--seed N] [--from N] [--packets N] [--only N] [--json]

  --seed     what all packets follow from (default: 1)
  --packets  how many (default: 1000000)
  --from     number of the first, so that a long run can be done in parts (default: 0)
  --only     that packet alone, in the state it was met in: its stretch of ${STRETCH_PACKETS} packets is run up to it`

export const dhcp: FuzzTarget = {
  name: 'dhcp',
  about: 'mutated DHCP packets through dhcpd',
  usage: USAGE,
  run(args, say) {
    const {seed = 1, packets = 1_000_000, from = 0, only} = readNumbers(args, ['seed', 'packets', 'from', 'only'])
    return only === undefined ? fuzzDhcp({seed, from, packets, say}) : replay(seed, only, say)
  },
}

export type DhcpFuzzOptions = {
  readonly seed: number
  readonly from: number
  readonly packets: number
  readonly say?: (line: string) => void
  /** Without progress for so long, the packet in hand is called a hang. */
  readonly hang_ms?: number
  readonly target?: FuzzedResponder
}

const HANG_MS = 60_000
/** The thread is still reading its modules. */
const NOT_BEGUN = -1n
/** A hundred bytes a packet would be 16 MB within a stretch; what a responder keeps by design (bounded) is less. */
const MOST_GROWTH_IN_STRETCH_BYTES = 12_000_000
const MOST_GROWTH_BYTES = 8_000_000

export async function fuzzDhcp(options: DhcpFuzzOptions): Promise<FuzzReport> {
  const {seed, from, packets, say = () => undefined} = options
  const beganMs = performance.now()
  const answers: ThreadAnswer[] = []
  const failures: ThreadFailure[] = []
  const lane = createLane(options)
  try {
    for (const task of stretches(from, from + packets)) {
      const answer = await lane.run(task)
      if ('hung' in answer) failures.push(answer.hung)
      else {
        answers.push(answer)
        failures.push(...answer.failures, ...growthWithin(answer, task, seed))
        for (const {index, what} of answer.failures) say(`packet ${index}: ${what}`)
      }
      const seconds = Math.round((performance.now() - beganMs) / 1000)
      say(`${task.to - from} packets in ${seconds} s, ${failures.length} failures`)
    }
  } finally {
    await lane.close()
  }
  failures.push(...growthAcross(answers, from, seed))
  return summarise(options, answers, failures, (performance.now() - beganMs) / 1000)
}

async function replay(seed: number, only: number, say: (line: string) => void): Promise<FuzzReport> {
  const packet = makePacket(seed, only, collectSeeds())
  say(`packet ${only} of seed ${seed}: ${packet.bytes.length} octets on ${packet.arrival.interface}`)
  say(`spoilt by: ${packet.how.join(', ') || 'nothing'}\n${packet.bytes.toString('hex')}`)
  const report = await fuzzDhcp({seed, from: only - (only % STRETCH_PACKETS), packets: (only % STRETCH_PACKETS) + 1, say})
  return {...report, failures: report.failures.filter(({index}) => index === only)}
}

/** Parts that each lie within one stretch of the responder's. */
function stretches(from: number, to: number): ThreadTask[] {
  const tasks: ThreadTask[] = []
  for (let at = from; at < to; ) {
    const end = Math.min(at - (at % STRETCH_PACKETS) + STRETCH_PACKETS, to)
    tasks.push({from: at, to: end})
    at = end
  }
  return tasks
}

/** One thread and the watch over it; a thread that hangs is ended, and the next task gets a new one. */
function createLane({seed, target, hang_ms = HANG_MS}: DhcpFuzzOptions) {
  const progress = new SharedArrayBuffer(8)
  const inHand = new BigInt64Array(progress)
  let worker: Worker | undefined

  function run(task: ThreadTask): Promise<ThreadAnswer | {readonly hung: ThreadFailure}> {
    const data: ThreadData = {seed, progress, ...(target === undefined ? {} : {target})}
    worker ??= new Worker(new URL('./dhcp/thread.ts', import.meta.url), {workerData: data})
    const thread = worker
    Atomics.store(inHand, 0, NOT_BEGUN)
    const {promise, resolve, reject} = Promise.withResolvers<ThreadAnswer | {readonly hung: ThreadFailure}>()
    let last = Atomics.load(inHand, 0)
    let lastMs = performance.now()
    const watch = setInterval(
      () => {
        const now = Atomics.load(inHand, 0)
        if (now !== last) {
          last = now
          lastMs = performance.now()
        } else if (performance.now() - lastMs > (now === NOT_BEGUN ? Math.max(hang_ms, HANG_MS) : hang_ms)) {
          worker = undefined
          void thread
            .terminate()
            .then(() => resolve({hung: describeHang(seed, now === NOT_BEGUN ? task.from : Number(now), hang_ms)}))
        }
      },
      Math.min(1000, hang_ms / 4),
    )
    thread.once('message', resolve).once('error', reject)
    thread.postMessage(task)
    return promise.finally(() => {
      clearInterval(watch)
      thread.removeAllListeners('message').removeAllListeners('error')
    })
  }

  return {run, close: async () => void (await worker?.terminate())}
}

function describeHang(seed: number, index: number, hang_ms: number): ThreadFailure {
  const {bytes, how} = makePacket(seed, index, collectSeeds())
  const what = `hang: no progress for ${hang_ms / 1000} s with this packet, or with those before it that still wait`
  return {index, what, how, hex: bytes.toString('hex'), smaller: null}
}

function growthWithin({heap_bytes, packets}: ThreadAnswer, {to}: ThreadTask, seed: number): ThreadFailure[] {
  const grown = heap_bytes === null ? 0 : heap_bytes.end - heap_bytes.early
  if (grown <= MOST_GROWTH_IN_STRETCH_BYTES) return []
  return [noPacket(to - 1, `growth: one responder kept ${megabytes(grown)} MB over ${packets} packets of seed ${seed}`)]
}

function growthAcross(answers: readonly ThreadAnswer[], from: number, seed: number): ThreadFailure[] {
  const grown = (answers.at(-1)?.heap_bytes?.end ?? 0) - (answers[0]?.heap_bytes?.end ?? 0)
  if (grown <= MOST_GROWTH_BYTES) return []
  return [noPacket(from, `growth: ${megabytes(grown)} MB more at the end of the last stretch than of the first, seed ${seed}`)]
}

function noPacket(index: number, what: string): ThreadFailure {
  return {index, what, how: [], hex: '', smaller: null}
}

function summarise(
  {seed, from, packets}: DhcpFuzzOptions,
  answers: readonly ThreadAnswer[],
  failures: readonly ThreadFailure[],
  seconds: number,
): FuzzReport {
  const counters: Record<string, number> = {}
  for (const answer of answers) {
    for (const [name, count] of Object.entries(answer.counters)) counters[name] = (counters[name] ?? 0) + count
  }
  const ends = answers.map(answer => answer.heap_bytes?.end ?? 0)
  const kinds = Map.groupBy(failures, ({what}) => kindOf(what))
  return {
    fuzz: 'dhcp',
    seed,
    from,
    packets,
    seconds: Math.round(seconds),
    replies: answers.reduce((sum, {replies}) => sum + replies, 0),
    slowest_ms: Math.round(Math.max(0, ...answers.map(({slowest_ms}) => slowest_ms))),
    heap_mb: {first: megabytes(ends[0] ?? 0), last: megabytes(ends.at(-1) ?? 0), most: megabytes(Math.max(0, ...ends))},
    counters: Object.fromEntries(Object.entries(counters).sort(([, a], [, b]) => b - a)),
    failed: failures.length,
    failures: [...kinds.values()].flatMap(([first]) => (first === undefined ? [] : [first])),
  }
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 100_000) / 10
}
