/**
 * Whether this process still counts as alive for the others, told without asking the database.
 *
 * They take over what it was doing once its last beat is SILENCE_MS old. Before that, by its own monotonic clock, it stops touching
 * hardware: one that was stopped and continued, or cut off from PostgreSQL, has no other way to know that it lost its jobs. When it
 * beats again it is alive, but what it had begun before the silence stays lost.
 */
import type {Clock} from '../../lib/clock.ts'

/** Silence after which others count a process as dead. */
export const SILENCE_MS = 10_000
/** Well before that it stops by itself. */
const ACTS_MS = 8_000

export type Presence = {
  /** A beat was committed that began at this monotonic time. */
  beaten(atMs: number): void
  isFresh(): boolean
  /** @returns whether this process was never silent since now */
  watch(): () => boolean
}

export function createPresence(clock: Clock): Presence {
  let lastMs = Number.NEGATIVE_INFINITY
  let silences = 0
  const isFresh = () => clock.monotonicMs() - lastMs < ACTS_MS
  return {
    beaten(atMs) {
      if (atMs - lastMs >= ACTS_MS) silences++
      lastMs = atMs
    },
    isFresh,
    watch() {
      const before = silences
      return () => silences === before && isFresh()
    },
  }
}
