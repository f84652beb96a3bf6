/** Profiles may ask for networks of a machine's own: a /31 and a /127 with the gateway on the switch. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE profiles ADD links jsonb NOT NULL DEFAULT '[]'`.execute(db)
}
