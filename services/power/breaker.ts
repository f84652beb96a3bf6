/**
 * A circuit breaker per BMC. After three failures in a row it is left alone for a while, twice as long each time: a dead BMC must not
 * hold up a job for its whole time-out again and again, and a wrong password asked too often locks the account. Other credentials are
 * tried at once.
 */
import {createHmac, randomBytes} from 'node:crypto'
import type {Clock} from '../../lib/clock.ts'
import type {PowerTarget} from './drivers/driver.ts'
import {type FaultKind, PowerFault} from './fault.ts'

export type Breaker = {
  /** @throws PowerFault of the last failure's kind while the BMC is left alone */
  admit(key: string, target: PowerTarget): void
  succeeded(key: string): void
  /** @param unasked a failure of the sweep, for which nobody waits: it closes no door to those who do, unless it was the credentials' */
  failed(key: string, target: PowerTarget, fault: PowerFault, unasked?: boolean): void
}

type Record_ = {failures: number; until: number; restMs: number; last: PowerFault; credentials: string}

const FAILURES = 3
const FIRST_REST_MS = 15_000
const LONGEST_REST_MS = 300_000

/** Failures that the next attempt would meet again. Any other says that the BMC is there and works. */
const COUNTED: readonly FaultKind[] = [
  'no_answer',
  'port_refused',
  'no_route',
  'no_session',
  'session_lost',
  'bad_reply',
  'wrong_password',
  'wrong_user',
  'wrong_group_key',
  'privilege',
]

/** Asked too often, these lock the account. */
const CREDENTIALS: readonly FaultKind[] = ['wrong_password', 'wrong_user', 'wrong_group_key', 'privilege']

export function createBreaker(clock: Clock): Breaker {
  const failing = new Map<string, Record_>()
  const salt = randomBytes(32)

  /** Tells credentials apart without keeping them. */
  function fingerprint({username, password, privilege}: PowerTarget): string {
    const text = JSON.stringify([username, password?.reveal(), privilege])
    return createHmac('sha256', salt).update(text).digest('base64')
  }

  return {
    admit(key, target) {
      const record = failing.get(key)
      if (!record || record.failures < FAILURES) return
      const leftMs = record.until - clock.monotonicMs()
      if (leftMs <= 0 || record.credentials !== fingerprint(target)) return
      const again = `not asked: ${record.failures} attempts in a row failed; it is asked again in ${Math.ceil(leftMs / 1000)} s`
      throw new PowerFault(record.last.kind, `${again} (the last: ${record.last.message})`)
    },
    succeeded(key) {
      failing.delete(key)
    },
    failed(key, target, fault, unasked) {
      if (unasked && !CREDENTIALS.includes(fault.kind)) return
      if (!COUNTED.includes(fault.kind)) {
        failing.delete(key)
        return
      }
      const credentials = fingerprint(target)
      const known = failing.get(key)
      const before = known?.credentials === credentials ? known : undefined
      const failures = (before?.failures ?? 0) + 1
      const restMs = failures <= FAILURES ? FIRST_REST_MS : Math.min((before?.restMs ?? FIRST_REST_MS) * 2, LONGEST_REST_MS)
      failing.set(key, {failures, until: clock.monotonicMs() + restMs, restMs, last: fault, credentials})
    },
  }
}
