/**
 * The database's time, without asking it each time: an offset found now and then, carried on by a clock that never jumps. So this host's
 * wall clock may say what it likes, and for seconds at a time the database may be away.
 */
import {type Clock, sleep} from './clock.ts'
import {messageOf} from './errors.ts'
import type {Log} from './log.ts'

export type DatabaseClock = Clock & {
  stop(): Promise<void>
}

const READ_EVERY_MS = 10_000
/** NTP slews at most 0.5 ms a second; whoever is off by this much was set. */
export const JUMP_MS = 60_000

/** @param read asks the database what time it is; resolves after the first answer */
export async function keepDatabaseClock(read: () => Promise<Date>, clock: Clock, log: Log): Promise<DatabaseClock> {
  const stopping = new AbortController()
  let anchor = await look()
  const reading = readOn()

  async function look(): Promise<{wallMs: number; monotonicMs: number}> {
    const beganMs = clock.monotonicMs()
    const wallMs = (await read()).getTime()
    return {wallMs, monotonicMs: (beganMs + clock.monotonicMs()) / 2}
  }

  function nowMs(): number {
    return anchor.wallMs + (clock.monotonicMs() - anchor.monotonicMs)
  }

  async function readOn(): Promise<void> {
    while (!stopping.signal.aborted) {
      await sleep(READ_EVERY_MS, stopping.signal)
      if (stopping.signal.aborted) return
      try {
        const expectedMs = nowMs()
        anchor = await look()
        const jump_ms = Math.round(nowMs() - expectedMs)
        if (Math.abs(jump_ms) > JUMP_MS) log.error({jump_s: jump_ms / 1000}, 'the clock of the database was set')
      } catch (error) {
        log.debug({reason: messageOf(error)}, 'the time of the database could not be read; the last offset stays')
      }
    }
  }

  return {
    now: () => new Date(nowMs()),
    monotonicMs: clock.monotonicMs,
    async stop() {
      stopping.abort()
      await reading
    },
  }
}
