/** Boot's SQL: its own key, and its reading views of machines and windows. */
import {randomBytes} from 'node:crypto'
import {type Kysely, type Selectable, sql} from 'kysely'
import type {BootMachinesView, BootWindowsView, Database} from '../../lib/schema.ts'

export type BootMachineRow = Selectable<BootMachinesView>
export type BootWindowRow = Selectable<BootWindowsView>

/** The key that boot tokens are derived from: made once, the same for every replica. */
export async function selectOrMakeKey(db: Kysely<Database>): Promise<Buffer> {
  await db
    .insertInto('boot_keys')
    .values({id: 1, key: randomBytes(32)})
    .onConflict(conflict => conflict.doNothing())
    .execute()
  const row = await db.selectFrom('boot_keys').select('key').executeTakeFirstOrThrow()
  return row.key
}

export function selectBootMachine(db: Kysely<Database>, mac: string): Promise<BootMachineRow | undefined> {
  return db.selectFrom('boot_machines').selectAll().where('mac', '=', mac).executeTakeFirst()
}

/** One row for each of its interfaces, while the attempt is its job's current one. */
export function selectBootMachinesOfFence(db: Kysely<Database>, fence: number): Promise<BootMachineRow[]> {
  return db.selectFrom('boot_machines').selectAll().where('fence', '=', fence).execute()
}

/** The window open now on the prefix that an address lies in; the last to close, where there are several. */
export function selectOpenWindowFor(db: Kysely<Database>, address: string): Promise<BootWindowRow | undefined> {
  return db
    .selectFrom('boot_windows')
    .selectAll()
    .where('closed_at', 'is', null)
    .where('until', '>', sql<Date>`now()`)
    .where(sql<boolean>`cidr >> ${address}::inet`)
    .orderBy('until', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** A window, open or not. */
export function selectWindowById(db: Kysely<Database>, id: string): Promise<(BootWindowRow & {open: boolean}) | undefined> {
  return db
    .selectFrom('boot_windows')
    .selectAll()
    .select(sql<boolean>`closed_at IS NULL AND until > now()`.as('open'))
    .where('id', '=', id)
    .executeTakeFirst()
}
