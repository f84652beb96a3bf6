/** SQL of asking: where an address may come from, pools, tenants with their grants and quotas, holds. */
import {type RawBuilder, sql} from 'kysely'
import type {Cidr} from '../../../lib/addresses.ts'
import type {Db, Tx} from '../../../lib/db.ts'
import type {Pool, Quota, Tenant, TenantUse} from '../model.ts'

export type Candidate = {id: string; cidr: Cidr; vrf: string; role: string | null; tenant: string | null; status: string}

export type Wish = {
  readonly prefixIds?: readonly string[]
  readonly pool?: string
  readonly role?: string
  readonly site?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly family?: 4 | 6
  readonly vrf?: string
}

/** Prefixes that answer a wish, in the order in which they are to be spent. */
export async function selectCandidates(tx: Db, wish: Wish): Promise<Candidate[]> {
  const parts: (RawBuilder<unknown> | undefined)[] = [
    wish.prefixIds === undefined ? undefined : sql`p.id = ANY(${wish.prefixIds}::uuid[])`,
    wish.pool === undefined ? undefined : sql`m.pool_id IS NOT NULL`,
    wish.role === undefined ? undefined : sql`p.role = ${wish.role}`,
    wish.site === undefined ? undefined : sql`p.site = ${wish.site}`,
    wish.labels === undefined ? undefined : sql`p.labels @> ${JSON.stringify(wish.labels)}::jsonb`,
    wish.family === undefined ? undefined : sql`family(p.cidr) = ${wish.family}`,
    wish.vrf === undefined ? undefined : sql`v.name = ${wish.vrf}`,
  ]
  const {rows} = await sql<Candidate>`
    SELECT p.id, p.cidr::text AS cidr, v.name AS vrf, p.role, p.tenant, p.status
    FROM prefixes p JOIN vrfs v ON v.id = p.vrf_id
    LEFT JOIN prefix_pool_members m ON m.prefix_id = p.id AND m.pool_id = (SELECT id FROM prefix_pools WHERE name = ${wish.pool ?? null})
    WHERE ${sql.join([sql`true`, ...parts.filter(part => part !== undefined)], sql` AND `)}
    ORDER BY m.place, v.name, p.cidr LIMIT 1000`.execute(tx)
  return rows
}

// Pools

export async function selectPools(db: Db, name?: string): Promise<Pool[]> {
  const {rows} = await sql<Pool>`
    SELECT o.name, o.description, o.created_at, coalesce((
      SELECT json_agg(json_build_object('id', p.id, 'cidr', p.cidr::text, 'vrf', v.name) ORDER BY m.place)
      FROM prefix_pool_members m JOIN prefixes p ON p.id = m.prefix_id JOIN vrfs v ON v.id = p.vrf_id WHERE m.pool_id = o.id), '[]') AS prefixes
    FROM prefix_pools o WHERE ${name ?? null}::text IS NULL OR o.name = ${name ?? null} ORDER BY o.name`.execute(db)
  return rows
}

export async function upsertPool(
  tx: Tx,
  name: string,
  description: string,
  prefixIds: readonly string[],
  now: Date,
): Promise<void> {
  const {rows} = await sql<{
    id: string
  }>`INSERT INTO prefix_pools (name, description, created_at) VALUES (${name}, ${description}, ${now})
    ON CONFLICT (name) DO UPDATE SET description = excluded.description RETURNING id`.execute(tx)
  const id = rows[0]?.id
  await sql`DELETE FROM prefix_pool_members WHERE pool_id = ${id}`.execute(tx)
  await sql`INSERT INTO prefix_pool_members (pool_id, prefix_id, place)
    SELECT ${id}, prefix_id, place FROM unnest(${prefixIds}::uuid[]) WITH ORDINALITY AS m (prefix_id, place)`.execute(tx)
}

export async function deletePool(tx: Db, name: string): Promise<boolean> {
  const {rows} = await sql`DELETE FROM prefix_pools WHERE name = ${name} RETURNING 1`.execute(tx)
  return rows.length > 0
}

// Tenants

export async function selectTenants(db: Db, name?: string): Promise<Tenant[]> {
  const {rows} = await sql<Tenant>`
    SELECT t.name, t.description, t.created_at,
      coalesce((SELECT json_agg(p.cidr::text ORDER BY p.cidr) FROM tenant_grants g JOIN prefixes p ON p.id = g.prefix_id
        WHERE g.tenant = t.name), '[]') AS prefixes,
      coalesce((SELECT json_agg(o.name ORDER BY o.name) FROM tenant_grants g JOIN prefix_pools o ON o.id = g.pool_id
        WHERE g.tenant = t.name), '[]') AS pools,
      coalesce((SELECT json_agg(json_build_object('family', q.family, 'role', q.role, 'at_most', q.at_most) ORDER BY q.family, q.role)
        FROM tenant_quotas q WHERE q.tenant = t.name), '[]') AS quotas
    FROM tenants t WHERE ${name ?? null}::text IS NULL OR t.name = ${name ?? null} ORDER BY t.name`.execute(db)
  return rows
}

export async function upsertTenant(tx: Tx, name: string, description: string, now: Date): Promise<void> {
  await sql`INSERT INTO tenants (name, description, created_at) VALUES (${name}, ${description}, ${now})
    ON CONFLICT (name) DO UPDATE SET description = excluded.description`.execute(tx)
}

export async function replaceGrants(
  tx: Tx,
  tenant: string,
  prefixIds: readonly string[],
  pools: readonly string[],
): Promise<void> {
  await sql`DELETE FROM tenant_grants WHERE tenant = ${tenant}`.execute(tx)
  await sql`INSERT INTO tenant_grants (tenant, prefix_id) SELECT ${tenant}, unnest(${prefixIds}::uuid[])`.execute(tx)
  await sql`INSERT INTO tenant_grants (tenant, pool_id) SELECT ${tenant}, id FROM prefix_pools WHERE name = ANY(${pools}::text[])`.execute(
    tx,
  )
}

export async function replaceQuotas(tx: Tx, tenant: string, quotas: readonly Quota[]): Promise<void> {
  await sql`DELETE FROM tenant_quotas WHERE tenant = ${tenant}`.execute(tx)
  await sql`INSERT INTO tenant_quotas (tenant, family, role, at_most) SELECT ${tenant}, * FROM unnest(
    ${quotas.map(quota => quota.family)}::int[], ${quotas.map(quota => quota.role)}::text[],
    ${quotas.map(quota => quota.at_most)}::bigint[])`.execute(tx)
}

export async function deleteTenant(tx: Db, name: string): Promise<boolean> {
  const {rows} = await sql`DELETE FROM tenants WHERE name = ${name} RETURNING 1`.execute(tx)
  return rows.length > 0
}

/** Whoever spends for a tenant waits here for whoever does so already: a quota is counted by one at a time. */
export async function lockTenant(tx: Tx, name: string): Promise<boolean> {
  const {rows} = await sql`SELECT FROM tenants WHERE name = ${name} FOR UPDATE`.execute(tx)
  return rows.length > 0
}

/** Which of these prefixes a tenant may spend: its own, those granted to it, and what lies in a container granted to it. */
export async function selectGranted(db: Db, tenant: string, prefixIds: readonly string[] | null): Promise<string[]> {
  const {rows} = await sql<{id: string}>`
    SELECT p.id FROM prefixes p WHERE (${prefixIds}::uuid[] IS NULL OR p.id = ANY(${prefixIds}::uuid[])) AND (p.tenant = ${tenant}
      OR EXISTS (SELECT FROM tenant_grants g LEFT JOIN prefix_pool_members m ON m.pool_id = g.pool_id
        JOIN prefixes c ON c.id = coalesce(g.prefix_id, m.prefix_id)
        WHERE g.tenant = ${tenant} AND c.vrf_id = p.vrf_id AND c.cidr >>= p.cidr))`.execute(db)
  return rows.map(row => row.id)
}

export async function selectGrantedDirectly(db: Db, tenant: string): Promise<string[]> {
  const {rows} = await sql<{prefix_id: string}>`
    SELECT prefix_id FROM tenant_grants WHERE tenant = ${tenant} AND prefix_id IS NOT NULL`.execute(db)
  return rows.map(row => row.prefix_id)
}

/** What a tenant holds by family and role. */
export async function selectTenantUse(db: Db, tenant: string): Promise<TenantUse[]> {
  const {rows} = await sql<TenantUse>`
    SELECT family, role, sum(used) AS used FROM (
      SELECT family(a.address) AS family, p.role, 1::float8 AS used FROM allocations al JOIN addresses a ON a.id = al.address_id
        JOIN prefixes p ON p.id = a.prefix_id WHERE al.tenant = ${tenant} AND al.freed_at IS NULL
      UNION ALL SELECT family(d.cidr), d.role, CASE family(d.cidr) WHEN 4 THEN 2::float8 ^ (32 - masklen(d.cidr)) ELSE 1 END
        FROM delegations d WHERE d.tenant = ${tenant} AND d.freed_at IS NULL) u
    GROUP BY family, role ORDER BY family, role`.execute(db)
  return rows
}

/** Who holds most for a tenant. */
export async function selectTenantHolders(
  db: Db,
  tenant: string,
  limit: number,
): Promise<{holder_kind: 'machine' | 'service' | 'person' | 'range'; holder: string; addresses: number}[]> {
  const {rows} = await sql<{holder_kind: 'machine' | 'service' | 'person' | 'range'; holder: string; addresses: number}>`
    SELECT holder_kind, holder, sum(used) AS addresses FROM (
      SELECT holder_kind, holder, 1 AS used FROM allocations WHERE tenant = ${tenant} AND freed_at IS NULL
      UNION ALL SELECT holder_kind, holder, 1 FROM delegations WHERE tenant = ${tenant} AND freed_at IS NULL) u
    GROUP BY holder_kind, holder ORDER BY sum(used) DESC, holder LIMIT ${limit}`.execute(db)
  return rows
}

// Holds

/** Ends a hold, or prolongs it. @returns whether it was live, and not over by `now` */
export async function updateExpiry(tx: Tx, id: string, until: Date | null, now: Date): Promise<boolean> {
  const {rows} = await sql`UPDATE allocations SET expires_at = ${until}::timestamptz
    WHERE id = ${id} AND freed_at IS NULL AND (expires_at IS NULL OR expires_at > ${now}) RETURNING 1`.execute(tx)
  return rows.length > 0
}

/** Holds that are over, locked; one that is being confirmed at this moment is left to the next look. */
export async function lockLapsed(tx: Tx, now: Date): Promise<string[]> {
  const {rows} = await sql<{id: string}>`SELECT id FROM allocations WHERE freed_at IS NULL AND expires_at <= ${now}
    ORDER BY address_id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED`.execute(tx)
  return rows.map(row => row.id)
}
