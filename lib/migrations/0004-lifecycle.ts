/** Lifecycle: where each machine stands, its jobs, attempts and phases; the processes that work; boot keys. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE machine_states (
    machine_id uuid PRIMARY KEY,
    state text NOT NULL,
    state_since timestamptz NOT NULL,
    failed_from text,
    maintenance boolean NOT NULL DEFAULT false,
    quarantined text,
    dirty boolean NOT NULL DEFAULT true,
    fault text,
    power_desired text CHECK (power_desired IN ('on', 'off')),
    power_observed text CHECK (power_observed IN ('on', 'off', 'unknown')),
    power_at timestamptz,
    window_id uuid,
    provisioned jsonb,
    version integer NOT NULL DEFAULT 1
  )`.execute(db)
  await sql`CREATE INDEX machine_states_by_state ON machine_states (state, machine_id)`.execute(db)
  await sql`CREATE TABLE jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    machine_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('inspect', 'clean', 'provision', 'deprovision', 'power')),
    state text NOT NULL CHECK (state IN ('queued', 'working', 'waiting', 'held', 'succeeded', 'failed', 'cancelled')),
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    attempt integer NOT NULL DEFAULT 1,
    max_attempts integer NOT NULL DEFAULT 1,
    fence bigint NOT NULL,
    phase text,
    deadline timestamptz NOT NULL,
    wake_at timestamptz NOT NULL,
    plan jsonb NOT NULL,
    plan_hash text NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    cause jsonb
  )`.execute(db)
  await sql`CREATE UNIQUE INDEX one_open_job_per_machine ON jobs (machine_id)
    WHERE state IN ('queued', 'working', 'waiting', 'held')`.execute(db)
  await sql`CREATE INDEX jobs_by_wake ON jobs (wake_at) WHERE state IN ('queued', 'working', 'waiting', 'held')`.execute(db)
  await sql`CREATE INDEX jobs_by_machine ON jobs (machine_id, created_at)`.execute(db)
  await sql`CREATE SEQUENCE fences`.execute(db)
  await sql`CREATE TABLE attempts (
    fence bigint PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number integer NOT NULL,
    started_at timestamptz NOT NULL,
    powered_at timestamptz,
    served_at timestamptz,
    claimed_at timestamptz,
    session_hash bytea,
    ended_at timestamptz,
    outcome text,
    UNIQUE (job_id, number)
  )`.execute(db)
  await sql`CREATE TABLE phases (
    fence bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    phase text NOT NULL,
    at timestamptz NOT NULL,
    evidence jsonb NOT NULL,
    PRIMARY KEY (fence, phase)
  )`.execute(db)
  await sql`CREATE TABLE effects (
    fence bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    phase text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    tries integer NOT NULL DEFAULT 1,
    outcome jsonb,
    PRIMARY KEY (fence, phase)
  )`.execute(db)
  await sql`CREATE TABLE workers (
    id text PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    queue_ids text[] NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL
  )`.execute(db)
  await sql`CREATE TABLE boot_keys (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    key bytea NOT NULL
  )`.execute(db)
}
