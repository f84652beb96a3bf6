/** Lifecycle: when a machine's power was last looked at unasked, and since when it is not as it should be. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE machine_states ADD COLUMN power_asked_at timestamptz, ADD COLUMN power_drift_since timestamptz`.execute(
    db,
  )
  await sql`CREATE INDEX machine_states_by_power_asked ON machine_states (power_asked_at NULLS FIRST)`.execute(db)
}
