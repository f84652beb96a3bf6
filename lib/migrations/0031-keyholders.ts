/** Which processes hold which sealing keys, by the keys' names: a rotation waits for all of them. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE keyholders (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    key_ids text[] NOT NULL,
    primary_id text NOT NULL,
    beat_at timestamptz NOT NULL
  )`.execute(db)
}
