/**
 * Every SQL statement of ipam.
 *
 * Invariant: a row of `addresses` has `freed_at` NULL exactly while one live allocation points at it.
 *
 * Locks, always in this order: the ranges of a prefix (whoever takes an address), allocations (whoever binds, frees or hands over),
 * leases, addresses; within a table by id. A statement that must see what a lock waited for comes after it, as a statement of its own:
 * under READ COMMITTED each statement looks anew.
 */
import {randomUUID} from 'node:crypto'
import {type RawBuilder, sql} from 'kysely'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {type Db, type Tx, withTx} from '../../lib/db.ts'
import {addressToInt, type IpAddress, parseAddress} from './integers.ts'
import type {Allocation, Holder, Lease, PastAllocation, Prefix, PrefixFilter, Purpose, Range, Reservation} from './model.ts'
import type {CheckedNaming, CheckedPrefix, CheckedRange, CheckedSettings, RangeKind} from './prefix-input.ts'

/** Runs `work` in the transaction it was given, or in one of its own. */
export function inTx<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  return db.isTransaction ? work(db as Tx) : withTx(db, work)
}

export function inOneLook<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  return db.transaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute(work)
}

/** @returns how to undo everything since; locks taken since are given back with it */
export async function markSavepoint(tx: Tx): Promise<() => Promise<void>> {
  const name = sql.id(`ipam_${randomUUID()}`)
  await sql`SAVEPOINT ${name}`.execute(tx)
  return async () => {
    await sql`ROLLBACK TO SAVEPOINT ${name}`.execute(tx)
  }
}

// Prefixes and ranges

const PREFIX_COLUMNS = sql`p.id, v.name AS vrf, p.cidr::text AS cidr, p.status, p.kind, p.role, p.site, p.tenant, p.gateway, p.dns,
  p.boot_url, p.lease_s, p.dhcp, p.bootp, p.router_advertisement, p.relays, p.cool_down_s, p.created_at, p.description, p.labels, p.anycast,
  (SELECT c.cidr::text FROM prefixes c WHERE c.vrf_id = p.vrf_id AND c.status = 'container' AND c.cidr >> p.cidr
    ORDER BY masklen(c.cidr) DESC LIMIT 1) AS parent`

export async function selectPrefixes(
  db: Db,
  where: RawBuilder<unknown> = sql`true`,
  limit: number | null = null,
): Promise<Prefix[]> {
  const {rows} = await sql<Prefix>`
    SELECT ${PREFIX_COLUMNS}, (
      SELECT coalesce(json_agg(json_build_object('id', r.id, 'kind', r.kind, 'first', host(r.first_address), 'last', host(r.last_address))
        ORDER BY r.first_address), '[]') FROM ranges r WHERE r.prefix_id = p.id) AS ranges
    FROM prefixes p JOIN vrfs v ON v.id = p.vrf_id WHERE ${where} ORDER BY v.name, p.cidr LIMIT ${limit}`.execute(db)
  return rows
}

export function whereFilter(filter: PrefixFilter): RawBuilder<unknown> {
  const [vrf = '', cidr = ''] = filter.after?.split(' ') ?? []
  const parts = [
    filter.vrf === undefined ? undefined : sql`p.vrf_id = ${vrfId(filter.vrf)}`,
    filter.within === undefined ? undefined : sql`p.cidr <<= ${filter.within}::cidr`,
    filter.role === undefined ? undefined : sql`p.role = ${filter.role}`,
    filter.site === undefined ? undefined : sql`p.site = ${filter.site}`,
    filter.tenant === undefined ? undefined : sql`p.tenant = ${filter.tenant}`,
    filter.status === undefined ? undefined : sql`p.status = ${filter.status}`,
    filter.labels === undefined ? undefined : sql`p.labels @> ${JSON.stringify(filter.labels)}::jsonb`,
    filter.ids === undefined ? undefined : sql`p.id = ANY(${filter.ids}::uuid[])`,
    filter.after === undefined ? undefined : sql`(v.name, p.cidr) > (${vrf}, ${cidr}::cidr)`,
  ]
  return sql.join([sql`true`, ...parts.filter(part => part !== undefined)], sql` AND `)
}

export const whereId = (id: string) => sql`p.id = ${id}`
export const whereCidr = (cidr: Cidr, vrf: string) => sql`p.cidr = ${cidr}::cidr AND v.name = ${vrf}`
/** Those that DHCP serves; what machines of layer 3 were given whole is configured statically and would only fill the snapshot. */
export const whereHandsOutIpv4 = sql`family(p.cidr) = 4 AND p.status = 'active' AND p.dhcp <> 'off'`
/** The VRF as a subquery: with its id as a constant the search goes by one index. */
const vrfId = (name: string) => sql`(SELECT id FROM vrfs WHERE name = ${name})`
export const whereContains = (address: IpAddress, vrf: string) =>
  sql`p.vrf_id = ${vrfId(vrf)} AND p.cidr >>= ${address}::inet AND p.status <> 'container'`
/** What the constraints of `prefixes` refuse to stand beside a new one. */
export const whereOverlaps = (cidr: Cidr, status: string, vrf: string) => sql`p.vrf_id = ${vrfId(vrf)} AND (p.cidr = ${cidr}::cidr
  OR (p.status <> 'container' AND ${status} <> 'container' AND p.cidr && ${cidr}::cidr))`

/** @returns its id; undefined when a constraint (the same network, an overlap) refuses it, with the transaction still usable */
export async function insertPrefix(tx: Tx, prefix: CheckedPrefix, now: Date): Promise<string | undefined> {
  const {rows} = await sql<{id: string}>`
    INSERT INTO prefixes (vrf_id, cidr, status, kind, role, site, tenant, gateway, dns, boot_url, lease_s, dhcp, bootp, router_advertisement,
      relays, cool_down_s, created_at, description, labels, anycast)
    SELECT v.id, ${prefix.cidr}::cidr, ${prefix.status}, ${prefix.kind}, ${prefix.role}, ${prefix.site}, ${prefix.tenant},
      ${prefix.gateway}::inet, ${prefix.dns}::inet[], ${prefix.boot_url}, ${prefix.lease_s}, ${prefix.dhcp}, ${prefix.bootp},
      ${prefix.router_advertisement}, ${prefix.relays}::inet[], ${prefix.cool_down_s}, ${now}::timestamptz, ${prefix.description},
      ${JSON.stringify(prefix.labels)}::jsonb, ${prefix.anycast}
    FROM vrfs v WHERE v.name = ${prefix.vrf}
    ON CONFLICT DO NOTHING RETURNING id`.execute(tx)
  return rows[0]?.id
}

export async function insertRanges(tx: Tx, prefixId: string, ranges: readonly CheckedRange[]): Promise<void> {
  await sql`INSERT INTO ranges (prefix_id, kind, first_address, last_address, next_address)
    SELECT ${prefixId}, kind, first, last, first FROM unnest(${ranges.map(range => range.kind)}::text[],
      ${ranges.map(range => range.first)}::inet[], ${ranges.map(range => range.last)}::inet[]) AS r (kind, first, last)`.execute(
    tx,
  )
}

export async function updateSettings(tx: Tx, prefixId: string, settings: CheckedSettings): Promise<void> {
  await sql`UPDATE prefixes SET gateway = ${settings.gateway}::inet, dns = ${settings.dns}::inet[], boot_url = ${settings.boot_url},
    lease_s = ${settings.lease_s}, dhcp = ${settings.dhcp}, bootp = ${settings.bootp}, router_advertisement = ${settings.router_advertisement},
    relays = ${settings.relays}::inet[] WHERE id = ${prefixId}`.execute(tx)
}

export async function updateNaming(tx: Tx, prefixId: string, naming: CheckedNaming): Promise<void> {
  await sql`UPDATE prefixes SET status = ${naming.status}, role = ${naming.role}, site = ${naming.site}, tenant = ${naming.tenant},
    labels = ${JSON.stringify(naming.labels)}::jsonb, description = ${naming.description} WHERE id = ${prefixId}`.execute(tx)
}

/** For the moment in which ranges move around it. */
export async function clearGateway(tx: Tx, prefixId: string): Promise<void> {
  await sql`UPDATE prefixes SET gateway = NULL WHERE id = ${prefixId} AND gateway IS NOT NULL`.execute(tx)
}

export async function deleteRanges(tx: Tx, ids: readonly string[]): Promise<void> {
  await sql`DELETE FROM ranges WHERE id = ANY(${ids}::uuid[])`.execute(tx)
}

/** Its mark stays where it was; a range that grew at its beginning is looked through again. */
export async function updateRange(tx: Tx, id: string, first: IpAddress, last: IpAddress): Promise<void> {
  await sql`UPDATE ranges SET first_address = ${first}::inet, last_address = ${last}::inet, next_address = CASE
      WHEN ${first}::inet < first_address THEN ${first}::inet
      WHEN next_address IS NULL THEN CASE WHEN ${last}::inet > last_address THEN greatest(last_address + 1, ${first}::inet) END
      WHEN greatest(next_address, ${first}::inet) <= ${last}::inet THEN greatest(next_address, ${first}::inet) END
    WHERE id = ${id}`.execute(tx)
}

export type Usage = {prefix_id: string; kind: RangeKind; held: number; cooling: number; free_at: Date | null}

/** How many addresses of each kind of range are held or cooling, and when the first cooling one is free. */
export async function selectUsage(db: Db, prefixIds: readonly string[], now: Date): Promise<Usage[]> {
  const {rows} = await sql<Usage>`
    SELECT r.prefix_id, r.kind, count(*) FILTER (WHERE a.freed_at IS NULL) AS held,
      count(*) FILTER (WHERE a.cool_until > ${now}) AS cooling, min(a.cool_until) FILTER (WHERE a.cool_until > ${now}) AS free_at
    FROM ranges r JOIN addresses a ON a.prefix_id = r.prefix_id AND a.address BETWEEN r.first_address AND r.last_address
    WHERE r.prefix_id = ANY(${prefixIds}::uuid[]) GROUP BY r.prefix_id, r.kind`.execute(db)
  return rows
}

export type HolderCount = {holder_kind: Holder['kind']; holder: string; addresses: number}

export async function selectBiggestHolders(db: Db, prefixId: string, kind: RangeKind, limit: number): Promise<HolderCount[]> {
  const {rows} = await sql<HolderCount>`
    SELECT al.holder_kind, al.holder, count(*) AS addresses
    FROM ranges r JOIN addresses a ON a.prefix_id = r.prefix_id AND a.address BETWEEN r.first_address AND r.last_address
    JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL
    WHERE r.prefix_id = ${prefixId} AND r.kind = ${kind}
    GROUP BY al.holder_kind, al.holder ORDER BY count(*) DESC, al.holder LIMIT ${limit}`.execute(db)
  return rows
}

// Taking addresses

export type LockedRange = Range & {readonly next: IpAddress | null}
/** A prefix whose ranges are ours until the transaction ends; lowest first. */
export type LockedPrefix = Prefix & {readonly ranges: readonly LockedRange[]}

/**
 * Whoever takes addresses of a prefix waits here for whoever does so already: nobody sees a "full" that is none. The row locks keep the
 * promise; the advisory lock before them makes the waiters a queue, where row locks alone let them race anew at each commit.
 */
export async function lockPrefix(tx: Tx, prefixId: string): Promise<LockedPrefix | undefined> {
  const {rows} = await sql<
    Prefix & {range: {id: string; kind: RangeKind; first: IpAddress; last: IpAddress; next: IpAddress | null}}
  >`
    WITH queue AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended('ipam ' || ${prefixId}, 0)))
    SELECT ${PREFIX_COLUMNS}, json_build_object('id', r.id, 'kind', r.kind, 'first', host(r.first_address), 'last', host(r.last_address),
      'next', host(r.next_address)) AS range
    FROM queue CROSS JOIN ranges r JOIN prefixes p ON p.id = r.prefix_id JOIN vrfs v ON v.id = p.vrf_id
    WHERE r.prefix_id = ${prefixId} ORDER BY r.id FOR UPDATE OF r`.execute(tx)
  const [first] = rows
  if (!first) {
    const [prefix] = await selectPrefixes(tx, whereId(prefixId))
    return prefix && {...prefix, ranges: []}
  }
  const {range: _, ...prefix} = first
  const ranges = rows.map(row => row.range).toSorted((a, b) => (addressToInt(a.first) < addressToInt(b.first) ? -1 : 1))
  return {...prefix, ranges}
}

/** A holding about to begin. */
export type Wanted = {
  readonly holder: Holder
  readonly purpose: Purpose
  readonly reason: string
  readonly clientKey: string | null
  readonly interface?: string | null
  readonly tenant?: string | null
  readonly expiresAt?: Date | null
}

export type Taken = {readonly id: string; readonly address: IpAddress; readonly created_at: Date}

const INTO_ALLOCATIONS = sql`INSERT INTO allocations
  (id, address_id, holder_kind, machine_id, holder, purpose, reason, client_key, interface, tenant, expires_at, anycast, created_by,
    created_at)`

/** Their columns for the n-th row of a query that counts `n` from 1. Arrays, not a join: the cost of a join would grow with its square. */
function columnsOf(
  ids: readonly string[],
  wanted: readonly Wanted[],
  addressId: RawBuilder<unknown>,
  anycast: RawBuilder<unknown> = sql`false`,
): RawBuilder<unknown> {
  const machineIds = wanted.map(want => (want.holder.kind === 'machine' ? want.holder.machineId : null))
  return sql`(${ids}::uuid[])[n], ${addressId}, (${wanted.map(want => want.holder.kind)}::text[])[n], (${machineIds}::uuid[])[n],
    (${wanted.map(want => want.holder.name)}::text[])[n], (${wanted.map(want => want.purpose)}::text[])[n],
    (${wanted.map(want => want.reason)}::text[])[n], (${wanted.map(want => want.clientKey)}::text[])[n],
    (${wanted.map(want => want.interface ?? null)}::text[])[n], (${wanted.map(want => want.tenant ?? null)}::text[])[n],
    (${wanted.map(want => want.expiresAt ?? null)}::timestamptz[])[n], ${anycast}`
}

/**
 * Takes the lowest addresses of a locked range that never had a holder, one for each of `wanted` while there are any.
 * @param span how far `next` is from the end of the range. The series is lazy and OFFSET 0 keeps the lookup an index probe for each
 *             address, so the cost follows what is taken and not what is there.
 */
export async function takeUnused(
  tx: Tx,
  {id: prefixId, anycast}: Pick<Prefix, 'id' | 'anycast'>,
  range: LockedRange,
  span: number,
  wanted: readonly Wanted[],
  actor: string,
  now: Date,
): Promise<Taken[]> {
  const ids = wanted.map(() => randomUUID())
  const {rows} = await sql<{address: IpAddress}>`
    WITH spots AS (
      SELECT s.address, s.vrf_id FROM (
        SELECT ${range.next}::inet + generate_series(0, ${span}::bigint) AS address, (SELECT vrf_id FROM prefixes WHERE id = ${prefixId})
          AS vrf_id) s
      WHERE NOT EXISTS (SELECT FROM addresses a WHERE a.address = s.address AND a.vrf_id = s.vrf_id OFFSET 0)
      LIMIT ${wanted.length}),
    moved AS (
      UPDATE ranges SET next_address = CASE WHEN top.address < last_address THEN top.address + 1 END
      FROM (SELECT max(address) AS address FROM spots) top WHERE ranges.id = ${range.id} AND top.address IS NOT NULL),
    fresh AS (
      INSERT INTO addresses (vrf_id, prefix_id, address, anycast)
      SELECT vrf_id, ${prefixId}::uuid, address, ${anycast}::boolean FROM spots RETURNING id, address),
    placed AS (SELECT id AS address_id, address, row_number() OVER (ORDER BY address) AS n FROM fresh),
    taken AS (
      ${INTO_ALLOCATIONS}
      SELECT ${columnsOf(ids, wanted, sql`address_id`, sql`${anycast}::boolean`)}, ${actor}, ${now}::timestamptz FROM placed)
    SELECT host(address) AS address FROM placed ORDER BY n`.execute(tx)
  return rows.map((row, index) => ({id: ids[index] ?? '', address: row.address, created_at: now}))
}

/** Takes, in the locked ranges of a kind, addresses that have cooled down and at which nobody answers, those freed longest ago first. */
export async function takeCooled(
  tx: Tx,
  {id: prefixId, anycast}: Pick<Prefix, 'id' | 'anycast'>,
  kind: RangeKind,
  wanted: readonly Wanted[],
  actor: string,
  now: Date,
): Promise<Taken[]> {
  const ids = wanted.map(() => randomUUID())
  const {rows} = await sql<{address: IpAddress; created_at: Date}>`
    WITH cooled AS (
      SELECT a.id, a.address, a.freed_at FROM addresses a
      WHERE a.prefix_id = ${prefixId} AND a.freed_at IS NOT NULL AND a.cool_until <= ${now} AND a.conflict IS NULL AND EXISTS (
        SELECT FROM ranges r WHERE r.prefix_id = a.prefix_id AND r.kind = ${kind} AND a.address BETWEEN r.first_address AND r.last_address)
      ORDER BY a.freed_at, a.address LIMIT ${wanted.length}),
    spots AS (
      SELECT id AS address_id, address, greatest(${now}::timestamptz, freed_at) AS created_at,
        row_number() OVER (ORDER BY freed_at, address) AS n FROM cooled),
    warmed AS (UPDATE addresses SET freed_at = NULL, cool_until = NULL WHERE id IN (SELECT address_id FROM spots)),
    taken AS (
      ${INTO_ALLOCATIONS} SELECT ${columnsOf(ids, wanted, sql`address_id`, sql`${anycast}::boolean`)}, ${actor}, created_at FROM spots)
    SELECT host(address) AS address, created_at FROM spots ORDER BY n`.execute(tx)
  return rows.map((row, index) => ({id: ids[index] ?? '', ...row}))
}

/** Takes one address by name, or a share of an anycast one. @returns undefined when somebody holds it */
export async function takeAddress(tx: Tx, prefixId: string, address: IpAddress, wanted: Wanted, actor: string, now: Date) {
  const {rows} = await sql<Taken>`
    WITH before AS (
      SELECT max(al.freed_at) AS freed_at FROM addresses a JOIN allocations al ON al.address_id = a.id
      WHERE a.prefix_id = ${prefixId} AND a.address = ${address}::inet),
    spot AS (
      INSERT INTO addresses (vrf_id, prefix_id, address, anycast, freed_at, cool_until)
      SELECT p.vrf_id, p.id, ${address}::inet, p.anycast, ${now}::timestamptz, ${now}::timestamptz FROM prefixes p WHERE p.id = ${prefixId}
      ON CONFLICT (address, vrf_id) DO UPDATE SET address = excluded.address
      RETURNING id AS address_id, anycast, 1 AS n)
    ${INTO_ALLOCATIONS}
    SELECT ${columnsOf([randomUUID()], [wanted], sql`address_id`, sql`anycast`)}, ${actor},
      CASE WHEN anycast THEN ${now}::timestamptz ELSE greatest(${now}::timestamptz, before.freed_at) END
    FROM spot, before
    ON CONFLICT (address_id) WHERE freed_at IS NULL AND NOT anycast DO NOTHING
    RETURNING id, ${address}::text AS address, created_at`.execute(tx)
  if (rows[0]) {
    await sql`UPDATE addresses SET freed_at = NULL, cool_until = NULL WHERE prefix_id = ${prefixId} AND address = ${address}::inet
      AND freed_at IS NOT NULL`.execute(tx)
  }
  return rows[0]
}

/** What is known of an address by name: who holds it, or held it last, and until when it cools. */
export async function selectLastHold(db: Db, prefixId: string, address: IpAddress, holder?: Holder) {
  const sharer = holder ? sql`(NOT al.anycast OR (al.holder_kind = ${holder.kind} AND al.holder = ${holder.name}))` : sql`true`
  const [allocation] = await selectAllocations(
    db,
    sql`a.prefix_id = ${prefixId} AND a.address = ${address}::inet AND ${sharer}`,
    sql`al.freed_at DESC NULLS FIRST, al.created_at DESC LIMIT 1`,
  )
  if (!allocation) return undefined
  const {rows} = await sql<{cool_until: Date | null; conflict: string | null}>`
    SELECT cool_until, conflict FROM addresses WHERE prefix_id = ${prefixId} AND address = ${address}::inet`.execute(db)
  return {allocation, coolUntil: rows[0]?.cool_until ?? null, conflict: rows[0]?.conflict ?? null}
}

// Allocations

type AllocationRow = {
  id: string
  address: IpAddress
  prefix_id: string | null
  cidr: Cidr | null
  holder_kind: Holder['kind']
  machine_id: string | null
  holder: string
  purpose: Purpose
  reason: string
  client_key: string | null
  created_at: Date
  created_by: string
  freed_at: Date | null
  freed_by: string | null
  freed_reason: string | null
  interface: string | null
  tenant: string | null
  expires_at: Date | null
  anycast: boolean
}

/** Holdings of addresses that are in a prefix: all live ones are, and those of the past while their prefix is there. */
export async function selectAllocations(
  db: Db,
  where: RawBuilder<unknown>,
  order: RawBuilder<unknown> = sql`a.address`,
): Promise<Allocation[]> {
  return (await selectHoldings(db, sql`a.prefix_id IS NOT NULL AND ${where}`, order)) as Allocation[]
}

export async function selectHoldings(
  db: Db,
  where: RawBuilder<unknown>,
  order: RawBuilder<unknown> = sql`a.address`,
): Promise<PastAllocation[]> {
  const {rows} = await sql<AllocationRow>`
    SELECT al.id, host(a.address) AS address, a.prefix_id, p.cidr::text AS cidr, al.holder_kind, al.machine_id, al.holder, al.purpose,
      al.reason, al.client_key, al.interface, al.tenant, al.expires_at, al.anycast, al.created_at, al.created_by, al.freed_at, al.freed_by,
      al.freed_reason
    FROM allocations al JOIN addresses a ON a.id = al.address_id LEFT JOIN prefixes p ON p.id = a.prefix_id
    WHERE ${where} ORDER BY ${order}`.execute(db)
  return rows.map(toAllocation)
}

export const NEWEST_FIRST = sql`al.created_at DESC, al.freed_at DESC NULLS FIRST`

export const whereAllocation = (id: string) => sql`al.id = ${id}`
export const whereMachineHolds = (machineId: string, purposes?: readonly Purpose[]) =>
  sql`al.machine_id = ${machineId} AND al.freed_at IS NULL AND (${purposes ?? null}::text[] IS NULL OR al.purpose = ANY(${purposes ?? []}::text[]))`
export const whereServiceHolds = (prefixId: string, holders: readonly string[]) =>
  sql`a.prefix_id = ${prefixId} AND al.freed_at IS NULL AND al.holder_kind = 'service' AND al.holder = ANY(${holders}::text[])`
/** Whether somebody has a share of an anycast address. */
export const whereShares = (
  {address, prefixId}: Allocation,
  holder: Holder,
) => sql`a.prefix_id = ${prefixId} AND a.address = ${address}::inet
  AND al.freed_at IS NULL AND al.holder_kind = ${holder.kind} AND al.holder = ${holder.name}`
export const whereLiveIn = (
  prefixId: string,
  after: IpAddress | undefined,
) => sql`a.prefix_id = ${prefixId} AND al.freed_at IS NULL
  AND (${after ?? null}::inet IS NULL OR a.address > ${after ?? null}::inet)`
export const lowestFirst = (limit: number) => sql`a.address, al.holder LIMIT ${limit}`
/** All that an address, or a machine, has been through. */
export const whereAddress = (address: IpAddress, vrf: string) => sql`a.address = ${address}::inet AND a.vrf_id = ${vrfId(vrf)}`
export const whereMachineHeld = (machineId: string) => sql`al.machine_id = ${machineId}`
/** The dynamic address that a client has in a prefix, or the one that its machine took over. */
export const whereClientHolds = (
  prefixId: string,
  mac: Mac,
) => sql`al.freed_at IS NULL AND a.prefix_id = ${prefixId} AND al.id IN (
  SELECT al.id FROM allocations al WHERE al.client_key = ${mac} AND al.freed_at IS NULL AND al.holder_kind = 'machine'
  UNION ALL SELECT al.id FROM leases l JOIN allocations al ON al.address_id = l.address_id
    WHERE l.mac = ${mac}::macaddr AND al.freed_at IS NULL AND al.holder_kind = 'range' AND al.holder = ${mac})`
/** Who held an address at an instant; without one, who holds it. */
export const whereHeldAt = (address: IpAddress, vrf: string, at: Date | null) => sql`a.address = ${address}::inet
  AND a.vrf_id = (SELECT id FROM vrfs WHERE name = ${vrf})
  AND CASE WHEN ${at}::timestamptz IS NULL THEN al.freed_at IS NULL
    ELSE al.created_at <= ${at} AND (al.freed_at IS NULL OR al.freed_at > ${at}) END`

/** Keeps allocations from being freed, bound or handed over by others, in an order that cannot deadlock. */
export async function lockAllocations(tx: Tx, ids: readonly string[]): Promise<void> {
  await sql`SELECT FROM allocations WHERE id = ANY(${ids}::uuid[]) ORDER BY address_id FOR NO KEY UPDATE`.execute(tx)
  // A renewal locks the lease alone.
  await sql`SELECT FROM leases WHERE address_id IN (SELECT address_id FROM allocations WHERE id = ANY(${ids}::uuid[]))
    ORDER BY address_id FOR NO KEY UPDATE`.execute(tx)
}

/**
 * Ends live allocations (locked by now) and lets their addresses cool down: for `cool_down_s`, or as long as a client may still think
 * that it has a lease, whichever is longer (RFC 2131 §2.2 forbids to reallocate within a lease).
 */
export async function endAllocations(
  tx: Tx,
  ids: readonly string[],
  actor: string,
  now: Date,
  reason: string | null = null,
): Promise<Allocation[]> {
  const ended = await sql<{id: string; address_id: number}>`
    UPDATE allocations SET freed_at = greatest(${now}::timestamptz, created_at), freed_by = ${actor}, freed_reason = ${reason}
    WHERE id = ANY(${ids}::uuid[]) AND freed_at IS NULL RETURNING id, address_id`.execute(tx)
  const addressIds = ended.rows.map(row => row.address_id)
  const endedIds = ended.rows.map(row => row.id)
  if (endedIds.length === 0) return []
  await sql`
    WITH ended AS (
      UPDATE leases SET state = 'released', updated_at = ${now}
      WHERE address_id = ANY(${addressIds}::bigint[]) AND state IN ('offered', 'bound', 'declined'))
    UPDATE addresses SET freed_at = al.freed_at, cool_until = greatest(al.freed_at + make_interval(secs => p.cool_down_s), l.expires_at),
      probed_at = NULL
    FROM allocations al JOIN addresses a ON a.id = al.address_id JOIN prefixes p ON p.id = a.prefix_id
      LEFT JOIN leases l ON l.address_id = al.address_id AND l.state = 'bound'
    WHERE al.id = ANY(${endedIds}::uuid[]) AND addresses.id = al.address_id
      AND NOT EXISTS (SELECT FROM allocations o WHERE o.address_id = al.address_id AND o.freed_at IS NULL)`.execute(tx)
  return await selectAllocations(tx, sql`al.id = ANY(${endedIds}::uuid[])`)
}

/** Passes a live allocation's address on in one instant. @returns undefined when it was freed meanwhile */
export async function handOver(
  tx: Tx,
  allocationId: string,
  wanted: Wanted,
  actor: string,
  now: Date,
  reason: string | null = null,
) {
  const {rows} = await sql<Taken>`
    WITH ended AS (
      UPDATE allocations SET freed_at = greatest(${now}::timestamptz, created_at), freed_by = ${actor}, freed_reason = ${reason}
      WHERE id = ${allocationId} AND freed_at IS NULL RETURNING address_id, freed_at)
    SELECT host(a.address) AS address, ended.freed_at AS created_at FROM ended JOIN addresses a ON a.id = ended.address_id`.execute(
    tx,
  )
  const from = rows[0]
  if (!from) return undefined
  // The old holding is over only for the statement after it: the unique index admits one live holder at a time.
  const begun = await sql<Taken>`
    ${INTO_ALLOCATIONS}
    SELECT ${columnsOf([randomUUID()], [wanted], sql`address_id`, sql`anycast`)}, ${actor}, old.freed_at
    FROM (SELECT address_id, anycast, freed_at, 1 AS n FROM allocations WHERE id = ${allocationId}) old
    RETURNING id, ${from.address}::text AS address, created_at`.execute(tx)
  const machineId = wanted.holder.kind === 'machine' ? wanted.holder.machineId : null
  await sql`UPDATE leases SET machine_id = ${machineId}, updated_at = ${now}
    WHERE address_id = (SELECT address_id FROM allocations WHERE id = ${allocationId})`.execute(tx)
  return begun.rows[0]
}

export async function updateClientKey(tx: Tx, allocationId: string, clientKey: string): Promise<void> {
  await sql`UPDATE allocations SET client_key = ${clientKey} WHERE id = ${allocationId}`.execute(tx)
}

export async function selectReservations(db: Db): Promise<Reservation[]> {
  const {rows} = await sql<Reservation>`
    SELECT al.machine_id AS "machineId", host(a.address) AS address, a.prefix_id AS "prefixId", al.purpose, al.client_key AS "clientKey"
    FROM allocations al JOIN addresses a ON a.id = al.address_id
    WHERE al.freed_at IS NULL AND al.holder_kind = 'machine' AND al.client_key IS NOT NULL AND family(a.address) = 4`.execute(db)
  return rows
}

// Leases

export type BindRow = {
  readonly mac: Mac
  readonly clientId: string | null
  readonly address: Ipv4
  readonly prefixId: string | null
  readonly machineId: string | null
  readonly leaseS: number
}

/** Whose lease it may be: the client a dynamic address was given to, or the machine that holds it, by its id or by its client key. */
const OWNS = sql`((al.holder_kind = 'range' AND al.holder = w.mac::text)
  OR (al.holder_kind = 'machine' AND (al.machine_id = w.machine_id OR al.client_key = w.mac::text)))`

function bindRows(requests: readonly BindRow[]): RawBuilder<unknown> {
  return sql`unnest(${requests.map(request => request.mac)}::macaddr[], ${requests.map(request => request.clientId)}::text[],
    ${requests.map(request => request.address)}::inet[], ${requests.map(request => request.prefixId)}::uuid[],
    ${requests.map(request => request.machineId)}::uuid[], ${requests.map(request => request.leaseS)}::float8[])
    WITH ORDINALITY AS w (mac, client_id, address, prefix_id, machine_id, lease_s, n)`
}

/**
 * Binds what its clients may have; of two clients with one address, the first. The share lock on the allocation makes a free or a
 * handover wait for our commit, or us for theirs, so no lease outlives its holding unseen.
 * @returns positions of the bound requests, from 1
 */
export async function upsertLeases(tx: Tx, requests: readonly BindRow[], by: string | null, now: Date): Promise<number[]> {
  const {rows} = await sql<{n: number}>`
    WITH owned AS (
      SELECT w.mac, w.client_id, w.lease_s, w.n, al.address_id, al.machine_id
      FROM ${bindRows(requests)}
      JOIN addresses a ON a.address = w.address AND (w.prefix_id IS NULL OR a.prefix_id = w.prefix_id)
      JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL
      WHERE ${OWNS} ORDER BY al.address_id FOR SHARE OF al),
    first AS (SELECT DISTINCT ON (address_id) * FROM owned ORDER BY address_id, n),
    bound AS (
      INSERT INTO leases (address_id, mac, client_id, machine_id, state, starts_at, expires_at, updated_at, bound_by)
      SELECT address_id, mac, decode(client_id, 'hex'), machine_id, 'bound', ${now}::timestamptz,
        ${now}::timestamptz + make_interval(secs => lease_s), ${now}::timestamptz, ${by}::uuid
      FROM first ORDER BY address_id
      ON CONFLICT (address_id) DO UPDATE SET mac = excluded.mac, client_id = excluded.client_id, machine_id = excluded.machine_id,
        state = 'bound', expires_at = excluded.expires_at, updated_at = excluded.updated_at,
        starts_at = CASE WHEN leases.mac = excluded.mac AND leases.state = 'bound' AND leases.expires_at > excluded.updated_at
          THEN leases.starts_at ELSE excluded.starts_at END,
        bound_by = CASE WHEN leases.bound_by = excluded.bound_by OR leases.state <> 'bound' THEN excluded.bound_by
          ELSE '00000000-0000-0000-0000-000000000000'::uuid END
      RETURNING address_id)
    SELECT first.n FROM first JOIN bound USING (address_id)`.execute(tx)
  return rows.map(row => row.n)
}

/** Which of the requests ask for an address that somebody holds. @returns their positions, from 1 */
export async function selectHeld(tx: Tx, requests: readonly BindRow[]): Promise<number[]> {
  const {rows} = await sql<{n: number}>`
    SELECT DISTINCT w.n FROM ${bindRows(requests)}
    JOIN addresses a ON a.address = w.address AND (w.prefix_id IS NULL OR a.prefix_id = w.prefix_id)
    JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL`.execute(tx)
  return rows.map(row => row.n)
}

/** Writes or prolongs an offer on a held dynamic address; a bound lease stays bound. */
export async function upsertOffer(
  tx: Tx,
  allocationId: string,
  mac: Mac,
  clientId: string | null,
  now: Date,
  until: Date,
): Promise<void> {
  await sql`
    INSERT INTO leases (address_id, mac, client_id, state, starts_at, expires_at, updated_at)
    SELECT address_id, ${mac}::macaddr, decode(${clientId}, 'hex'), 'offered', ${now}::timestamptz,
      ${until}::timestamptz, ${now}::timestamptz
    FROM allocations WHERE id = ${allocationId}
    ON CONFLICT (address_id) DO UPDATE SET mac = excluded.mac, machine_id = NULL, updated_at = excluded.updated_at,
      client_id = coalesce(excluded.client_id, CASE WHEN leases.mac = excluded.mac THEN leases.client_id END),
      state = CASE WHEN leases.mac = excluded.mac AND leases.state = 'bound' AND leases.expires_at > excluded.updated_at
        THEN 'bound' ELSE 'offered' END,
      starts_at = CASE WHEN leases.mac = excluded.mac AND leases.state = 'bound' THEN leases.starts_at ELSE excluded.starts_at END,
      expires_at = CASE WHEN leases.mac = excluded.mac AND leases.state = 'bound' THEN greatest(leases.expires_at, excluded.expires_at)
        ELSE excluded.expires_at END`.execute(tx)
}

/** The dynamic address that a client had last in a prefix and nobody has now. */
export async function selectPreviousAddress(tx: Tx, prefixId: string, mac: Mac): Promise<Ipv4 | undefined> {
  const {rows} = await sql<{address: Ipv4}>`
    SELECT host(a.address) AS address FROM leases l JOIN addresses a ON a.id = l.address_id
    JOIN ranges r ON r.prefix_id = a.prefix_id AND r.kind = 'dynamic' AND a.address BETWEEN r.first_address AND r.last_address
    WHERE l.mac = ${mac}::macaddr AND a.prefix_id = ${prefixId} AND a.freed_at IS NOT NULL AND l.state <> 'declined'
    ORDER BY l.updated_at DESC LIMIT 1`.execute(tx)
  return rows[0]?.address
}

type LeaseFilter = {readonly mac?: Mac; readonly address?: Ipv4; readonly prefixId?: string; readonly live?: boolean}

export async function selectLeases(db: Db, filter: LeaseFilter): Promise<Lease[]> {
  const {rows} = await sql<Lease>`
    SELECT host(a.address) AS address, a.prefix_id AS "prefixId", w.mac::text AS mac,
      CASE WHEN al.holder_kind = 'machine' THEN 'reservation' ELSE 'dynamic' END AS kind, w.machine_id AS "machineId", w.state,
      w.starts_at AS "startsAt", w.expires_at AS "expiresAt", al.id IS NOT NULL AS held
    FROM leases w JOIN addresses a ON a.id = w.address_id
    LEFT JOIN allocations al ON al.address_id = w.address_id AND al.freed_at IS NULL AND ${OWNS}
    WHERE (${filter.mac ?? null}::macaddr IS NULL OR w.mac = ${filter.mac ?? null}::macaddr)
      AND (${filter.address ?? null}::inet IS NULL OR a.address = ${filter.address ?? null}::inet)
      AND (${filter.prefixId ?? null}::uuid IS NULL OR a.prefix_id = ${filter.prefixId ?? null}::uuid)
      AND (${filter.live === true} = false OR (w.state IN ('offered', 'bound') AND al.id IS NOT NULL))
    ORDER BY w.updated_at DESC, a.address`.execute(db)
  return rows
}

export type LeaseHold = {
  allocation_id: string
  bound_by: string | null
  address_id: number
  prefix_id: string
  holder_kind: Holder['kind']
  holder: string
}

/** The holding under a client's lease, locked. */
export async function lockLeaseHold(tx: Tx, mac: Mac, address: Ipv4, prefixId: string | null): Promise<LeaseHold | undefined> {
  const {rows} = await sql<LeaseHold>`
    SELECT al.id AS allocation_id, al.address_id, a.prefix_id, al.holder_kind, al.holder, w.bound_by
    FROM leases w JOIN addresses a ON a.id = w.address_id
    JOIN allocations al ON al.address_id = w.address_id AND al.freed_at IS NULL AND ${OWNS}
    WHERE w.mac = ${mac}::macaddr AND w.state IN ('offered', 'bound') AND a.address = ${address}::inet
      AND (${prefixId}::uuid IS NULL OR a.prefix_id = ${prefixId}::uuid)
    ORDER BY al.address_id LIMIT 1 FOR NO KEY UPDATE OF al`.execute(tx)
  return rows[0]
}

export async function updateLease(
  tx: Tx,
  addressId: number,
  state: 'released' | 'declined',
  until: Date,
  now: Date,
): Promise<void> {
  await sql`UPDATE leases SET state = ${state}, expires_at = ${until}, updated_at = ${now} WHERE address_id = ${addressId}`.execute(
    tx,
  )
}

/**
 * Marks the leases that are over. Holdings under a bind in flight are skipped: that bind renews them, or the next sweep finds them.
 * @returns the allocations that end with them: dynamic ones, and addresses that were out of use after a decline
 */
export async function expireLeases(tx: Tx, now: Date): Promise<{ending: string[]; expired: number}> {
  const locked = await sql<{id: string; address_id: number}>`
    SELECT al.id, al.address_id FROM leases l JOIN allocations al ON al.address_id = l.address_id AND al.freed_at IS NULL
    WHERE l.state IN ('offered', 'bound', 'declined') AND l.expires_at <= ${now} AND ((al.holder_kind = 'range' AND al.holder = l.mac::text)
      OR (al.holder_kind = 'service' AND al.holder = 'declined' AND l.state = 'declined'))
    ORDER BY al.address_id FOR NO KEY UPDATE OF al SKIP LOCKED`.execute(tx)
  const over = await sql<{address_id: number}>`
    UPDATE leases SET state = 'expired', updated_at = ${now}
    WHERE address_id = ANY(${locked.rows.map(row => row.address_id)}::bigint[]) AND expires_at <= ${now} RETURNING address_id`.execute(
    tx,
  )
  const alone = await sql`
    UPDATE leases SET state = 'expired', updated_at = ${now} WHERE address_id IN (
      SELECT l.address_id FROM leases l WHERE l.state IN ('offered', 'bound', 'declined') AND l.expires_at <= ${now} AND NOT EXISTS (
        SELECT FROM allocations al WHERE al.address_id = l.address_id AND al.freed_at IS NULL AND al.holder_kind IN ('range', 'service'))
      ORDER BY l.address_id FOR NO KEY UPDATE SKIP LOCKED) RETURNING address_id`.execute(tx)
  const overIds = new Set(over.rows.map(row => row.address_id))
  return {
    ending: locked.rows.filter(row => overIds.has(row.address_id)).map(row => row.id),
    expired: over.rows.length + alone.rows.length,
  }
}

// Rows to nouns

function toAllocation(row: AllocationRow): PastAllocation {
  const holder: Holder =
    row.holder_kind === 'machine'
      ? {kind: 'machine', machineId: row.machine_id ?? '', name: row.holder}
      : {kind: row.holder_kind, name: row.holder}
  return {
    id: row.id,
    address: parseAddress(row.address) ?? row.address,
    prefixId: row.prefix_id,
    cidr: row.cidr,
    holder,
    purpose: row.purpose,
    reason: row.reason,
    clientKey: row.client_key,
    interface: row.interface,
    tenant: row.tenant,
    expiresAt: row.expires_at,
    anycast: row.anycast,
    createdAt: row.created_at,
    createdBy: row.created_by,
    freedAt: row.freed_at,
    freedBy: row.freed_by,
    freedReason: row.freed_reason,
  }
}
