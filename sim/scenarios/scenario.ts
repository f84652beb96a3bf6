/** What a scenario is: faults for a while, an end, and what must be true then beside the invariants, which hold after each. */
import type {Chance} from '../chance.ts'
import type {World} from '../world.ts'

export type Context = {
  readonly world: World
  readonly random: Chance
  /** What was seen, for the report. */
  readonly facts: Record<string, number | string>
  /** Deaths that were died in earlier rounds, by role, moment and boundary. */
  readonly tried: Set<string>
  readonly note: (line: string) => void
}

export type Scenario = {
  /** Begins with the number of the fault it injects. */
  readonly name: string
  readonly about: string
  readonly hosts: 1 | 2
  /** @throws when what must be true is not */
  run(context: Context): Promise<void>
}

export function must(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what)
}

/** Waits for something to be seen; @throws naming it */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  limitMs = 60_000,
): Promise<T> {
  const end = performance.now() + limitMs
  for (;;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    if (performance.now() > end) throw new Error(`never seen: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}
