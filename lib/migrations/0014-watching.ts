/** What the wire counts and who serves it, published for control to show; and an index that finds an alert about the same thing again. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  // Rewritten every few seconds: room on the page keeps it to HOT updates.
  await sql`CREATE TABLE wire_counters (
    source text NOT NULL,
    name text NOT NULL,
    label text NOT NULL,
    value bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (source, name, label)
  ) WITH (fillfactor = 50)`.execute(db)
  await sql`CREATE TABLE dhcp_servers (
    address inet PRIMARY KEY,
    source text NOT NULL,
    seen_at timestamptz NOT NULL
  )`.execute(db)
  await sql`CREATE INDEX events_by_subject ON events (kind, subject, at) WHERE subject IS NOT NULL`.execute(db)
}
