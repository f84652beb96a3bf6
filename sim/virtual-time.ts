/**
 * Time that passes when nothing else does: a clock and timers for code that has both handed in. When no timer was set or taken back for
 * some turns of the event loop, everybody waits for one, and the next is due at once. Thirty seconds of waiting take some milliseconds,
 * and datagrams on their way over loopback are never overtaken.
 */
import type {Clock} from '../lib/clock.ts'

export type VirtualTime = {
  readonly clock: Clock
  readonly timers: {after(ms: number, run: () => void): () => void}
  /** Milliseconds that have passed. */
  readonly passedMs: number
  /** Lets time pass until `work` has settled. */
  during<T>(work: Promise<T>): Promise<T>
  /** Lets this much time pass. */
  pass(ms: number): Promise<void>
}

/** A datagram over loopback is there within one turn of the event loop, and its answer after another; several are allowed for. */
const QUIET_TURNS = 12
const START_MS = Date.UTC(2026, 0, 1)

export function createVirtualTime(): VirtualTime {
  let nowMs = 0
  let sequence = 0
  let changes = 0
  const pending = new Map<number, {atMs: number; run: () => void}>()

  async function settle(): Promise<void> {
    for (let turns = 0, before = changes; turns < QUIET_TURNS; turns++) {
      await new Promise<void>(resolve => setImmediate(resolve))
      if (changes !== before) turns = 0
      before = changes
    }
  }

  function runNext(limitMs: number): boolean {
    let next: [number, {atMs: number; run: () => void}] | undefined
    for (const entry of pending) if (!next || entry[1].atMs < next[1].atMs) next = entry
    if (!next || next[1].atMs > limitMs) return false
    pending.delete(next[0])
    nowMs = Math.max(nowMs, next[1].atMs)
    next[1].run()
    return true
  }

  return {
    clock: {now: () => new Date(START_MS + nowMs), monotonicMs: () => nowMs},
    timers: {
      after(ms, run) {
        const id = sequence++
        changes += 1
        pending.set(id, {atMs: nowMs + Math.max(0, ms), run})
        return () => {
          if (pending.delete(id)) changes += 1
        }
      },
    },
    get passedMs() {
      return nowMs
    },
    async during(work) {
      let over = false
      const finish = () => {
        over = true
      }
      work.then(finish, finish)
      for (;;) {
        await settle()
        if (over) return work
        runNext(Number.POSITIVE_INFINITY)
      }
    },
    async pass(ms) {
      const untilMs = nowMs + ms
      do await settle()
      while (runNext(untilMs))
      nowMs = untilMs
    },
  }
}
