/** How long phases took, by hardware model: what deadlines are learned from. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE phase_times (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    phase text NOT NULL,
    seconds double precision NOT NULL CHECK (seconds >= 0),
    at timestamptz NOT NULL
  )`.execute(db)
  await sql`CREATE INDEX phase_times_by_model ON phase_times (model, phase, id DESC)`.execute(db)
}
