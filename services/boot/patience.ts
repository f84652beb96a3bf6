/** How long a machine that waits for an answer is kept waiting by a database that is away, restarting, or hangs. */
import {sleep} from '../../lib/clock.ts'
import {isAway, sqlState} from '../../lib/db.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'

/** query_canceled: the statement timeout. A database that hangs is as good as away. */
const QUERY_CANCELED = '57014'

export function isUnanswered(error: unknown): boolean {
  return isAway(error) || sqlState(error) === QUERY_CANCELED
}

/** What comes within `limitMs`, else `late`; what comes after that is nobody's any more. */
export async function within<T>(limitMs: number, work: Promise<T>, log: Log): Promise<{readonly value: T} | 'late'> {
  const timer = new AbortController()
  try {
    return await Promise.race([
      work.then(value => ({value})),
      sleep(limitMs, timer.signal).then(() => {
        if (!timer.signal.aborted)
          work.catch(error => log.warn({reason: messageOf(error)}, 'an answer that came too late had failed'))
        return 'late' as const
      }),
    ])
  } finally {
    timer.abort()
  }
}
