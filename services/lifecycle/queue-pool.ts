/**
 * The queue's way to the database. The queue ends its tasks without listening for how that went: a connection that broke at that moment
 * would be an unhandled rejection, and the end of this process with everything it does. It repeats by itself, and patiently, only what
 * fails with a few codes; so a database that is away gets one of them here.
 */
import type {Pool, PoolClient} from 'pg'
import {isAway} from '../../lib/db.ts'
import {messageOf} from '../../lib/errors.ts'

/** One of graphile-worker's RETRYABLE_ERROR_CODES. */
const REPEATED = 'EHOSTUNREACH'

export function patientPool(pool: Pool): Pool {
  return new Proxy(pool, {
    get(target, name) {
      if (name === 'connect') return connect
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })

  function connect(callback?: Parameters<Pool['connect']>[0]): Promise<PoolClient> | undefined {
    if (!callback) return orRepeated(pool.connect()).then(patientClient)
    // With a callback it listens for new tasks, and minds its errors itself.
    pool.connect(callback)
    return undefined
  }
}

function patientClient(client: PoolClient): PoolClient {
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (name === 'query')
        return (...parameters: unknown[]) =>
          orRepeated((value as (...all: unknown[]) => Promise<unknown>).apply(target, parameters))
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

async function orRepeated<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw isAway(error) ? Object.assign(new Error(messageOf(error), {cause: error}), {code: REPEATED}) : error
  }
}
