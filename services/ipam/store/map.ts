/** SQL of maps: a network in equal cells, and how much of each is used. */
import {sql} from 'kysely'
import type {Db} from '../../../lib/db.ts'

export type Cell = {readonly cell: number; readonly held: number; readonly cooling: number}

/** Addresses by cell; cells in which nothing happened are left out. @param size addresses a cell, a power of two */
export async function selectAddressCells(db: Db, prefixId: string, size: number, now: Date): Promise<Cell[]> {
  const {rows} = await sql<Cell>`
    SELECT (a.address - network(p.cidr)::inet) / ${size}::bigint AS cell, count(*) FILTER (WHERE a.freed_at IS NULL) AS held,
      count(*) FILTER (WHERE a.cool_until > ${now}) AS cooling
    FROM prefixes p JOIN addresses a ON a.prefix_id = p.id WHERE p.id = ${prefixId} GROUP BY 1 ORDER BY 1`.execute(db)
  return rows
}

/** Of a container: addresses in the prefixes under it. Networks larger than a cell fill several. */
export async function selectPrefixCells(db: Db, containerId: string, size: number, now: Date): Promise<Cell[]> {
  const {rows} = await sql<Cell>`
    WITH c AS (SELECT id, vrf_id, cidr FROM prefixes WHERE id = ${containerId}),
    parts AS (
      SELECT p.cidr, false AS cools FROM c JOIN prefixes p ON p.vrf_id = c.vrf_id AND p.cidr << c.cidr AND p.status <> 'container'
      UNION ALL SELECT f.cidr, true FROM c JOIN free_blocks f ON f.container_id = c.id AND f.cool_until > ${now}),
    cells AS (
      SELECT n.cell, parts.cools, least(${size}::bigint, 2::bigint ^ ((CASE family(parts.cidr) WHEN 4 THEN 32 ELSE 128 END)
        - masklen(parts.cidr))) AS addresses
      FROM c, parts, generate_series((network(parts.cidr)::inet - network(c.cidr)::inet) / ${size}::bigint,
        (broadcast(parts.cidr) - network(c.cidr)::inet) / ${size}::bigint) AS n (cell))
    SELECT cell, coalesce(sum(addresses) FILTER (WHERE NOT cools), 0) AS held, coalesce(sum(addresses) FILTER (WHERE cools), 0) AS cooling
    FROM cells GROUP BY cell ORDER BY cell`.execute(db)
  return rows
}
