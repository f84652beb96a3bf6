/**
 * Group commit. One bind runs at a time; whatever is submitted meanwhile is the next one. No timer: a lone request commits at once, and
 * under load the batches grow to what a commit costs. A client that repeats its REQUEST shares the bind already queued for it.
 */
import type {Mac} from '../../lib/addresses.ts'
import type {BindRequest, BindResult, Leases} from './leases.ts'

export type BindQueue = {
  /** Resolves after the commit; rejects as the port did. */
  submit(request: BindRequest): Promise<BindResult>
  /** Resolves when nothing is queued or running. */
  idle(): Promise<void>
}

type Entry = {
  readonly request: BindRequest
  readonly promise: Promise<BindResult>
  readonly resolve: (result: BindResult) => void
  readonly reject: (error: unknown) => void
}

const MOST_IN_BATCH = 2048

export function createBindQueue(leases: Pick<Leases, 'bind'>): BindQueue {
  const queue = new Map<Mac, Entry>()
  /** Second wishes of a MAC that is queued already for another address: a batch holds each MAC once. */
  let later: Entry[] = []
  let running: Promise<void> | undefined

  async function drain(): Promise<void> {
    while (queue.size > 0) {
      const batch = takeBatch()
      await commit(leases, batch)
    }
    running = undefined
  }

  function takeBatch(): Entry[] {
    const batch = [...queue.values()].slice(0, MOST_IN_BATCH)
    for (const entry of batch) queue.delete(entry.request.mac)
    const waiting = later
    later = []
    for (const entry of waiting) enqueue(entry)
    return batch
  }

  function enqueue(entry: Entry): void {
    if (queue.has(entry.request.mac)) later.push(entry)
    else queue.set(entry.request.mac, entry)
  }

  return {
    submit(request) {
      const queued = queue.get(request.mac)
      if (queued !== undefined && isSameWish(queued.request, request)) return queued.promise
      const {promise, resolve, reject} = Promise.withResolvers<BindResult>()
      enqueue({request, promise, resolve, reject})
      running ??= drain()
      return promise
    },
    idle: () => running ?? Promise.resolve(),
  }
}

async function commit(leases: Pick<Leases, 'bind'>, batch: readonly Entry[]): Promise<void> {
  try {
    const results = await leases.bind(batch.map(entry => entry.request))
    for (const [index, entry] of batch.entries()) {
      const result = results[index]
      if (result === undefined) entry.reject(new Error(`bind answered ${results.length} of ${batch.length} requests`))
      else entry.resolve(result)
    }
  } catch (error) {
    for (const entry of batch) entry.reject(error)
  }
}

function isSameWish(a: BindRequest, b: BindRequest): boolean {
  return a.address === b.address && a.kind === b.kind && a.prefixId === b.prefixId && a.lease_s === b.lease_s
}
