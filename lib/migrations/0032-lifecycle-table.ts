/** The whole lifecycle: jobs that test, service and rescue; jobs held at a step; reservations; burn-in results as facts. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check`.execute(db)
  await sql`ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check
    CHECK (kind IN ('inspect', 'test', 'clean', 'provision', 'deprovision', 'service', 'rescue', 'power'))`.execute(db)
  await sql`ALTER TABLE jobs ADD COLUMN hold_at text, ADD COLUMN hold_s integer, ADD COLUMN held_at timestamptz,
    ADD COLUMN remaining_s integer`.execute(db)
  await sql`ALTER TABLE machine_states ADD COLUMN reserved_for text, ADD COLUMN reserved_until timestamptz`.execute(db)
  await sql`CREATE INDEX machine_states_by_reservation ON machine_states (reserved_until) WHERE state = 'reserved'`.execute(db)
  await sql`ALTER TABLE facts DROP CONSTRAINT facts_source_check`.execute(db)
  await sql`ALTER TABLE facts ADD CONSTRAINT facts_source_check CHECK (source IN ('inspection', 'first_boot', 'test'))`.execute(
    db,
  )
  await sql`CREATE OR REPLACE VIEW boot_machines AS
    SELECT i.mac, m.id AS machine_id, m.name, s.state, s.quarantined,
      j.id AS job_id, j.kind AS job_kind, j.fence, j.cancel_requested, j.plan,
      a.number AS attempt, a.powered_at, a.served_at, a.claimed_at, j.phase
    FROM interfaces i
    JOIN machines m ON m.id = i.machine_id
    JOIN machine_states s ON s.machine_id = m.id
    LEFT JOIN jobs j ON j.machine_id = m.id AND j.state IN ('queued', 'working', 'waiting')
    LEFT JOIN attempts a ON a.fence = j.fence AND a.ended_at IS NULL
    WHERE i.kind = 'host'`.execute(db)
}
