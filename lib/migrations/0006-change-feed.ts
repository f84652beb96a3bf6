/**
 * Change hints: a NOTIFY when anything in dhcpd's snapshot changed. Only a hint; readers also compare on a period.
 *
 * A NOTIFY takes a lock that all of them share until its commit, and each one makes every wire process load its snapshot again. So only
 * what the snapshot shows fires: not the moving mark of a range, not a dynamic address, not a job that merely goes on.
 */
import {type Kysely, sql} from 'kysely'

/** By table: on what, and when a changed row is to be seen in the snapshot. */
const HINTS: readonly (readonly [table: string, on: string, when?: string])[] = [
  ['prefixes', 'INSERT OR DELETE OR UPDATE'],
  ['ranges', 'INSERT OR DELETE OR UPDATE OF kind, first_address, last_address'],
  ['allocations', 'INSERT', "NEW.holder_kind = 'machine'"],
  ['allocations', 'UPDATE OF freed_at, machine_id, client_key', "OLD.holder_kind = 'machine' OR NEW.holder_kind = 'machine'"],
  ['machines', 'INSERT OR DELETE OR UPDATE OF name'],
  ['interfaces', 'INSERT OR DELETE OR UPDATE OF mac, machine_id, kind'],
  ['windows', 'INSERT OR DELETE OR UPDATE OF until, closed_at'],
  ['jobs', 'INSERT'],
  ['jobs', 'UPDATE', 'OLD.fence IS DISTINCT FROM NEW.fence OR OLD.finished_at IS DISTINCT FROM NEW.finished_at'],
]

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE FUNCTION hint_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('ingot_snapshot', TG_TABLE_NAME); RETURN NULL; END $$`.execute(db)
  for (const [index, [table, on, when]] of HINTS.entries()) {
    const each = when === undefined ? 'STATEMENT' : `ROW WHEN (${when})`
    await sql`CREATE TRIGGER ${sql.ref(`hint_snapshot_${index}`)} AFTER ${sql.raw(on)} ON ${sql.table(table)}
      FOR EACH ${sql.raw(each)} EXECUTE FUNCTION hint_snapshot()`.execute(db)
  }
}
