/** Every SQL statement of the power service: what is remembered of BMCs and of their models. */
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {BmcDevice} from './drivers/driver.ts'
import type {KnownBmc, MemoryStore, ModelQuirk} from './memory.ts'
import {QUIRKS, type Quirk} from './quirks.ts'

const ROWS_AT_A_TIME = 1000
/** A BMC that was not spoken to for this long is forgotten: its address may be another's. */
const FORGET_DAYS = 90

export function createMemoryStore(db: Kysely<Database>): MemoryStore {
  return {
    async load() {
      const bmcs = await db.selectFrom('known_bmcs').selectAll().execute()
      const quirks = await db.selectFrom('bmc_quirks').selectAll().execute()
      return {
        bmcs: new Map(
          bmcs.map(row => [row.bmc, {suite: row.suite, suite_at: row.suite_at, device: row.device as BmcDevice | null}]),
        ),
        // A quirk of a later version means nothing here.
        quirks: quirks.flatMap(row => (row.quirk in QUIRKS ? [{...row, quirk: row.quirk as Quirk}] : [])),
      }
    },
    async save(bmcs, seen, now) {
      const rows = [...bmcs].map(([bmc, known]) => rowOf(bmc, known, now))
      // Always in the same order, so that two processes do not wait for each other's rows.
      rows.sort((left, right) => (left.bmc < right.bmc ? -1 : 1))
      for (let at = 0; at < rows.length; at += ROWS_AT_A_TIME) {
        await db
          .insertInto('known_bmcs')
          .values(rows.slice(at, at + ROWS_AT_A_TIME))
          .onConflict(conflict =>
            conflict.column('bmc').doUpdateSet(({ref}) => ({
              suite: ref('excluded.suite'),
              suite_at: ref('excluded.suite_at'),
              device: ref('excluded.device'),
              seen_at: ref('excluded.seen_at'),
            })),
          )
          .execute()
      }
      for (const quirk of seen) await addQuirk(db, quirk)
      const before = new Date(now.getTime() - FORGET_DAYS * 86_400_000)
      await db.deleteFrom('known_bmcs').where('seen_at', '<', before).execute()
    },
  }
}

function rowOf(bmc: string, {suite, suite_at, device}: KnownBmc, now: Date) {
  return {bmc, suite, suite_at, device: device && JSON.stringify(device), seen_at: now}
}

/** Several processes see the same model: their counts add up. */
async function addQuirk(db: Kysely<Database>, {model, quirk, times, first_seen, last_seen, detail}: ModelQuirk): Promise<void> {
  await db
    .insertInto('bmc_quirks')
    .values({model, quirk, times, first_seen, last_seen, detail})
    .onConflict(conflict =>
      conflict.columns(['model', 'quirk']).doUpdateSet(eb => ({
        times: eb('bmc_quirks.times', '+', times),
        last_seen,
        detail,
      })),
    )
    .execute()
}
