/** Group actions: one request on many machines, with its members; driven by whichever worker looks next. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE groups (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    action text NOT NULL,
    selector text NOT NULL,
    params jsonb NOT NULL DEFAULT '{}',
    destructive boolean NOT NULL,
    plan_hash text NOT NULL,
    state text NOT NULL CHECK (state IN ('working', 'stopping', 'succeeded', 'stopped', 'cancelled')),
    reason text,
    canary integer NOT NULL CHECK (canary >= 0),
    batch integer NOT NULL CHECK (batch > 0),
    stop_share double precision NOT NULL CHECK (stop_share >= 0 AND stop_share <= 1),
    cancel_requested boolean NOT NULL DEFAULT false,
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz
  )`.execute(db)
  await sql`CREATE INDEX groups_open ON groups (created_at) WHERE finished_at IS NULL`.execute(db)
  await sql`CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups ON DELETE CASCADE,
    ordinal integer NOT NULL,
    machine_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'started', 'succeeded', 'failed', 'skipped')),
    job_id uuid,
    why text,
    started_at timestamptz,
    PRIMARY KEY (group_id, ordinal),
    UNIQUE (group_id, machine_id)
  )`.execute(db)
  await sql`CREATE INDEX group_members_by_start ON group_members (started_at) WHERE started_at IS NOT NULL`.execute(db)
}
