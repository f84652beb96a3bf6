/** Every SQL statement on machines, interfaces, bmcs, facts, profiles, windows, sightings, DHCP scopes and client keys. */
import {type Insertable, type Kysely, type Selectable, sql, type Updateable} from 'kysely'
import {prepared} from '../../lib/db.ts'
import type * as schema from '../../lib/schema.ts'
import type {Database} from '../../lib/schema.ts'

export type MachineRow = Selectable<schema.MachinesTable>
export type InterfaceRow = Selectable<schema.InterfacesTable>
export type BmcRow = Selectable<schema.BmcsTable>
export type FactsRow = Selectable<schema.FactsTable>
export type ProfileRow = Selectable<schema.ProfilesTable>
export type WindowRow = Selectable<schema.WindowsTable>
export type DhcpScopeRow = Selectable<schema.DhcpScopesTable>
export type ClientKeyRow = Selectable<schema.ClientKeysTable>
export type SightingRow = Selectable<schema.SightingsTable>

type Db = Kysely<Database>

export function insertMachine(db: Db, row: Insertable<schema.MachinesTable>): Promise<MachineRow> {
  return db.insertInto('machines').values(row).returningAll().executeTakeFirstOrThrow()
}

export async function updateMachine(db: Db, id: string, set: Updateable<schema.MachinesTable>): Promise<void> {
  await db
    .updateTable('machines')
    .set({...set, version: sql`version + 1`})
    .where('id', '=', id)
    .execute()
}

export function selectMachine(db: Db, id: string): Promise<MachineRow | undefined> {
  return db.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirst()
}

export function selectMachineByName(db: Db, name: string): Promise<MachineRow | undefined> {
  return db.selectFrom('machines').selectAll().where('name', '=', name).executeTakeFirst()
}

export function selectMachineByMac(db: Db, mac: string): Promise<MachineRow | undefined> {
  return db
    .selectFrom('machines')
    .innerJoin('interfaces', 'interfaces.machine_id', 'machines.id')
    .selectAll('machines')
    .where('interfaces.mac', '=', mac)
    .executeTakeFirst()
}

/** A page of machines by name. */
export function selectMachines(
  db: Db,
  page: {after?: string | undefined; limit: number; ids?: readonly string[] | undefined},
): Promise<MachineRow[]> {
  let query = db.selectFrom('machines').selectAll()
  if (page.after !== undefined) query = query.where('name', '>', page.after)
  if (page.ids !== undefined)
    query = query.where('id', 'in', page.ids.length ? [...page.ids] : ['00000000-0000-0000-0000-000000000000'])
  return query.orderBy('name').limit(page.limit).execute()
}

export function insertInterface(db: Db, row: Insertable<schema.InterfacesTable>): Promise<InterfaceRow> {
  return db.insertInto('interfaces').values(row).returningAll().executeTakeFirstOrThrow()
}

export async function updateInterface(db: Db, mac: string, set: Updateable<schema.InterfacesTable>): Promise<void> {
  await db.updateTable('interfaces').set(set).where('mac', '=', mac).execute()
}

export function selectInterfaces(db: Db, machineIds?: readonly string[]): Promise<InterfaceRow[]> {
  let query = db.selectFrom('interfaces').selectAll()
  if (machineIds) {
    if (machineIds.length === 0) return Promise.resolve([])
    query = query.where('machine_id', 'in', [...machineIds])
  }
  return query.orderBy('mac').execute()
}

export async function upsertBmc(db: Db, row: Insertable<schema.BmcsTable>): Promise<void> {
  const {machine_id, ...set} = row
  await db
    .insertInto('bmcs')
    .values(row)
    .onConflict(conflict => conflict.column('machine_id').doUpdateSet({...set, machine_id}))
    .execute()
}

export async function updateBmcProven(db: Db, machineId: string, at: Date): Promise<void> {
  await db.updateTable('bmcs').set({proven_at: at}).where('machine_id', '=', machineId).execute()
}

export function selectBmc(db: Db, machineId: string): Promise<BmcRow | undefined> {
  return db.selectFrom('bmcs').selectAll().where('machine_id', '=', machineId).executeTakeFirst()
}

export async function selectSealedBmcs(db: Db): Promise<{id: string; sealed: Buffer}[]> {
  const rows = await db
    .selectFrom('bmcs')
    .select(['machine_id', 'password_sealed'])
    .where('password_sealed', 'is not', null)
    .execute()
  return rows.flatMap(row => (row.password_sealed ? [{id: row.machine_id, sealed: row.password_sealed}] : []))
}

/** @returns whether it was still as it was before */
export async function updateSealedBmc(
  db: Db,
  machineId: string,
  {before, after}: {before: Buffer; after: Buffer},
): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('bmcs')
    .set({password_sealed: after})
    .where('machine_id', '=', machineId)
    .where('password_sealed', '=', before)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

export async function selectSealedWindows(db: Db): Promise<{id: string; sealed: Buffer}[]> {
  const rows = await db
    .selectFrom('windows')
    .select(['id', 'bmc_password_sealed'])
    .where('bmc_password_sealed', 'is not', null)
    .execute()
  return rows.flatMap(row => (row.bmc_password_sealed ? [{id: row.id, sealed: row.bmc_password_sealed}] : []))
}

/** @returns whether it was still as it was before */
export async function updateSealedWindow(db: Db, id: string, {before, after}: {before: Buffer; after: Buffer}): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('windows')
    .set({bmc_password_sealed: after})
    .where('id', '=', id)
    .where('bmc_password_sealed', '=', before)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** Adds a version after the last one of the same source. The machine's row lock makes versions dense under concurrency. */
export async function insertFacts(db: Db, row: Omit<Insertable<schema.FactsTable>, 'version'>): Promise<number> {
  await db.selectFrom('machines').select('id').where('id', '=', row.machine_id).forUpdate().execute()
  const last = await db
    .selectFrom('facts')
    .select(({fn}) => fn.max('version').as('version'))
    .where('machine_id', '=', row.machine_id)
    .where('source', '=', row.source)
    .executeTakeFirst()
  const version = (last?.version ?? 0) + 1
  await db
    .insertInto('facts')
    .values({...row, version})
    .execute()
  return version
}

export function selectLatestFacts(db: Db, machineId: string, source: FactsRow['source']): Promise<FactsRow | undefined> {
  return db
    .selectFrom('facts')
    .selectAll()
    .where('machine_id', '=', machineId)
    .where('source', '=', source)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirst()
}

export async function upsertProfile(db: Db, row: Insertable<schema.ProfilesTable>): Promise<ProfileRow> {
  return db
    .insertInto('profiles')
    .values(row)
    .onConflict(conflict =>
      conflict.column('name').doUpdateSet(({ref}) => ({
        template: ref('excluded.template'),
        image: ref('excluded.image'),
        disk: ref('excluded.disk'),
        parameters: ref('excluded.parameters'),
        handoff: ref('excluded.handoff'),
        links: ref('excluded.links'),
      })),
    )
    .returningAll()
    .executeTakeFirstOrThrow()
}

export function selectProfile(db: Db, name: string): Promise<ProfileRow | undefined> {
  return db.selectFrom('profiles').selectAll().where('name', '=', name).executeTakeFirst()
}

export function selectProfiles(db: Db): Promise<ProfileRow[]> {
  return db.selectFrom('profiles').selectAll().orderBy('name').execute()
}

export function insertWindow(db: Db, row: Insertable<schema.WindowsTable>): Promise<WindowRow> {
  return db.insertInto('windows').values(row).returningAll().executeTakeFirstOrThrow()
}

export function selectWindow(db: Db, id: string): Promise<WindowRow | undefined> {
  return db.selectFrom('windows').selectAll().where('id', '=', id).executeTakeFirst()
}

export function selectWindows(db: Db, limit: number): Promise<WindowRow[]> {
  return db.selectFrom('windows').selectAll().orderBy('created_at', 'desc').limit(limit).execute()
}

/** The window with its row locked: whoever counts what came in through it does so one at a time. */
export function lockWindow(db: Db, id: string): Promise<WindowRow | undefined> {
  return db.selectFrom('windows').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()
}

/** Windows open at `now`, by the database's rows; one prefix may have several, the latest to close counts. */
export function selectOpenWindows(db: Db, now: Date): Promise<WindowRow[]> {
  return db.selectFrom('windows').selectAll().where('closed_at', 'is', null).where('until', '>', now).orderBy('until').execute()
}

export async function closeWindow(db: Db, id: string, now: Date): Promise<boolean> {
  const {numUpdatedRows} = await db
    .updateTable('windows')
    .set({closed_at: now})
    .where('id', '=', id)
    .where('closed_at', 'is', null)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/** Folds sightings into their rows. A new row is refused once its prefix and circuit hold `cap` of them: a flood stays bounded. */
/** All in one statement, so that a flood of strangers costs a count for each place, not for each of them. */
export async function upsertSightings(
  db: Db,
  rows: readonly (Omit<SightingRow, 'first_seen' | 'packets'> & {packets: number})[],
  cap: number,
): Promise<void> {
  if (rows.length === 0) return
  const column = <K extends keyof (typeof rows)[number]>(key: K) => rows.map(row => row[key])
  await sql`${prepared('inventory_upsert_sightings')} WITH seen AS MATERIALIZED (
      SELECT mac, prefix_id, circuit, max(last_seen) AS last_seen, sum(packets)::bigint AS packets,
        (array_agg(arch ORDER BY last_seen DESC) FILTER (WHERE arch IS NOT NULL))[1] AS arch,
        (array_agg(vendor_class ORDER BY last_seen DESC) FILTER (WHERE vendor_class IS NOT NULL))[1] AS vendor_class,
        (array_agg(dmi_uuid ORDER BY last_seen DESC) FILTER (WHERE dmi_uuid IS NOT NULL))[1] AS dmi_uuid
      FROM unnest(${column('mac')}::macaddr[], ${column('prefix_id')}::uuid[], ${column('circuit')}::text[],
        ${column('arch')}::text[], ${column('vendor_class')}::text[], ${column('dmi_uuid')}::text[],
        ${column('last_seen')}::timestamptz[], ${column('packets')}::bigint[])
        AS s (mac, prefix_id, circuit, arch, vendor_class, dmi_uuid, last_seen, packets)
      GROUP BY mac, prefix_id, circuit),
    places AS (
      SELECT p.prefix_id, p.circuit,
        (SELECT count(*) FROM sightings x WHERE x.prefix_id = p.prefix_id AND x.circuit = p.circuit) AS taken
      FROM (SELECT DISTINCT prefix_id, circuit FROM seen) p),
    ranked AS (
      SELECT seen.*, places.taken, old.mac IS NOT NULL AS known,
        row_number() OVER (PARTITION BY seen.prefix_id, seen.circuit, old.mac IS NULL ORDER BY seen.last_seen, seen.mac) AS place
      FROM seen JOIN places ON places.prefix_id = seen.prefix_id AND places.circuit = seen.circuit
      LEFT JOIN sightings old ON old.prefix_id = seen.prefix_id AND old.circuit = seen.circuit AND old.mac = seen.mac)
    INSERT INTO sightings (mac, prefix_id, circuit, arch, vendor_class, dmi_uuid, first_seen, last_seen, packets)
    SELECT mac, prefix_id, circuit, arch, vendor_class, dmi_uuid, last_seen, last_seen, packets FROM ranked
    WHERE known OR taken + place <= ${cap}::int ORDER BY prefix_id, circuit, mac
    ON CONFLICT (prefix_id, circuit, mac) DO UPDATE SET last_seen = excluded.last_seen, arch = coalesce(excluded.arch, sightings.arch),
      vendor_class = coalesce(excluded.vendor_class, sightings.vendor_class), dmi_uuid = coalesce(excluded.dmi_uuid, sightings.dmi_uuid),
      packets = sightings.packets + excluded.packets`.execute(db)
}

export function selectSightings(db: Db, page: {after?: string | undefined; limit: number}): Promise<SightingRow[]> {
  let query = db.selectFrom('sightings').selectAll()
  if (page.after !== undefined) query = query.where('mac', '>', page.after)
  return query.orderBy('mac').limit(page.limit).execute()
}

export async function deleteSightings(db: Db, where: {before?: Date; mac?: string}): Promise<void> {
  let query = db.deleteFrom('sightings')
  if (where.before) query = query.where('last_seen', '<', where.before)
  if (where.mac) query = query.where('mac', '=', where.mac)
  await query.execute()
}

/** Maker and product of the newest inspection. */
export async function selectModel(
  db: Kysely<Database>,
  machineId: string,
): Promise<{maker: string; product: string} | undefined> {
  const {rows} = await sql<{maker: string | null; product: string | null}>`
    SELECT facts->'dmi'->>'manufacturer' AS maker, facts->'dmi'->>'product' AS product FROM facts
    WHERE machine_id = ${machineId} AND source = 'inspection' ORDER BY version DESC LIMIT 1`.execute(db)
  const [row] = rows
  return row && {maker: row.maker ?? '', product: row.product ?? ''}
}

/** Whose options and loaders: of all three at most one is given, the site's when none is. */
export type ScopeOwner = {
  readonly prefix_id: string | null
  readonly profile_id: string | null
  readonly machine_id: string | null
}

/** With the profile's name: that is what jobs and machines remember of theirs. */
export function selectDhcpScopes(db: Db): Promise<(DhcpScopeRow & {profile: string | null})[]> {
  return db
    .selectFrom('dhcp_scopes')
    .leftJoin('profiles', 'profiles.id', 'dhcp_scopes.profile_id')
    .selectAll('dhcp_scopes')
    .select('profiles.name as profile')
    .orderBy('dhcp_scopes.id')
    .execute()
}

export function selectDhcpScope(db: Db, owner: ScopeOwner): Promise<DhcpScopeRow | undefined> {
  return db.selectFrom('dhcp_scopes').selectAll().where(isOwnedBy(owner)).executeTakeFirst()
}

/** Made when it is not there yet; its row is ours until the transaction ends. */
export async function lockDhcpScope(db: Db, owner: ScopeOwner): Promise<DhcpScopeRow> {
  await db
    .insertInto('dhcp_scopes')
    .values(owner)
    .onConflict(conflict => conflict.doNothing())
    .execute()
  return db.selectFrom('dhcp_scopes').selectAll().where(isOwnedBy(owner)).forUpdate().executeTakeFirstOrThrow()
}

function isOwnedBy({prefix_id, profile_id, machine_id}: ScopeOwner) {
  return sql<boolean>`prefix_id IS NOT DISTINCT FROM ${prefix_id}::uuid AND profile_id IS NOT DISTINCT FROM ${profile_id}::uuid
    AND machine_id IS NOT DISTINCT FROM ${machine_id}::uuid`
}

export async function updateDhcpScope(db: Db, id: number, set: Updateable<schema.DhcpScopesTable>): Promise<void> {
  await db.updateTable('dhcp_scopes').set(set).where('id', '=', id).execute()
}

export function selectClientKeys(db: Db, machineId?: string): Promise<ClientKeyRow[]> {
  let query = db.selectFrom('client_keys').selectAll()
  if (machineId !== undefined) query = query.where('machine_id', '=', machineId)
  return query.orderBy('kind').orderBy('value').execute()
}

/** @returns undefined when another machine, or this one, has the key already; the transaction stays usable */
export function insertClientKey(db: Db, row: Insertable<schema.ClientKeysTable>): Promise<ClientKeyRow | undefined> {
  return db
    .insertInto('client_keys')
    .values(row)
    .onConflict(conflict => conflict.doNothing())
    .returningAll()
    .executeTakeFirst()
}

export function selectClientKey(db: Db, key: Pick<ClientKeyRow, 'kind' | 'value' | 'relay'>): Promise<ClientKeyRow | undefined> {
  return db
    .selectFrom('client_keys')
    .selectAll()
    .where('kind', '=', key.kind)
    .where('value', '=', key.value)
    .where(sql<boolean>`relay IS NOT DISTINCT FROM ${key.relay}::inet`)
    .executeTakeFirst()
}

export async function deleteClientKey(db: Db, machineId: string, id: string): Promise<ClientKeyRow | undefined> {
  return db.deleteFrom('client_keys').where('id', '=', id).where('machine_id', '=', machineId).returningAll().executeTakeFirst()
}

/** Every machine with its newest inspection's maker and product, and with all of its facts where they are asked for. */
export async function selectSelectable(
  db: Kysely<Database>,
  withFacts: boolean,
): Promise<
  {id: string; name: string; labels: Record<string, string>; model: string | null; facts: Record<string, unknown> | null}[]
> {
  const {rows} = await sql<{
    id: string
    name: string
    labels: Record<string, string>
    model: string | null
    facts: Record<string, unknown> | null
  }>`
    SELECT m.id, m.name, m.labels, nullif(btrim(concat_ws(' ', f.facts->'dmi'->>'manufacturer', f.facts->'dmi'->>'product')), '') AS model,
      CASE WHEN ${withFacts} THEN f.facts END AS facts
    FROM machines m LEFT JOIN LATERAL (
      SELECT facts FROM facts WHERE machine_id = m.id AND source = 'inspection' ORDER BY version DESC LIMIT 1) f ON true
    ORDER BY m.name`.execute(db)
  return rows
}
