/** SQL of delegations: whole prefixes held. */
import {type RawBuilder, sql} from 'kysely'
import type {Cidr} from '../../../lib/addresses.ts'
import type {Db, Tx} from '../../../lib/db.ts'
import type {Delegation} from '../model.ts'

type Row = {
  id: string
  vrf: string
  prefix_id: string | null
  cidr: Cidr
  holder_kind: Delegation['holder']['kind']
  machine_id: string | null
  holder: string
  tenant: string | null
  purpose: Delegation['purpose']
  reason: string
  created_at: Date
  created_by: string
  freed_at: Date | null
  freed_by: string | null
  freed_reason: string | null
}

export const whereDelegation = (id: string) => sql`d.id = ${id}`
export const whereMachineHolds = (machineId: string, purposes: readonly string[]) =>
  sql`d.machine_id = ${machineId} AND d.freed_at IS NULL AND d.purpose = ANY(${purposes}::text[])`
export const whereMachineHeld = (machineId: string) => sql`d.machine_id = ${machineId}`
export const whereLiveIn = (prefixIds: readonly string[]) => sql`d.freed_at IS NULL AND d.prefix_id = ANY(${prefixIds}::uuid[])`
export const whereEverAround = (address: string, vrf: string) => sql`d.cidr >>= ${address}::inet AND v.name = ${vrf}`
/** Whoever holds or held a network around an address, now or at an instant. */
export const whereAround = (address: string, vrf: string, at: Date | null) => sql`d.cidr >>= ${address}::inet AND v.name = ${vrf}
  AND CASE WHEN ${at}::timestamptz IS NULL THEN d.freed_at IS NULL
    ELSE d.created_at <= ${at} AND (d.freed_at IS NULL OR d.freed_at > ${at}) END`

export async function selectDelegations(db: Db, where: RawBuilder<unknown>): Promise<Delegation[]> {
  const {rows} = await sql<Row>`
    SELECT d.id, v.name AS vrf, d.prefix_id, d.cidr::text AS cidr, d.holder_kind, d.machine_id, d.holder, d.tenant, d.purpose, d.reason,
      d.created_at, d.created_by, d.freed_at, d.freed_by, d.freed_reason
    FROM delegations d JOIN vrfs v ON v.id = d.vrf_id WHERE ${where} ORDER BY d.cidr, d.created_at`.execute(db)
  return rows.map(row => ({
    id: row.id,
    vrf: row.vrf,
    prefixId: row.prefix_id,
    cidr: row.cidr,
    holder:
      row.holder_kind === 'machine'
        ? {kind: 'machine', machineId: row.machine_id ?? '', name: row.holder}
        : {kind: row.holder_kind, name: row.holder},
    purpose: row.purpose,
    reason: row.reason,
    tenant: row.tenant,
    createdAt: row.created_at,
    createdBy: row.created_by,
    freedAt: row.freed_at,
    freedBy: row.freed_by,
    freedReason: row.freed_reason,
  }))
}

export async function insertDelegation(
  tx: Tx,
  prefixId: string,
  of: Pick<Delegation, 'holder' | 'purpose' | 'reason' | 'tenant'>,
  actor: string,
  now: Date,
): Promise<string> {
  const machineId = of.holder.kind === 'machine' ? of.holder.machineId : null
  const {rows} = await sql<{id: string}>`
    INSERT INTO delegations (vrf_id, prefix_id, cidr, holder_kind, machine_id, holder, tenant, role, purpose, reason, created_at, created_by)
    SELECT vrf_id, id, cidr, ${of.holder.kind}, ${machineId}::uuid, ${of.holder.name}, ${of.tenant}, role, ${of.purpose}, ${of.reason},
      ${now}::timestamptz, ${actor} FROM prefixes WHERE id = ${prefixId} RETURNING id`.execute(tx)
  return rows[0]?.id ?? ''
}

export async function lockDelegation(tx: Tx, id: string): Promise<void> {
  await sql`SELECT FROM delegations WHERE id = ${id} FOR UPDATE`.execute(tx)
}

export async function endDelegation(tx: Tx, id: string, actor: string, now: Date, reason: string | null): Promise<void> {
  await sql`UPDATE delegations SET freed_at = greatest(${now}::timestamptz, created_at), freed_by = ${actor}, freed_reason = ${reason}
    WHERE id = ${id} AND freed_at IS NULL`.execute(tx)
}

/** Live holdings in a prefix that its own settings did not make. */
export async function selectHeldIn(tx: Tx, prefixId: string): Promise<{id: string; holder_kind: string; holder: string}[]> {
  const {rows} = await sql<{id: string; holder_kind: string; holder: string}>`
    SELECT al.id, al.holder_kind, al.holder FROM addresses a JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL
    WHERE a.prefix_id = ${prefixId}`.execute(tx)
  return rows
}

/** Who holds most of what lies in a container. */
export async function selectBiggest(
  db: Db,
  containerId: string,
  limit: number,
): Promise<{holder_kind: Delegation['holder']['kind']; holder: string; networks: number}[]> {
  const {rows} = await sql<{holder_kind: Delegation['holder']['kind']; holder: string; networks: number}>`
    SELECT d.holder_kind, d.holder, count(*) AS networks FROM prefixes c JOIN delegations d ON d.vrf_id = c.vrf_id AND d.cidr << c.cidr
    WHERE c.id = ${containerId} AND d.freed_at IS NULL GROUP BY d.holder_kind, d.holder ORDER BY count(*) DESC, d.holder LIMIT ${limit}`.execute(
    db,
  )
  return rows
}
