/** Pagination: a page and the cursor of the next. A cursor is opaque text; a wrong one is an input error, never a fault. */
import {z} from 'zod'

export const PAGE_LIMIT = 500

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(50).describe('rows a page'),
  after: z.string().min(1).max(200).optional().describe('`next` of the page before'),
}

/** An instant as ISO 8601 has it, with its offset, or a day (its first moment in UTC). */
export const instant = z.union([z.iso.datetime({offset: true}), z.iso.date()]).transform(text => new Date(text))

export type Page<V> = {readonly items: readonly V[]; readonly next: string | null}

/** Asks for one row more than the page, so that a last page has no `next`. */
export function toPage<T, V>(rows: readonly T[], limit: number, cursorOf: (row: T) => string, view: (row: T) => V): Page<V> {
  const page = rows.slice(0, limit)
  const last = page[page.length - 1]
  return {items: page.map(view), next: rows.length > limit && last !== undefined ? cursorOf(last) : null}
}

/**
 * A page of rows whose cursor is not unique (jobs of one millisecond, one MAC on several circuits): it ends only where the cursor
 * changes, so it may be longer than `limit`, and the next page neither skips nor repeats.
 *
 * @param fetch at most `count` rows after the cursor of the caller, in the order of `cursorOf`
 */
export async function pageOfWholeGroups<T, V>(
  fetch: (count: number) => Promise<readonly T[]>,
  limit: number,
  cursorOf: (row: T) => string,
  view: (row: T) => V,
): Promise<Page<V>> {
  for (let count = limit + 1; ; count *= 2) {
    const rows = await fetch(count)
    const last = rows[limit - 1]
    const end = last === undefined ? -1 : rows.findIndex((row, index) => index >= limit && cursorOf(row) !== cursorOf(last))
    if (last !== undefined && end >= 0) return {items: rows.slice(0, end).map(view), next: cursorOf(last)}
    if (rows.length < count) return {items: rows.map(view), next: null}
  }
}
