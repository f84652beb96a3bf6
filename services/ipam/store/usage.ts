/** SQL of reports: growth, biggest holders, conflicts, what is next. */
import {sql} from 'kysely'
import type {Db} from '../../../lib/db.ts'
import type {IpAddress} from '../integers.ts'
import type {Holder} from '../model.ts'

/**
 * Net growth a day over the last `days`, or since the prefix is there (a day at least): holdings begun less holdings ended. Of a container:
 * addresses of the prefixes carved and given back.
 */
export async function selectGrowth(db: Db, prefixIds: readonly string[], days: number, now: Date): Promise<Map<string, number>> {
  const {rows} = await sql<{prefix_id: string; per_day: number}>`
    WITH asked AS (
      SELECT id, vrf_id, cidr, status, greatest(created_at, ${now}::timestamptz - make_interval(days => ${days})) AS since
      FROM prefixes WHERE id = ANY(${prefixIds}::uuid[])),
    moved AS (
      SELECT p.id, (al.created_at >= p.since)::int - coalesce(al.freed_at >= p.since, false)::int AS by
      FROM asked p JOIN addresses a ON a.prefix_id = p.id JOIN allocations al ON al.address_id = a.id
      WHERE p.status <> 'container' AND (al.freed_at IS NULL OR al.freed_at >= p.since) AND al.created_at <= ${now}
      UNION ALL SELECT p.id, 2::float8 ^ ((CASE family(d.cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(d.cidr))
          * ((d.created_at >= p.since)::int - coalesce(d.freed_at >= p.since, false)::int)
      FROM asked p JOIN delegations d ON d.vrf_id = p.vrf_id AND d.cidr << p.cidr
      WHERE p.status = 'container' AND (d.freed_at IS NULL OR d.freed_at >= p.since))
    SELECT p.id AS prefix_id, sum(m.by) / greatest(1, extract(epoch FROM ${now}::timestamptz - p.since)::float8 / 86400) AS per_day
    FROM asked p JOIN moved m ON m.id = p.id GROUP BY p.id, p.since`.execute(db)
  return new Map(rows.map(row => [row.prefix_id, row.per_day]))
}

export type Biggest = {prefix_id: string; kind: Holder['kind']; name: string; addresses: number}

export async function selectBiggest(db: Db, prefixIds: readonly string[], limit: number): Promise<Biggest[]> {
  const {rows} = await sql<Biggest>`
    SELECT prefix_id, kind, name, addresses FROM (
      SELECT p.prefix_id, p.kind, p.name, p.addresses, row_number() OVER (PARTITION BY p.prefix_id ORDER BY p.addresses DESC, p.name) AS n
      FROM (
        SELECT a.prefix_id, al.holder_kind AS kind, al.holder AS name, count(*) AS addresses
        FROM addresses a JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL
        WHERE a.prefix_id = ANY(${prefixIds}::uuid[]) GROUP BY a.prefix_id, al.holder_kind, al.holder
        UNION ALL SELECT c.id, d.holder_kind, d.holder, sum(2::float8 ^ ((CASE family(d.cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(d.cidr)))
        FROM prefixes c JOIN delegations d ON d.vrf_id = c.vrf_id AND d.cidr << c.cidr AND d.freed_at IS NULL
        WHERE c.id = ANY(${prefixIds}::uuid[]) AND c.status = 'container' GROUP BY c.id, d.holder_kind, d.holder) p) ranked
    WHERE n <= ${limit} ORDER BY prefix_id, n`.execute(db)
  return rows
}

export async function selectConflicts(db: Db, prefixIds: readonly string[]): Promise<Map<string, number>> {
  const {rows} = await sql<{prefix_id: string; conflicts: number}>`
    SELECT prefix_id, count(*) AS conflicts FROM addresses
    WHERE prefix_id = ANY(${prefixIds}::uuid[]) AND conflict IS NOT NULL AND freed_at IS NOT NULL GROUP BY prefix_id`.execute(db)
  return new Map(rows.map(row => [row.prefix_id, row.conflicts]))
}

export type Probe = {id: number; address: IpAddress; cidr: string; conflict: string | null}

/**
 * Freed addresses that are to be looked at: once a minute after (so long a kernel may believe in who was there), once more before they have cooled down, and those at which something answered
 * until it does so no more.
 */
export async function selectToProbe(db: Db, now: Date, againS: number, limit: number): Promise<Probe[]> {
  const {rows} = await sql<Probe>`
    SELECT a.id, host(a.address) AS address, p.cidr::text AS cidr, a.conflict FROM addresses a JOIN prefixes p ON p.id = a.prefix_id
    JOIN vrfs v ON v.id = a.vrf_id AND v.name = 'default'
    WHERE a.cool_until IS NOT NULL AND CASE WHEN a.conflict IS NOT NULL THEN a.probed_at < ${now}::timestamptz - make_interval(secs => ${againS})
      ELSE a.freed_at <= ${now}::timestamptz - make_interval(secs => ${againS}) AND a.cool_until > ${now} AND (a.probed_at IS NULL OR (a.cool_until < ${now}::timestamptz + make_interval(secs => ${againS})
        AND a.probed_at < a.cool_until - make_interval(secs => ${againS}))) END
    ORDER BY a.cool_until LIMIT ${limit}`.execute(db)
  return rows
}

/** What was seen at addresses that nobody took meanwhile. */
export async function updateProbed(db: Db, seen: readonly {id: number; conflict: string | null}[], now: Date): Promise<void> {
  await sql`UPDATE addresses SET probed_at = ${now}, conflict = s.conflict
    FROM unnest(${seen.map(row => row.id)}::bigint[], ${seen.map(row => row.conflict)}::text[]) AS s (id, conflict)
    WHERE addresses.id = s.id AND addresses.freed_at IS NOT NULL`.execute(db)
}

export type Next = {address: IpAddress; freed_at: Date | null; cool_until: Date | null; conflict: string | null}

/** Addresses that would be given next, in order: never used, then longest freed. Looks only; nothing is kept. */
export async function selectNext(db: Db, prefixId: string, limit: number, now: Date): Promise<Next[]> {
  const {rows} = await sql<Next>`
    (SELECT host(s.address) AS address, NULL::timestamptz AS freed_at, NULL::timestamptz AS cool_until, NULL::text AS conflict
      FROM ranges r, LATERAL (
        SELECT n.address FROM (SELECT r.next_address + generate_series(0, LEAST(r.last_address - r.next_address, 1048576)) AS address) n
        WHERE NOT EXISTS (SELECT FROM addresses a JOIN prefixes p ON p.id = r.prefix_id AND p.vrf_id = a.vrf_id
          WHERE a.address = n.address OFFSET 0) LIMIT ${limit}) s
      WHERE r.prefix_id = ${prefixId} AND r.kind = 'static' AND r.next_address IS NOT NULL AND family(r.first_address) = 4
      ORDER BY s.address LIMIT ${limit})
    UNION ALL (SELECT host(s.address), NULL, NULL, NULL FROM ranges r, LATERAL (
        SELECT n.address FROM (SELECT r.next_address + generate_series(0, 1048576) AS address) n
        WHERE n.address <= r.last_address AND NOT EXISTS (SELECT FROM addresses a JOIN prefixes p ON p.id = r.prefix_id AND p.vrf_id = a.vrf_id
          WHERE a.address = n.address OFFSET 0) LIMIT ${limit}) s
      WHERE r.prefix_id = ${prefixId} AND r.kind = 'static' AND r.next_address IS NOT NULL AND family(r.first_address) = 6
      ORDER BY s.address LIMIT ${limit})
    UNION ALL (SELECT host(a.address), a.freed_at, a.cool_until, a.conflict FROM addresses a JOIN ranges r ON r.prefix_id = a.prefix_id
        AND r.kind = 'static' AND a.address BETWEEN r.first_address AND r.last_address
      WHERE a.prefix_id = ${prefixId} AND a.freed_at IS NOT NULL
      ORDER BY (a.cool_until > ${now} OR a.conflict IS NOT NULL), a.freed_at, a.address LIMIT ${limit})`.execute(db)
  return rows.slice(0, limit)
}
