/** Every SQL statement on groups and group_members. */
import {type Insertable, type Kysely, type Selectable, sql, type Updateable} from 'kysely'
import type * as schema from '../../../lib/schema.ts'
import type {Database} from '../../../lib/schema.ts'

export type GroupRow = Selectable<schema.GroupsTable>
export type MemberRow = Selectable<schema.GroupMembersTable>
export type MemberCounts = Readonly<Record<MemberRow['state'], number>>

type Db = Kysely<Database>

/** One group is planned at a time, so that each sees what the ones before it may still do. */
export async function lockPlanning(db: Db): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended('ingot groups', 0))`.execute(db)
}

export async function insertGroup(db: Db, row: Insertable<schema.GroupsTable>, machineIds: readonly string[]): Promise<GroupRow> {
  const group = await db.insertInto('groups').values(row).returningAll().executeTakeFirstOrThrow()
  await sql`INSERT INTO group_members (group_id, ordinal, machine_id)
    SELECT ${group.id}, n, m FROM unnest(${[...machineIds]}::uuid[]) WITH ORDINALITY AS u (m, n)`.execute(db)
  return group
}

export function selectGroup(db: Db, id: string): Promise<GroupRow | undefined> {
  return db.selectFrom('groups').selectAll().where('id', '=', id).executeTakeFirst()
}

export function lockGroup(db: Db, id: string): Promise<GroupRow | undefined> {
  return db.selectFrom('groups').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()
}

export function selectGroups(db: Db, limit: number): Promise<GroupRow[]> {
  return db.selectFrom('groups').selectAll().orderBy('created_at', 'desc').limit(limit).execute()
}

export async function selectOpenGroupIds(db: Db): Promise<string[]> {
  const rows = await db.selectFrom('groups').select('id').where('finished_at', 'is', null).orderBy('created_at').execute()
  return rows.map(row => row.id)
}

export async function updateGroup(db: Db, id: string, set: Updateable<schema.GroupsTable>): Promise<void> {
  await db.updateTable('groups').set(set).where('id', '=', id).execute()
}

export function selectMembers(db: Db, groupId: string): Promise<MemberRow[]> {
  return db.selectFrom('group_members').selectAll().where('group_id', '=', groupId).orderBy('ordinal').execute()
}

export function selectNextPending(db: Db, groupId: string): Promise<MemberRow | undefined> {
  return db
    .selectFrom('group_members')
    .selectAll()
    .where('group_id', '=', groupId)
    .where('state', '=', 'pending')
    .orderBy('ordinal')
    .limit(1)
    .executeTakeFirst()
}

export async function countMembers(db: Db, groupId: string): Promise<MemberCounts> {
  const rows = await db
    .selectFrom('group_members')
    .select(['state', ({fn}) => fn.countAll<number>().as('members')])
    .where('group_id', '=', groupId)
    .groupBy('state')
    .execute()
  const none = {pending: 0, started: 0, succeeded: 0, failed: 0, skipped: 0}
  return {...none, ...Object.fromEntries(rows.map(row => [row.state, Number(row.members)]))}
}

export async function updateMember(
  db: Db,
  groupId: string,
  ordinal: number,
  set: Updateable<schema.GroupMembersTable>,
): Promise<void> {
  await db.updateTable('group_members').set(set).where('group_id', '=', groupId).where('ordinal', '=', ordinal).execute()
}

/** Brings members up to what has become of their jobs. */
export async function settleMembers(db: Db, groupId: string): Promise<void> {
  await sql`UPDATE group_members m SET state = CASE WHEN j.state = 'succeeded' THEN 'succeeded' ELSE 'failed' END,
      why = CASE WHEN j.state = 'succeeded' THEN NULL ELSE j.cause->>'code' END
    FROM jobs j WHERE m.group_id = ${groupId} AND m.state = 'started' AND j.id = m.job_id AND j.finished_at IS NOT NULL`.execute(
    db,
  )
}

export async function skipPending(db: Db, groupId: string, why: string): Promise<void> {
  await db
    .updateTable('group_members')
    .set({state: 'skipped', why})
    .where('group_id', '=', groupId)
    .where('state', '=', 'pending')
    .execute()
}

/** Machines that destructive groups have started on since, or may start on yet. */
export async function countDestructive(db: Db, since: Date): Promise<number> {
  const {rows} = await sql<{
    machines: number
  }>`SELECT count(*)::int AS machines FROM group_members m JOIN groups g ON g.id = m.group_id
    WHERE g.destructive AND (m.started_at > ${since} OR (m.state = 'pending' AND g.finished_at IS NULL))`.execute(db)
  return rows[0]?.machines ?? 0
}
