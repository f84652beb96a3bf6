/** Evidence and events: append-only, partitioned by day so that retention is a DROP, not a DELETE. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE evidence (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    machine_id uuid,
    job_id uuid,
    fence bigint,
    kind text NOT NULL,
    mac macaddr,
    source text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (id, at)
  ) PARTITION BY RANGE (at)`.execute(db)
  await sql`CREATE TABLE evidence_default PARTITION OF evidence DEFAULT`.execute(db)
  await sql`CREATE INDEX evidence_by_machine ON evidence (machine_id, id)`.execute(db)
  await sql`CREATE INDEX evidence_by_fence ON evidence (fence, kind) WHERE fence IS NOT NULL`.execute(db)
  await sql`CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    actor text NOT NULL,
    kind text NOT NULL,
    machine_id uuid,
    job_id uuid,
    subject text,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (id, at)
  ) PARTITION BY RANGE (at)`.execute(db)
  await sql`CREATE TABLE events_default PARTITION OF events DEFAULT`.execute(db)
  await sql`CREATE INDEX events_by_machine ON events (machine_id, id)`.execute(db)
  await sql`CREATE INDEX events_by_id ON events (id)`.execute(db)
}
