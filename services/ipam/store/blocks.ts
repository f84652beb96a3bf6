/**
 * SQL of blocks: who may offer from which piece of a dynamic range.
 *
 * Whoever claims holds the advisory lock of the prefix's blocks, so claims queue up; it is no lock of store.ts, and nothing else is waited
 * for under it.
 */
import {sql} from 'kysely'
import type {Ipv4} from '../../../lib/addresses.ts'
import type {Db, Tx} from '../../../lib/db.ts'

/** A dynamic IPv4 range with the end of what was cut of it into blocks; lowest first. */
export type CutRange = {readonly id: string; readonly first: Ipv4; readonly last: Ipv4; readonly cut: Ipv4 | null}

/** The ranges of an active prefix, whose blocks are ours to claim until the transaction ends. */
export async function lockBlocks(tx: Tx, prefixId: string): Promise<CutRange[]> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended('ipam blocks ' || ${prefixId}, 0))`.execute(tx)
  const {rows} = await sql<CutRange>`
    SELECT r.id, host(r.first_address) AS first, host(r.last_address) AS last,
      (SELECT host(max(b.last_address)) FROM blocks b WHERE b.range_id = r.id) AS cut
    FROM ranges r JOIN prefixes p ON p.id = r.prefix_id
    WHERE p.id = ${prefixId} AND p.status = 'active' AND NOT p.anycast AND r.kind = 'dynamic' AND family(r.first_address) = 4
    ORDER BY r.first_address`.execute(tx)
  return rows
}

export type BlockRow = {readonly id: string; readonly epoch: number; readonly first: Ipv4; readonly last: Ipv4}

const BLOCK_COLUMNS = sql`id, epoch, host(first_address) AS first, host(last_address) AS last`

export async function insertBlocks(
  tx: Tx,
  rangeId: string,
  spans: readonly {readonly first: Ipv4; readonly last: Ipv4}[],
  owner: string,
  until: Date,
): Promise<BlockRow[]> {
  const {rows} = await sql<BlockRow>`
    INSERT INTO blocks (range_id, first_address, last_address, owner, expires_at)
    SELECT ${rangeId}, first, last, ${owner}::uuid, ${until}
    FROM unnest(${spans.map(span => span.first)}::inet[], ${spans.map(span => span.last)}::inet[]) AS s (first, last)
    RETURNING ${BLOCK_COLUMNS}`.execute(tx)
  return rows
}

/**
 * Takes over blocks that nobody may offer from any more and in which an address is free, those idle longest first.
 * @param deadSince expired by then, a block's owner has no offer left that a client could still take
 */
export async function takeOverBlocks(
  tx: Tx,
  rangeIds: readonly string[],
  most: number,
  owner: string,
  times: {readonly now: Date; readonly until: Date; readonly deadSince: Date},
): Promise<BlockRow[]> {
  const {rows} = await sql<BlockRow>`
    UPDATE blocks SET owner = ${owner}::uuid, epoch = epoch + 1, expires_at = ${times.until} WHERE id IN (
      SELECT b.id FROM blocks b JOIN ranges r ON r.id = b.range_id JOIN prefixes p ON p.id = r.prefix_id
      WHERE b.range_id = ANY(${rangeIds}::uuid[]) AND (b.owner IS NULL OR b.expires_at <= ${times.deadSince})
        AND b.last_address - b.first_address + 1 > (
          SELECT count(*) FROM addresses a WHERE a.vrf_id = p.vrf_id AND a.address BETWEEN b.first_address AND b.last_address
            AND (a.freed_at IS NULL OR a.cool_until > ${times.now} OR a.conflict IS NOT NULL))
      ORDER BY b.expires_at, b.first_address LIMIT ${most})
    RETURNING ${BLOCK_COLUMNS}`.execute(tx)
  return rows
}

/** Of these blocks, the addresses that are held, cool down or are in conflict: what must not be offered to anybody new. */
export async function selectNotFree(tx: Tx, prefixId: string, blocks: readonly BlockRow[], now: Date): Promise<Ipv4[]> {
  const {rows} = await sql<{address: Ipv4}>`
    SELECT host(a.address) AS address
    FROM unnest(${blocks.map(block => block.first)}::inet[], ${blocks.map(block => block.last)}::inet[]) AS b (first, last)
    JOIN addresses a ON a.address BETWEEN b.first AND b.last AND a.vrf_id = (SELECT vrf_id FROM prefixes WHERE id = ${prefixId})
    WHERE a.freed_at IS NULL OR a.cool_until > ${now} OR a.conflict IS NOT NULL`.execute(tx)
  return rows.map(row => row.address)
}

/** @returns those that are still the owner's; one that expired and was not taken over comes back to life */
export async function prolongBlocks(db: Db, ids: readonly string[], owner: string, until: Date): Promise<string[]> {
  const {rows} = await sql<{id: string}>`
    UPDATE blocks SET expires_at = ${until} WHERE id = ANY(${ids}::uuid[]) AND owner = ${owner}::uuid RETURNING id`.execute(db)
  return rows.map(row => row.id)
}

export async function disownBlocks(db: Db, ids: readonly string[], owner: string, now: Date): Promise<void> {
  await sql`UPDATE blocks SET owner = NULL, expires_at = ${now} WHERE id = ANY(${ids}::uuid[]) AND owner = ${owner}::uuid`.execute(
    db,
  )
}

export type HeldLease = {
  readonly mac: string
  readonly address: Ipv4
  readonly prefix_id: string
  readonly address_id: number
  readonly left_s: number
}

const HELD_COLUMNS = sql`l.mac::text AS mac, host(a.address) AS address, a.prefix_id, l.address_id,
  greatest(0, extract(epoch FROM l.expires_at - clock_timestamp()))::float8 AS left_s`

/** What dynamic clients hold or held last, a page at a time. */
export async function selectDynamicLeases(db: Db, after: number, most: number): Promise<HeldLease[]> {
  const {rows} = await sql<HeldLease>`
    SELECT ${HELD_COLUMNS} FROM leases l JOIN addresses a ON a.id = l.address_id
    WHERE l.address_id > ${after} AND l.machine_id IS NULL AND l.state <> 'declined' AND a.prefix_id IS NOT NULL
      AND family(a.address) = 4
    ORDER BY l.address_id LIMIT ${most}`.execute(db)
  return rows
}

/** The same in the blocks that others held of late. */
export async function selectLeasesOfOthers(db: Db, owner: string, since: Date): Promise<HeldLease[]> {
  const {rows} = await sql<HeldLease>`
    SELECT ${HELD_COLUMNS}
    FROM blocks b JOIN ranges r ON r.id = b.range_id JOIN prefixes p ON p.id = r.prefix_id
    JOIN addresses a ON a.vrf_id = p.vrf_id AND a.address BETWEEN b.first_address AND b.last_address
    JOIN leases l ON l.address_id = a.id
    WHERE b.owner IS DISTINCT FROM ${owner}::uuid AND b.expires_at >= ${since} AND l.machine_id IS NULL AND l.state = 'bound'
      AND l.updated_at >= ${since}`.execute(db)
  return rows
}
