/** What conversations with one BMC share: its session, and what is known and learned of it. */
import type {PowerMemory} from '../memory.ts'
import type {Quirk} from '../quirks.ts'
import type {Timers} from '../timers.ts'
import type {Session} from './session.ts'

export type Bmc = {
  readonly session: Session
  readonly key: string
  readonly memory: PowerMemory
  readonly timers: Timers
  readonly signal: AbortSignal
  has(quirk: Quirk): boolean
  learn(quirk: Quirk, detail: string): void
}
