/** Time as an argument: nothing below the roots calls `Date.now()` itself, so tests and the database decide what time it is. */

export type Clock = {
  /** Wall time, corrected by the database's clock where one is known. */
  now(): Date
  /** Milliseconds that never jump; only differences mean anything. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
}

/** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal?.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, {once: true})
  })
}
