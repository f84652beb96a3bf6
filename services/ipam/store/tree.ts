/**
 * SQL of the prefix tree: VRFs, aggregates, containers and what of them is free.
 *
 * Locks: the structure of a VRF (shared by whoever adds, carves or removes a prefix, alone for whoever adds or removes a container), then
 * the container, then what store.ts names. The exclusion constraint on `prefixes` stands behind them.
 */
import {sql} from 'kysely'
import type {Cidr} from '../../../lib/addresses.ts'
import type {Db, Tx} from '../../../lib/db.ts'
import type {IpAddress} from '../integers.ts'
import type {Aggregate, Vrf} from '../model.ts'

export async function selectVrfs(db: Db): Promise<Vrf[]> {
  const {rows} = await sql<Vrf>`SELECT v.name, v.description, v.created_at, count(p.id) AS prefixes
    FROM vrfs v LEFT JOIN prefixes p ON p.vrf_id = v.id GROUP BY v.id ORDER BY v.name`.execute(db)
  return rows
}

/** @returns whether it was not there before */
export async function insertVrf(tx: Db, name: string, description: string): Promise<boolean> {
  const {rows} = await sql`INSERT INTO vrfs (name, description) VALUES (${name}, ${description})
    ON CONFLICT DO NOTHING RETURNING id`.execute(tx)
  return rows.length > 0
}

/** @returns whether there was one, and nothing in it */
export async function deleteVrf(tx: Db, name: string): Promise<boolean> {
  const {rows} = await sql`DELETE FROM vrfs v WHERE name = ${name} AND NOT EXISTS (SELECT FROM prefixes p WHERE p.vrf_id = v.id)
    AND NOT EXISTS (SELECT FROM addresses a WHERE a.vrf_id = v.id) AND NOT EXISTS (SELECT FROM aggregates g WHERE g.vrf_id = v.id)
    AND NOT EXISTS (SELECT FROM delegations d WHERE d.vrf_id = v.id) RETURNING id`.execute(tx)
  return rows.length > 0
}

export async function selectAggregates(db: Db): Promise<Aggregate[]> {
  const {rows} = await sql<Aggregate>`
    SELECT g.id, v.name AS vrf, g.cidr::text AS cidr, g.registry, g.description, g.created_at,
      coalesce((SELECT sum(2::float8 ^ ((CASE family(p.cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(p.cidr)))
        FROM prefixes p WHERE p.vrf_id = g.vrf_id AND p.status <> 'container' AND p.cidr <<= g.cidr), 0) AS in_prefixes
    FROM aggregates g JOIN vrfs v ON v.id = g.vrf_id ORDER BY v.name, g.cidr`.execute(db)
  return rows
}

/** @returns its id; undefined when it overlaps another */
export async function insertAggregate(
  tx: Tx,
  aggregate: {vrf: string; cidr: Cidr; registry: string; description: string},
  now: Date,
): Promise<string | undefined> {
  const {rows} = await sql<{id: string}>`INSERT INTO aggregates (vrf_id, cidr, registry, description, created_at)
    SELECT id, ${aggregate.cidr}::cidr, ${aggregate.registry}, ${aggregate.description}, ${now}::timestamptz FROM vrfs
    WHERE name = ${aggregate.vrf} ON CONFLICT DO NOTHING RETURNING id`.execute(tx)
  return rows[0]?.id
}

export async function deleteAggregate(tx: Db, id: string): Promise<Cidr | undefined> {
  const {rows} = await sql<{cidr: Cidr}>`DELETE FROM aggregates WHERE id = ${id} RETURNING cidr::text AS cidr`.execute(tx)
  return rows[0]?.cidr
}

/** Keeps the containers of a VRF as they are until we commit, or keeps everybody else away from its prefixes. */
export async function lockStructure(tx: Tx, vrf: string, how: 'shared' | 'alone'): Promise<void> {
  const key = sql`hashtextextended('ipam vrf ' || ${vrf}, 0)`
  await (how === 'alone' ? sql`SELECT pg_advisory_xact_lock(${key})` : sql`SELECT pg_advisory_xact_lock_shared(${key})`).execute(
    tx,
  )
}

export type ContainerRow = {id: string; cidr: Cidr}

/** The longest container around a network, locked against others who take of it. */
export async function lockParent(tx: Tx, vrf: string, cidr: Cidr): Promise<ContainerRow | undefined> {
  const {rows} = await sql<ContainerRow>`
    SELECT p.id, p.cidr::text AS cidr FROM prefixes p
    WHERE p.vrf_id = (SELECT id FROM vrfs WHERE name = ${vrf}) AND p.status = 'container' AND p.cidr >> ${cidr}::cidr
    ORDER BY masklen(p.cidr) DESC LIMIT 1 FOR NO KEY UPDATE`.execute(tx)
  return rows[0]
}

export async function lockContainer(tx: Tx, id: string): Promise<void> {
  await sql`SELECT FROM prefixes WHERE id = ${id} FOR NO KEY UPDATE`.execute(tx)
}

/** The next prefixes under a container: those with no other container between. */
export async function selectChildren(tx: Tx, vrf: string, cidr: Cidr): Promise<Cidr[]> {
  const {rows} = await sql<{cidr: Cidr}>`
    SELECT p.cidr::text AS cidr FROM prefixes p JOIN vrfs v ON v.id = p.vrf_id
    WHERE v.name = ${vrf} AND p.cidr << ${cidr}::cidr AND NOT EXISTS (
      SELECT FROM prefixes c WHERE c.vrf_id = p.vrf_id AND c.status = 'container' AND c.cidr << ${cidr}::cidr AND c.cidr >> p.cidr)`.execute(
    tx,
  )
  return rows.map(row => row.cidr)
}

/** The free block that a network lies in, cooling or not, locked. */
export async function lockFreeAround(tx: Tx, containerId: string, cidr: Cidr): Promise<FreeBlock | undefined> {
  const {rows} = await sql<FreeBlock>`
    SELECT cidr::text AS cidr, freed_at, cool_until FROM free_blocks
    WHERE container_id = ${containerId} AND cidr IN (
      SELECT network(set_masklen(${cidr}::inet, length))::cidr FROM generate_series(0, masklen(${cidr}::cidr)) length) FOR UPDATE`.execute(
    tx,
  )
  return rows[0]
}

export type FreeBlock = {cidr: Cidr; freed_at: Date | null; cool_until: Date | null}

/** The smallest block that has room for a network of a length: never used first, then longest freed, lowest. */
export async function selectBestFit(tx: Tx, containerId: string, length: number, now: Date): Promise<FreeBlock | undefined> {
  const {rows} = await sql<FreeBlock>`
    SELECT cidr::text AS cidr, freed_at, cool_until FROM free_blocks
    WHERE container_id = ${containerId} AND masklen(cidr) <= ${length} AND (cool_until IS NULL OR cool_until <= ${now})
    ORDER BY masklen(cidr) DESC, freed_at NULLS FIRST, cidr LIMIT 1`.execute(tx)
  return rows[0]
}

/** A container's free blocks, the smallest first. */
export async function selectFree(db: Db, containerId: string, limit: number): Promise<FreeBlock[]> {
  const {rows} = await sql<FreeBlock>`
    SELECT cidr::text AS cidr, freed_at, cool_until FROM free_blocks WHERE container_id = ${containerId}
    ORDER BY masklen(cidr) DESC, cidr LIMIT ${limit}`.execute(db)
  return rows
}

export async function insertFree(
  tx: Tx,
  containerId: string,
  cidrs: readonly Cidr[],
  freed?: {at: Date; coolUntil: Date | null},
): Promise<void> {
  if (cidrs.length === 0) return
  await sql`INSERT INTO free_blocks (container_id, cidr, freed_at, cool_until)
    SELECT ${containerId}, cidr, ${freed?.at ?? null}::timestamptz, ${freed?.coolUntil ?? null}::timestamptz
    FROM unnest(${cidrs}::cidr[]) AS f (cidr)`.execute(tx)
}

/** @returns whether it was there */
export async function deleteFree(tx: Tx, containerId: string, cidr: Cidr): Promise<boolean> {
  const {rows} =
    await sql`DELETE FROM free_blocks WHERE container_id = ${containerId} AND cidr = ${cidr}::cidr RETURNING 1`.execute(tx)
  return rows.length > 0
}

/** Deletes a free block that does not cool; its buddy may join it. */
export async function deleteQuietFree(tx: Tx, containerId: string, cidr: Cidr, now: Date): Promise<FreeBlock | undefined> {
  const {rows} = await sql<FreeBlock>`DELETE FROM free_blocks WHERE container_id = ${containerId} AND cidr = ${cidr}::cidr
    AND (cool_until IS NULL OR cool_until <= ${now}) RETURNING cidr::text AS cidr, freed_at, cool_until`.execute(tx)
  return rows[0]
}

/** Gives the free blocks inside a network, cooling marks and all, to another container. */
export async function moveFree(tx: Tx, from: string, to: string, cidr: Cidr): Promise<void> {
  await sql`UPDATE free_blocks SET container_id = ${to} WHERE container_id = ${from} AND cidr <<= ${cidr}::cidr`.execute(tx)
}

/** Blocks that have cooled down. @returns them with their containers, at most `limit` */
export async function selectCooledBlocks(tx: Db, now: Date, limit: number): Promise<(FreeBlock & {container_id: string})[]> {
  const {rows} = await sql<FreeBlock & {container_id: string}>`
    SELECT container_id, cidr::text AS cidr, freed_at, cool_until FROM free_blocks WHERE cool_until <= ${now}
    ORDER BY cool_until LIMIT ${limit}`.execute(tx)
  return rows
}

/** When the next block that would have room comes free. */
export async function selectNextCooled(db: Db, containerId: string, length: number): Promise<Date | null> {
  const {rows} = await sql<{at: Date | null}>`SELECT min(cool_until) AS at FROM free_blocks
    WHERE container_id = ${containerId} AND masklen(cidr) <= ${length} AND cool_until IS NOT NULL`.execute(db)
  return rows[0]?.at ?? null
}

export type ContainerUse = {container_id: string; free: number; cooling: number}

/** How many addresses of each container no prefix has. */
export async function selectContainerUse(db: Db, ids: readonly string[], now: Date): Promise<ContainerUse[]> {
  const {rows} = await sql<ContainerUse>`
    SELECT container_id, sum(size) AS free, coalesce(sum(size) FILTER (WHERE cool_until > ${now}), 0) AS cooling FROM (
      SELECT container_id, cool_until, 2::float8 ^ ((CASE family(cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(cidr)) AS size
      FROM free_blocks WHERE container_id = ANY(${ids}::uuid[])) f GROUP BY container_id`.execute(db)
  return rows
}

/** What prevents a prefix from being removed: a holding that is not one of its own settings, or a prefix held whole. */
export async function selectObstacle(
  tx: Tx,
  prefixId: string,
  settingHolders: readonly string[],
): Promise<{what: string; holder_kind: string; holder: string} | undefined> {
  const {rows} = await sql<{what: string; holder_kind: string; holder: string}>`
    SELECT host(a.address) AS what, al.holder_kind, al.holder FROM addresses a JOIN allocations al ON al.address_id = a.id
    WHERE a.prefix_id = ${prefixId} AND al.freed_at IS NULL AND NOT (al.holder_kind = 'service' AND al.holder = ANY(${settingHolders}::text[]))
    UNION ALL SELECT d.cidr::text, d.holder_kind, d.holder FROM delegations d WHERE d.prefix_id = ${prefixId} AND d.freed_at IS NULL
    LIMIT 1`.execute(tx)
  return rows[0]
}

/** Nobody takes an address of it, or holds it, from now on. */
export async function lockForRemoval(tx: Tx, prefixId: string): Promise<void> {
  await sql`SELECT FROM prefixes WHERE id = ${prefixId} FOR UPDATE`.execute(tx)
}

/** Its addresses stay, with their history, and cool down where they were. */
export async function deletePrefix(tx: Tx, prefixId: string): Promise<void> {
  await sql`DELETE FROM prefixes WHERE id = ${prefixId}`.execute(tx)
}

/** Addresses that lost their prefix go to the new one around them. */
export async function adoptAddresses(tx: Tx, prefixId: string): Promise<void> {
  await sql`UPDATE addresses a SET prefix_id = p.id, anycast = p.anycast FROM prefixes p
    WHERE p.id = ${prefixId} AND a.vrf_id = p.vrf_id AND a.prefix_id IS NULL AND a.address <<= p.cidr`.execute(tx)
}

/** Addresses of a prefix that are held, by name, for those who look at an address nobody has. */
export async function selectCovering(
  db: Db,
  address: IpAddress,
  vrf: string,
): Promise<{id: string; cidr: Cidr; status: string}[]> {
  const {rows} = await sql<{id: string; cidr: Cidr; status: string}>`
    SELECT p.id, p.cidr::text AS cidr, p.status FROM prefixes p
    WHERE p.vrf_id = (SELECT id FROM vrfs WHERE name = ${vrf}) AND p.cidr >>= ${address}::inet ORDER BY masklen(p.cidr)`.execute(
    db,
  )
  return rows
}
