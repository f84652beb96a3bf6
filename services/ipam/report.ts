/** How full prefixes are, who fills them, and for how many days they last at the rate of the past month. */
import type {Db} from '../../lib/db.ts'
import type {Holder, PrefixWithUse} from './model.ts'
import {withUse} from './prefixes.ts'
import * as usage from './store/usage.ts'
import * as store from './store.ts'

const DAYS = 30

export type Forecast = {
  /** Net growth; negative when it empties. */
  readonly per_day: number
  /** Until it is full at that rate; null when it does not grow. */
  readonly days_left: number | null
}

export type ReportRow = {
  readonly prefix: PrefixWithUse
  readonly size: number
  readonly used: number
  readonly cooling: number
  /** Addresses that nobody holds and at which something answers. */
  readonly conflicts: number
  readonly forecast: Forecast
  readonly biggest: readonly {readonly kind: Holder['kind']; readonly name: string; readonly addresses: number}[]
}

/** Fullest first. */
export async function readReport(db: Db, filter: Parameters<typeof store.whereFilter>[0], now: Date): Promise<ReportRow[]> {
  const prefixes = await withUse(db, await store.selectPrefixes(db, store.whereFilter(filter), filter.limit ?? null), now)
  const ids = prefixes.map(prefix => prefix.id)
  const [growth, biggest, conflicts] = [
    await usage.selectGrowth(db, ids, DAYS, now),
    await usage.selectBiggest(db, ids, 3),
    await usage.selectConflicts(db, ids),
  ]
  const rows = prefixes.map((prefix): ReportRow => {
    const {static: fixed, dynamic, container} = prefix.utilisation
    const size = container?.size ?? fixed.size + dynamic.size
    const used = container?.used ?? fixed.held + dynamic.held
    const cooling = container?.cooling ?? fixed.cooling + dynamic.cooling
    return {
      prefix,
      size,
      used,
      cooling,
      conflicts: conflicts.get(prefix.id) ?? 0,
      forecast: forecastOf(size - used, growth.get(prefix.id) ?? 0),
      biggest: biggest.filter(row => row.prefix_id === prefix.id).map(({kind, name, addresses}) => ({kind, name, addresses})),
    }
  })
  return rows.toSorted((a, b) => fullness(b) - fullness(a))
}

export async function forecast(db: Db, prefixId: string, free: number, now: Date): Promise<Forecast> {
  const growth = await usage.selectGrowth(db, [prefixId], DAYS, now)
  return forecastOf(free, growth.get(prefixId) ?? 0)
}

export function forecastOf(free: number, perDay: number): Forecast {
  return {per_day: Math.round(perDay * 100) / 100, days_left: perDay > 0 ? Math.max(0, Math.floor(free / perDay)) : null}
}

/** For the end of a sentence. */
export function wordsOf({per_day, days_left}: Forecast): string {
  if (days_left === null) return `it has not grown over ${DAYS} days`
  return `at the present rate of ${per_day} a day it lasts ${days_left} day${days_left === 1 ? '' : 's'}`
}

function fullness(row: ReportRow): number {
  return row.size === 0 ? 0 : row.used / row.size
}
