/**
 * What DHCP clients are told beside their prefix's own settings, and by what else than its MAC a machine is known.
 *
 * A scope is the site (no id), a prefix, a profile or a machine; its options and loaders are merged, the narrower scope winning.
 */
import {type Kysely, sql} from 'kysely'

/** As in 0006, what dhcpd's snapshot shows and did not before. */
const HINTS: readonly (readonly [table: string, on: string, when?: string])[] = [
  ['dhcp_scopes', 'INSERT OR UPDATE OR DELETE'],
  ['client_keys', 'INSERT OR UPDATE OR DELETE'],
  ['machines', 'UPDATE OF dmi_uuid'],
  ['machine_states', 'UPDATE OF provisioned', 'OLD.provisioned IS DISTINCT FROM NEW.provisioned'],
]

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE dhcp_scopes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix_id uuid UNIQUE REFERENCES prefixes ON DELETE CASCADE,
    profile_id uuid UNIQUE REFERENCES profiles ON DELETE CASCADE,
    machine_id uuid UNIQUE REFERENCES machines ON DELETE CASCADE,
    options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    loaders jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(loaders) = 'object'),
    CONSTRAINT scope_is_one_thing CHECK (num_nonnulls(prefix_id, profile_id, machine_id) <= 1)
  )`.execute(db)
  await sql`CREATE UNIQUE INDEX one_scope_for_the_site ON dhcp_scopes ((true))
    WHERE prefix_id IS NULL AND profile_id IS NULL AND machine_id IS NULL`.execute(db)
  // A key names one machine; a machine may have several. Values are hexadecimal with colons, as the wire shows them.
  await sql`CREATE TABLE client_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('client_id', 'circuit_id')),
    value text NOT NULL CHECK (value ~ '^[0-9a-f]{2}(:[0-9a-f]{2})*$' AND length(value) < 768),
    relay inet,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT relay_of_a_circuit CHECK (kind = 'circuit_id' OR relay IS NULL)
  )`.execute(db)
  await sql`CREATE UNIQUE INDEX one_machine_per_client_key ON client_keys (kind, value, coalesce(relay, '0.0.0.0'))`.execute(db)
  await sql`CREATE INDEX client_keys_by_machine ON client_keys (machine_id)`.execute(db)
  for (const [index, [table, on, when]] of HINTS.entries()) {
    const each = when === undefined ? 'STATEMENT' : `ROW WHEN (${when})`
    await sql`CREATE TRIGGER ${sql.ref(`hint_dhcp_${index}`)} AFTER ${sql.raw(on)} ON ${sql.table(table)}
      FOR EACH ${sql.raw(each)} EXECUTE FUNCTION hint_snapshot()`.execute(db)
  }
}
