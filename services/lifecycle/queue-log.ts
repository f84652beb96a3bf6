/** Hands the queue's own log lines to ours, quieter: its `info` is our `debug`. */
import {Logger} from 'graphile-worker'
import type {Log} from '../../lib/log.ts'

export function queueLogger(log: Log): Logger {
  return new Logger(() => (level, message) => {
    if (level === 'error') log.error({queue: true}, message)
    else if (level === 'warning') log.warn({queue: true}, message)
    else log.debug({queue: true}, message)
  })
}
