/** Structured logs (pino) to standard error, with every name that may carry a secret redacted, and boot tokens cut out of URLs. */
import {destination, type Logger, pino} from 'pino'

export type Log = Logger

const SECRET_PATHS = ['password', 'token', 'secret', 'authorization', 'session', 'key'].flatMap(name => [
  name,
  `*.${name}`,
  `*.*.${name}`,
])

/**
 * @param service name of the process or service, on every line
 * @param level   one of pino's levels; `INGOT_LOG` overrides it
 */
export function createLog(service: string, level = 'info'): Log {
  return pino(
    {
      name: service,
      level: process.env.INGOT_LOG ?? level,
      base: {pid: process.pid},
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {paths: SECRET_PATHS, censor: '[redacted]'},
      formatters: {level: label => ({level: label})},
    },
    destination({dest: 2, sync: true}),
  )
}

/** A log that says nothing, for tests and pure command-line use. */
export const silentLog: Log = pino({level: 'silent'})

/** Takes boot tokens out of a URL before it is logged or stored. */
export function redactUrl(url: string): string {
  return url.replace(/([?&](?:token|session)=)[^&#\s]+/g, '$1[redacted]').replace(/(\/t\/)[^/?#\s]+/g, '$1[redacted]')
}
