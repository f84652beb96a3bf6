/** Bounds how many runs go on at once; the others wait in order. */

export type Slots = {
  /** Resolves to the function that gives the place back, or to undefined when `signal` aborted first. */
  take(signal: AbortSignal): Promise<(() => void) | undefined>
}

export function createSlots(limit: number): Slots {
  let taken = 0
  const waiting: (() => void)[] = []
  const give = () => {
    const next = waiting.shift()
    // The place passes on directly, so that nobody takes it in between.
    if (next) next()
    else taken -= 1
  }
  return {
    take(signal) {
      if (signal.aborted) return Promise.resolve(undefined)
      if (taken < limit) {
        taken += 1
        return Promise.resolve(give)
      }
      return new Promise(resolve => {
        const onTurn = () => {
          signal.removeEventListener('abort', onAbort)
          resolve(give)
        }
        const onAbort = () => {
          waiting.splice(waiting.indexOf(onTurn), 1)
          resolve(undefined)
        }
        waiting.push(onTurn)
        signal.addEventListener('abort', onAbort, {once: true})
      })
    },
  }
}
