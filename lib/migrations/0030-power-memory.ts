/** Power: what is remembered of BMCs (the cipher suite that works, who they are), and the quirks learned of their models. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE known_bmcs (
    bmc text PRIMARY KEY,
    suite integer,
    suite_at timestamptz,
    device jsonb,
    seen_at timestamptz NOT NULL
  )`.execute(db)
  await sql`CREATE INDEX known_bmcs_by_age ON known_bmcs (seen_at)`.execute(db)
  await sql`CREATE TABLE bmc_quirks (
    model text NOT NULL,
    quirk text NOT NULL,
    times integer NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (model, quirk)
  )`.execute(db)
}
