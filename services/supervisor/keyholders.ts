/** Who holds which sealing keys: each control process says so in the database, by the keys' names, while it lives. */
import {randomUUID} from 'node:crypto'
import {hostname} from 'node:os'
import {type Kysely, sql} from 'kysely'
import {type Clock, sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {SealingKeys} from './roles.ts'

export type Keyholder = {
  readonly host: string
  readonly pid: number
  readonly keyIds: readonly string[]
  readonly primaryId: string
}

const BEAT_MS = 5_000
/** Several beats: a process that is silent for so long has ended. */
const GONE_S = 30

export function announceKeys(parts: {db: Kysely<Database>; keys: SealingKeys; clock: Clock; log: Log}): {stop(): Promise<void>} {
  const {db, keys, log} = parts
  const id = randomUUID()
  const stopping = new AbortController()
  let beating: Promise<void> = Promise.resolve()

  async function beat(): Promise<void> {
    const ring = keys.current()
    const held = {host: hostname(), pid: process.pid, key_ids: ring.keys.map(key => key.id), primary_id: ring.primary.id}
    const beat_at = sql<Date>`now()`
    try {
      await db
        .insertInto('keyholders')
        .values({id, ...held, beat_at})
        .onConflict(conflict => conflict.column('id').doUpdateSet({...held, beat_at}))
        .execute()
      await db.deleteFrom('keyholders').where('beat_at', '<', sql<Date>`now() - make_interval(secs => ${GONE_S})`).execute()
    } catch (error) {
      log.debug({reason: messageOf(error)}, 'the names of the sealing keys could not be written; it is tried again')
    }
  }

  function beatNow(): Promise<void> {
    beating = beating.then(beat)
    return beating
  }

  async function beatUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await beatNow()
      await sleep(BEAT_MS, stopping.signal)
    }
  }

  keys.onChange(() => void beatNow())
  const loop = beatUntilStopped()
  return {
    async stop() {
      stopping.abort()
      await loop
      await beating
      await db
        .deleteFrom('keyholders')
        .where('id', '=', id)
        .execute()
        .catch(error => log.debug({reason: messageOf(error)}, 'this process could not be taken off the holders of sealing keys'))
    },
  }
}

/** Those that live, by the database's clock. */
export async function selectKeyholders(db: Kysely<Database>): Promise<Keyholder[]> {
  const rows = await db
    .selectFrom('keyholders')
    .selectAll()
    .where('beat_at', '>=', sql<Date>`now() - make_interval(secs => ${GONE_S})`)
    .orderBy('host')
    .orderBy('pid')
    .execute()
  return rows.map(row => ({host: row.host, pid: row.pid, keyIds: row.key_ids, primaryId: row.primary_id}))
}
