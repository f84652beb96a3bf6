/** How DHCP serves a prefix: beside another server too, BOOTP by policy, and leases without an end (RFC 2131 §3.3: 0xffffffff). */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE prefixes DROP CONSTRAINT prefixes_dhcp_check,
    ADD CONSTRAINT prefixes_dhcp_check CHECK (dhcp IN ('authoritative', 'proxy', 'off')),
    ADD COLUMN bootp text NOT NULL DEFAULT 'ignored' CHECK (bootp IN ('ignored', 'static'))`.execute(db)
  // 0xffffffff is past an integer.
  await sql`ALTER TABLE prefixes DROP CONSTRAINT prefixes_lease_s_check,
    ALTER COLUMN lease_s TYPE bigint,
    ADD CONSTRAINT prefixes_lease_s_check CHECK (lease_s BETWEEN 60 AND 31536000 OR lease_s = 4294967295)`.execute(db)
}
