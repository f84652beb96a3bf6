/** Who may run now: one operation at a time per BMC, and so many at once in all. Waiters leave when their signal aborts. */

export type Lanes = {
  run<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
  /** How many operations run or wait. */
  readonly busy: number
}

/** A BMC's own lane comes first, so that those who wait for a slow BMC hold no place among all. */
export function createLanes(maxConcurrent: number): Lanes {
  const all = createPlaces(maxConcurrent)
  const lanes = new Map<string, Places>()
  let busy = 0

  return {
    get busy() {
      return busy
    },
    async run(key, signal, work) {
      signal.throwIfAborted()
      const lane = lanes.get(key) ?? createPlaces(1)
      lanes.set(key, lane)
      busy += 1
      try {
        await lane.take(signal)
        try {
          await all.take(signal)
          try {
            return await work()
          } finally {
            all.give()
          }
        } finally {
          lane.give()
        }
      } finally {
        busy -= 1
        if (lane.idle()) lanes.delete(key)
      }
    },
  }
}

type Places = {take(signal: AbortSignal): Promise<void>; give(): void; idle(): boolean}

function createPlaces(count: number): Places {
  let free = count
  const waiting = new Set<() => void>()
  return {
    take(signal) {
      if (signal.aborted) return Promise.reject(signal.reason)
      if (free > 0) {
        free -= 1
        return Promise.resolve()
      }
      return new Promise((resolve, reject) => {
        const admit = () => {
          waiting.delete(admit)
          signal.removeEventListener('abort', leave)
          resolve()
        }
        const leave = () => {
          waiting.delete(admit)
          reject(signal.reason)
        }
        waiting.add(admit)
        signal.addEventListener('abort', leave, {once: true})
      })
    },
    give() {
      const next = waiting.values().next()
      if (next.done) free += 1
      else next.value()
    },
    idle: () => free === count && waiting.size === 0,
  }
}
