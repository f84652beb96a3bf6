/**
 * Whether leases may be ended by the database's clock just now. A clock that was set forward would end them all while their clients go on
 * using them; so after a jump nothing expires for as long as the longest lease lasts, by a clock that never jumps. By then every client
 * that lives has renewed, under the new time, and what is over by it is over.
 */
import type {Clock} from '../../lib/clock.ts'
import {JUMP_MS} from '../../lib/database-clock.ts'
import type {Log} from '../../lib/log.ts'

export type ExpiryGuard = {
  /** @param now as the database has just told it */
  mayExpire(now: Date): Promise<boolean>
}

export function createExpiryGuard(longestLease_s: () => Promise<number>, clock: Clock, log: Log): ExpiryGuard {
  let last: {wallMs: number; monotonicMs: number} | undefined
  let frozenUntilMs = Number.NEGATIVE_INFINITY
  return {
    async mayExpire(now) {
      const monotonicMs = clock.monotonicMs()
      const jump_ms = last === undefined ? 0 : now.getTime() - last.wallMs - (monotonicMs - last.monotonicMs)
      if (Math.abs(jump_ms) > JUMP_MS) {
        // First: should the next line fail, the jump is found again.
        const frozen_s = await longestLease_s()
        frozenUntilMs = Math.max(frozenUntilMs, monotonicMs + frozen_s * 1000)
        log.error(
          {jump_s: Math.round(jump_ms / 1000), frozen_s},
          'the clock of the database was set: no lease ends until every client had time to renew',
        )
      }
      last = {wallMs: now.getTime(), monotonicMs}
      return monotonicMs >= frozenUntilMs
    },
  }
}
