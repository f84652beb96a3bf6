/** SQL of what is watched: alerts that are told once in a while, the wire's counters, and which DHCP servers are Ingot's own. */
import {type Kysely, sql} from 'kysely'
import type {Database} from '../../lib/schema.ts'

export type WireCount = {readonly name: string; readonly label: string; readonly value: number}
export type SourcedCount = WireCount & {readonly source: string}

/** Serialises those who tell of one thing; then says whether it was told since. */
export async function wasTold(tx: Kysely<Database>, kind: string, subject: string, since: Date): Promise<boolean> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${`ingot alert ${kind} ${subject}`}, 0))`.execute(tx)
  const told = await tx
    .selectFrom('events')
    .select('id')
    .where('kind', '=', kind)
    .where('subject', '=', subject)
    .where('at', '>', since)
    .limit(1)
    .executeTakeFirst()
  return told !== undefined
}

/** One statement a publication, whatever its size. A source that begins again begins at nothing, so what it no longer has goes. */
export async function replaceCounters(
  tx: Kysely<Database>,
  source: string,
  counts: readonly WireCount[],
  now: Date,
): Promise<void> {
  await sql`INSERT INTO wire_counters (source, name, label, value, at)
    SELECT ${source}, name, label, value, ${now} FROM jsonb_to_recordset(${JSON.stringify(counts)}::jsonb) AS c(name text, label text, value bigint)
    ON CONFLICT (source, name, label) DO UPDATE SET value = excluded.value, at = excluded.at`.execute(tx)
  await tx.deleteFrom('wire_counters').where('source', '=', source).where('at', '<', now).execute()
}

/** Of the sources that published lately; the others do not run. */
export async function selectCounters(db: Kysely<Database>, since: Date): Promise<readonly SourcedCount[]> {
  const rows = await db
    .selectFrom('wire_counters')
    .select(['source', 'name', 'label', 'value'])
    .where('at', '>', since)
    .orderBy('source')
    .orderBy('name')
    .orderBy('label')
    .execute()
  return rows.map(row => ({...row, value: Number(row.value)}))
}

export async function upsertDhcpServers(
  tx: Kysely<Database>,
  source: string,
  addresses: readonly string[],
  now: Date,
): Promise<void> {
  if (addresses.length === 0) return
  await tx
    .insertInto('dhcp_servers')
    .values(addresses.map(address => ({address, source, seen_at: now})))
    .onConflict(conflict => conflict.column('address').doUpdateSet({source, seen_at: now}))
    .execute()
}

export async function isDhcpServer(db: Kysely<Database>, address: string, since: Date): Promise<boolean> {
  const row = await db
    .selectFrom('dhcp_servers')
    .select('address')
    .where('address', '=', address)
    .where('seen_at', '>', since)
    .executeTakeFirst()
  return row !== undefined
}

export async function deleteOldCounters(db: Kysely<Database>, before: Date): Promise<void> {
  await db.deleteFrom('wire_counters').where('at', '<', before).execute()
  await db.deleteFrom('dhcp_servers').where('seen_at', '<', before).execute()
}
