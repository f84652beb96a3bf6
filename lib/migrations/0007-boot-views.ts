/** What boot may see of lifecycle and inventory: one row a MAC, and the windows, open and closed. Views, so that boot owns no table of theirs. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE VIEW boot_machines AS
    SELECT i.mac, m.id AS machine_id, m.name, s.state, s.quarantined,
      j.id AS job_id, j.kind AS job_kind, j.fence, j.cancel_requested, j.plan,
      a.number AS attempt, a.powered_at, a.served_at, a.claimed_at
    FROM interfaces i
    JOIN machines m ON m.id = i.machine_id
    JOIN machine_states s ON s.machine_id = m.id
    LEFT JOIN jobs j ON j.machine_id = m.id AND j.state IN ('queued', 'working', 'waiting')
    LEFT JOIN attempts a ON a.fence = j.fence AND a.ended_at IS NULL
    WHERE i.kind = 'host'`.execute(db)
  await sql`CREATE VIEW boot_windows AS
    SELECT w.id, w.prefix_id, w.until, w.closed_at, w.bmc_username IS NOT NULL AS has_bmc_credentials, p.cidr, p.boot_url
    FROM windows w JOIN prefixes p ON p.id = w.prefix_id`.execute(db)
}
