/** What a torture tells to a program: one object, the last line of `--json`. */
import type {Violation} from './invariants.ts'

export type Round = {
  readonly scenario: string
  readonly seed: number
  readonly ok: boolean
  readonly seconds: number
  readonly facts: Readonly<Record<string, number | string>>
  readonly failure: string | null
  readonly violations: readonly Violation[]
  readonly replay: string
}

export type TortureReport = {readonly seed: number; readonly rounds: readonly Round[]; readonly failed: number}
