/**
 * SQL of the two binds that nearly every REQUEST ends in, each one statement for a whole batch, planned once (`prepared`). What they leave
 * out is for the careful way, `upsertLeases` in store.ts.
 *
 * Their plans must be right before there are statistics, for a pool fills in minutes. So wire's connections look rows up by index
 * whatever the planner thinks of it (`prefersIndexes`), the prefix is compared by IS NOT DISTINCT FROM lest its own index be taken, and
 * what would be taken for one row (a prefix, a range) is asked in the select list, so that a batch is joined as the hundreds of rows
 * that it is. 200 renewals with 8 200 leases and no statistics took 94 ms before and take 3 ms; 200 new leases 86 and 40.
 */
import {type RawBuilder, sql} from 'kysely'
import {type Db, prepared} from '../../../lib/db.ts'
import type {BindRow} from '../store.ts'

/** Of a lease that more than one process bound. */
const SHARED = '00000000-0000-0000-0000-000000000000'

/** @returns positions of the renewed ones, from 1 */
export async function renewLeases(db: Db, requests: readonly BindRow[], by: string | null, now: Date): Promise<number[]> {
  const {rows} = await sql<{n: number}>`
    ${prepared('ipam_renew_leases')} UPDATE leases l SET expires_at = ${now}::timestamptz + make_interval(secs => w.lease_s),
      updated_at = ${now}::timestamptz, client_id = decode(w.client_id, 'hex'),
      bound_by = CASE WHEN l.bound_by = ${by}::uuid THEN l.bound_by ELSE ${sql.lit(SHARED)}::uuid END
    FROM ${requested(requests)} JOIN addresses a ON a.address = w.address AND a.prefix_id IS NOT DISTINCT FROM w.prefix_id
    WHERE l.address_id = a.id AND l.mac = w.mac AND l.machine_id IS NOT DISTINCT FROM w.machine_id
      AND l.state = 'bound'
      AND l.expires_at > ${now}::timestamptz
    RETURNING w.n`.execute(db)
  return rows.map(row => row.n)
}

/**
 * Takes free addresses of dynamic ranges for clients that were offered them, and binds them. Free is: nobody holds it, and it has cooled
 * down or was this client's before. Of two clients with one address, one.
 * @returns positions of the bound ones, from 1
 */
export async function bindFree(
  db: Db,
  requests: readonly BindRow[],
  by: string | null,
  actor: string,
  now: Date,
): Promise<number[]> {
  const {rows} = await sql<{n: number}>`
    ${prepared('ipam_bind_free')} WITH asked AS MATERIALIZED (
      SELECT w.*, (SELECT p.vrf_id FROM prefixes p WHERE p.id = w.prefix_id AND p.status = 'active' AND NOT p.anycast) AS vrf_id,
        EXISTS (SELECT FROM ranges r WHERE r.prefix_id = w.prefix_id AND r.kind = 'dynamic'
          AND w.address BETWEEN r.first_address AND r.last_address) AS is_dynamic
      FROM ${requested(requests)}),
    wanted AS MATERIALIZED (
      SELECT w.*, a.id AS address_id, a.freed_at,
        EXISTS (SELECT FROM leases l WHERE l.address_id = a.id AND l.mac = w.mac AND l.state <> 'declined') AS was_its
      FROM asked w LEFT JOIN addresses a ON a.address = w.address AND a.vrf_id = w.vrf_id
      WHERE w.vrf_id IS NOT NULL AND w.is_dynamic),
    warmed AS (
      UPDATE addresses a SET freed_at = NULL, cool_until = NULL FROM wanted
      WHERE a.id = wanted.address_id AND a.prefix_id = wanted.prefix_id AND a.freed_at IS NOT NULL AND a.conflict IS NULL
        AND (a.cool_until <= ${now}::timestamptz OR wanted.was_its)
      RETURNING a.id AS address_id, wanted.n),
    made AS (
      INSERT INTO addresses (vrf_id, prefix_id, address)
      SELECT DISTINCT vrf_id, prefix_id, address FROM wanted WHERE address_id IS NULL ON CONFLICT DO NOTHING
      RETURNING id AS address_id, address, vrf_id),
    taken AS (
      SELECT address_id, n FROM warmed
      UNION ALL SELECT made.address_id, min(wanted.n) FROM made
        JOIN wanted ON wanted.address = made.address AND wanted.vrf_id = made.vrf_id GROUP BY made.address_id),
    spots AS MATERIALIZED (
      SELECT taken.address_id, wanted.n, wanted.mac, wanted.client_id, wanted.lease_s, wanted.freed_at
      FROM taken JOIN wanted ON wanted.n = taken.n),
    held AS (
      INSERT INTO allocations (address_id, holder_kind, holder, purpose, reason, created_by, created_at)
      SELECT address_id, 'range', mac::text, 'dynamic', 'dynamic lease of ' || mac, ${actor}::text,
        greatest(${now}::timestamptz, freed_at)
      FROM spots ON CONFLICT (address_id) WHERE freed_at IS NULL AND NOT anycast DO NOTHING RETURNING address_id),
    bound AS (
      INSERT INTO leases (address_id, mac, client_id, state, starts_at, expires_at, updated_at, bound_by)
      SELECT address_id, mac, decode(client_id, 'hex'), 'bound', ${now}::timestamptz,
        ${now}::timestamptz + make_interval(secs => lease_s), ${now}::timestamptz, ${by}::uuid
      FROM spots JOIN held USING (address_id)
      ON CONFLICT (address_id) DO UPDATE SET mac = excluded.mac, client_id = excluded.client_id, machine_id = NULL, state = 'bound',
        starts_at = excluded.starts_at, expires_at = excluded.expires_at, updated_at = excluded.updated_at,
        bound_by = excluded.bound_by
      RETURNING address_id)
    SELECT spots.n FROM spots JOIN bound USING (address_id)`.execute(db)
  return rows.map(row => row.n)
}

function requested(requests: readonly BindRow[]): RawBuilder<unknown> {
  return sql`unnest(${requests.map(request => request.mac)}::macaddr[], ${requests.map(request => request.clientId)}::text[],
    ${requests.map(request => request.address)}::inet[], ${requests.map(request => request.prefixId)}::uuid[],
    ${requests.map(request => request.machineId)}::uuid[], ${requests.map(request => request.leaseS)}::float8[])
    WITH ORDINALITY AS w (mac, client_id, address, prefix_id, machine_id, lease_s, n)`
}
