/**
 * Single askers of one process together: one transaction at a time takes for all who came while the last one committed. No timer; who is
 * alone waits for nobody. Each gets its own answer: one that is refused takes nothing from the others.
 */
import type {Db} from '../../lib/db.ts'
import {type AllocateRequest, exhausted, lockActive, take, toWanted} from './allocate.ts'
import type {Allocation} from './model.ts'
import type {RangeKind} from './prefix-input.ts'
import * as store from './store.ts'

export type GroupedRequest = AllocateRequest & {readonly prefixId: string; readonly range?: RangeKind}

type Waiting = {
  readonly wanted: store.Wanted
  readonly actor: string
  readonly resolve: (allocation: Allocation) => void
  readonly reject: (error: unknown) => void
}

export type Grouped = (request: GroupedRequest, actor: string) => Promise<Allocation>

/** As many as one transaction takes: its statements stay short, and nobody waits long. */
const MOST_AT_ONCE = 512

/** @param now read once a transaction */
export function createGrouped(db: Db, now: () => Date): Grouped {
  const queues = new Map<string, Waiting[]>()

  return (request, actor) => {
    const kind = request.range ?? 'static'
    const wanted = toWanted(request)
    return new Promise((resolve, reject) => {
      const key = `${request.prefixId} ${kind} ${actor}`
      const queue = queues.get(key)
      const waiting = {wanted, actor, resolve, reject}
      if (queue) queue.push(waiting)
      else {
        const fresh = [waiting]
        queues.set(key, fresh)
        void serve(key, fresh, request.prefixId, kind)
      }
    })
  }

  async function serve(key: string, queue: Waiting[], prefixId: string, kind: RangeKind): Promise<void> {
    // Those who ask in the same turn come along.
    await Promise.resolve()
    while (queue.length > 0) await takeFor(queue.splice(0, MOST_AT_ONCE), prefixId, kind)
    queues.delete(key)
  }

  async function takeFor(group: readonly Waiting[], prefixId: string, kind: RangeKind): Promise<void> {
    try {
      const settle = await store.inTx(db, async tx => {
        const at = now()
        const prefix = await lockActive(tx, prefixId)
        const [first] = group
        const taken = await take(
          tx,
          prefix,
          kind,
          group.map(waiting => waiting.wanted),
          first?.actor ?? '',
          at,
        )
        const full = taken.length < group.length ? await exhausted(tx, prefix, kind, 1, at) : undefined
        return () => {
          for (const [index, waiting] of group.entries()) {
            const allocation = taken[index]
            if (allocation) waiting.resolve(allocation)
            else waiting.reject(full)
          }
        }
      })
      settle()
    } catch (error) {
      await takeOneByOne(group, prefixId, kind, error)
    }
  }

  /** One of them is at fault, or nobody: alone each learns what concerns it. */
  async function takeOneByOne(group: readonly Waiting[], prefixId: string, kind: RangeKind, error: unknown): Promise<void> {
    const [only, ...others] = group
    if (only && others.length === 0) return only.reject(error)
    for (const waiting of group) await takeFor([waiting], prefixId, kind)
  }
}
