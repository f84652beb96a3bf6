/** A flood of packets must not become a flood of log lines: so many a second, then a count of what was left out. */
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'

export type Say = (level: 'debug' | 'info' | 'error', fields: object, message: string) => void

export function createLogBudget(log: Log, clock: Clock, linesPerS: number): Say {
  let windowMs = Number.NEGATIVE_INFINITY
  let lines = 0
  return (level, fields, message) => {
    if (!log.isLevelEnabled(level)) return
    const nowMs = clock.monotonicMs()
    if (nowMs - windowMs >= 1000) {
      if (lines > linesPerS) log.info({lines: lines - linesPerS}, 'tftp: log lines left out')
      windowMs = nowMs
      lines = 0
    }
    if (++lines <= linesPerS) log[level](fields, message)
  }
}
