/** Blocks: pieces of dynamic ranges that one dhcpd process at a time may offer from. `epoch` grows with each owner. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE blocks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    range_id uuid NOT NULL REFERENCES ranges ON DELETE CASCADE,
    first_address inet NOT NULL,
    last_address inet NOT NULL,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    UNIQUE (range_id, first_address),
    CONSTRAINT block_is_ordered CHECK (first_address <= last_address)
  )`.execute(db)
  await sql`CREATE INDEX blocks_by_owner ON blocks (owner) WHERE owner IS NOT NULL`.execute(db)
  // Who alone bound a lease since it began; the nil UUID once a second process did.
  await sql`ALTER TABLE leases ADD COLUMN bound_by uuid`.execute(db)
}
