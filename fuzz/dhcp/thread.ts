/** The thread that stretches run in, so that the one that started it can see a packet on which it hangs. */
import {parentPort, workerData} from 'node:worker_threads'
import {createResponder} from '../../services/dhcpd/responder.ts'
import {kindOf, minimise} from './minimise.ts'
import {collectSeeds} from './seeds.ts'
import {type Failure, makePacket, runStretch, type StretchOptions, type StretchResult} from './stretch.ts'

export type ThreadData = {
  readonly seed: number
  /** One number: the packet in hand. */
  readonly progress: SharedArrayBuffer
  /** What a module exports, in place of dhcpd's responder. */
  readonly target?: FuzzedResponder
}
export type FuzzedResponder = {readonly module: string; readonly name: string}
export type ThreadTask = {readonly from: number; readonly to: number}
/** `smaller` is null where the packet alone does not fail. */
export type ThreadFailure = Failure & {readonly smaller: string | null}
export type ThreadAnswer = Omit<StretchResult, 'failures'> & {readonly failures: readonly ThreadFailure[]}

const MOST_MINIMISED = 3
const {seed, progress, target} = workerData as ThreadData
const packetInHand = new BigInt64Array(progress)
const seeds = collectSeeds()
const create = target === undefined ? createResponder : await importTarget(target)

parentPort?.on('message', async ({from, to}: ThreadTask) => {
  const result = await runStretch({
    seed,
    seeds,
    from,
    to,
    create,
    measuresHeap: true,
    progress: index => void Atomics.store(packetInHand, 0, BigInt(index)),
  })
  const kinds = new Set<string>()
  const failures: ThreadFailure[] = []
  for (const failure of result.failures) {
    if (kinds.has(kindOf(failure.what)) || kinds.size >= MOST_MINIMISED) continue
    kinds.add(kindOf(failure.what))
    const smaller = await minimise(makePacket(seed, failure.index, seeds), failure.what, create)
    failures.push({...failure, smaller: smaller?.toString('hex') ?? null})
  }
  const rest = result.failures.filter(
    failure => !failures.some(({index, what}) => index === failure.index && what === failure.what),
  )
  const answer: ThreadAnswer = {...result, failures: [...failures, ...rest.map(failure => ({...failure, smaller: null}))]}
  parentPort?.postMessage(answer)
})

async function importTarget({module, name}: FuzzedResponder): Promise<NonNullable<StretchOptions['create']>> {
  const exported = (await import(module)) as Record<string, NonNullable<StretchOptions['create']>>
  const create = exported[name]
  if (create === undefined) throw new Error(`${module} exports no ${name}`)
  return create
}
