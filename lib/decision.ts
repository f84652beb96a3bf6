/**
 * A decision is an answer together with the reasons for it. The functions that serve the wire return decisions;
 * `ingot explain`, the timeline and the tests read the very same reasons.
 */

/** One rule that took part: its name, what it concluded, and where its input came from. */
export type Reason = {readonly rule: string; readonly because: string; readonly source?: string}

export type Decision<T> = {readonly answer: T; readonly reasons: readonly Reason[]}

/** Collects reasons while a pure function works its way to an answer. */
export function createReasons(): {because(rule: string, because: string, source?: string): void; list(): readonly Reason[]} {
  const reasons: Reason[] = []
  return {
    because(rule, because, source) {
      reasons.push(source === undefined ? {rule, because} : {rule, because, source})
    },
    list: () => reasons,
  }
}
