/** `lib/backup.ts`: what is written comes back, from one moment, and a damaged backup leaves nothing behind. */
import {randomBytes} from 'node:crypto'
import {mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {sql} from 'kysely'
import {afterEach, describe, expect, it} from 'vitest'
import {dbCommand} from '../../cli/db.ts'
import {readBackup, restoreBackup} from '../../lib/backup.ts'
import type {Db} from '../../lib/db.ts'
import {silentLog} from '../../lib/log.ts'
import {MIGRATIONS} from '../../lib/migrations/registry.ts'
import {migrate, schemaState} from '../../lib/schema-state.ts'
import {createTestDatabase, type TestDatabase} from '../support/database.ts'

const cleanups: (() => Promise<unknown> | unknown)[] = []
/** Everything that text formats get wrong: their own marks, escapes, line ends, other planes. */
const AWKWARD = [
  '\\.',
  '\\N',
  '\\',
  'a\tb',
  'a\nb',
  'a\r\nb',
  '',
  "'; DROP TABLE vrfs; --",
  'ünïcödé 🦀',
  '\\.\n',
  'SHA256 0',
  '\u2028',
]

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

describe('a backup', () => {
  it('restores every row of every table, byte for byte, into an empty database', async () => {
    const from = await database()
    await fill(from.db)
    const backup = await back(from)
    const to = await database({empty: true})
    const {rows} = await restoreBackup({url: to.url, log: silentLog}, chunks(backup))
    expect(rows).toBeGreaterThan(100)
    expect(await dump(to.db)).toEqual(await dump(from.db))
    expect(await schemaState(to.db)).toEqual({state: 'current', applied: Object.keys(MIGRATIONS), pending: []})
  })

  it('restores into a migrated database that was not used yet', async () => {
    const from = await database()
    await fill(from.db)
    const to = await database()
    await restoreBackup({url: to.url, log: silentLog}, chunks(await back(from)))
    expect(await dump(to.db)).toEqual(await dump(from.db))
  })

  it('goes on where identities and sequences were', async () => {
    const from = await database()
    await fill(from.db)
    await sql`SELECT setval('fences', 4711)`.execute(from.db)
    const to = await database({empty: true})
    await restoreBackup({url: to.url, log: silentLog}, chunks(await back(from)))
    const next = await sql<{fence: number}>`SELECT nextval('fences') AS fence`.execute(to.db)
    expect(next.rows).toEqual([{fence: 4712}])
    const last = await sql<{id: number}>`SELECT max(id) AS id FROM evidence`.execute(to.db)
    const added = await to.db
      .insertInto('evidence')
      .values({at: new Date(), kind: 'after', source: 'test', detail: '{}'})
      .returning('id')
      .executeTakeFirstOrThrow()
    expect(added.id).toBeGreaterThan(last.rows[0]?.id ?? Number.POSITIVE_INFINITY)
  })

  it('gives events the transaction ids of the cluster they are restored into', async () => {
    const from = await database()
    await fill(from.db)
    const to = await database({empty: true})
    await restoreBackup({url: to.url, log: silentLog}, chunks(await back(from)))
    const {rows} = await sql`SELECT count(*) AS count FROM events WHERE txid >= pg_snapshot_xmin(pg_current_snapshot())`.execute(
      to.db,
    )
    expect(rows).toEqual([{count: 0}])
    expect((await sql<{count: number}>`SELECT count(*) AS count FROM events`.execute(to.db)).rows[0]?.count).toBeGreaterThan(0)
  })

  it('is of one moment, whatever is written meanwhile', async () => {
    const from = await database()
    await from.db
      .insertInto('api_tokens')
      .values({name: 'first', token_hash: Buffer.from('1'), permission: 'view'})
      .execute()
    const pieces: Uint8Array[] = []
    let wrote = false
    for await (const piece of readBackup({url: from.url, log: silentLog})) {
      pieces.push(piece)
      if (wrote) continue
      wrote = true
      // Both a table that was already read and those still to come.
      await from.db
        .insertInto('api_tokens')
        .values({name: 'late', token_hash: Buffer.from('2'), permission: 'view'})
        .execute()
      await from.db.insertInto('vrfs').values({name: 'late'}).execute()
    }
    const to = await database({empty: true})
    await restoreBackup({url: to.url, log: silentLog}, chunks(Buffer.concat(pieces)))
    expect((await to.db.selectFrom('api_tokens').select('name').execute()).map(row => row.name)).toEqual(['first'])
    expect((await to.db.selectFrom('vrfs').select('name').execute()).map(row => row.name)).toEqual(['default'])
  })

  it('passes through in pieces, however large a row or a table is', async () => {
    const from = await database()
    const large = {text: randomBytes(6 * 1024 * 1024).toString('base64')}
    await from.db
      .insertInto('events')
      .values({at: new Date(), actor: 'test', kind: 'large', detail: JSON.stringify(large)})
      .execute()
    await sql`INSERT INTO evidence (at, kind, source, detail) SELECT now(), 'many', 'test', jsonb_build_object('n', n, 'pad', repeat('x', 100))
      FROM generate_series(1, 50000) AS n`.execute(from.db)
    const to = await database({empty: true})
    await restoreBackup({url: to.url, log: silentLog}, readBackup({url: from.url, log: silentLog}))
    const [event] = await to.db.selectFrom('events').select('detail').execute()
    expect(event?.detail).toEqual(large)
    const sum = (db: Db) => sql`SELECT count(*) AS count, sum((detail->>'n')::int8) AS total FROM evidence`.execute(db)
    expect((await sum(to.db)).rows).toEqual((await sum(from.db)).rows)
  })

  it('that is damaged anywhere, or cut off anywhere, is refused and leaves the database empty', async () => {
    const from = await database()
    await fill(from.db)
    const backup = await back(from)
    const places = [5, 200, Math.floor(backup.length / 2), backup.length - 70, backup.length - 10]
    const broken = [
      ...places.map(place => backup.subarray(0, place)),
      ...places.map(place => flip(backup, place)),
      backup.subarray(0, backup.length - 1),
      Buffer.concat([backup, Buffer.from('more\n')]),
    ]
    const to = await database()
    for (const bytes of broken) {
      const refusal = await restoreBackup({url: to.url, log: silentLog}, chunks(bytes)).catch(error => error)
      expect(refusal).toBeInstanceOf(Error)
      expect((await to.db.selectFrom('machines').select('id').execute()).length).toBe(0)
      expect((await to.db.selectFrom('vrfs').select('name').execute()).map(row => row.name)).toEqual(['default'])
    }
    await restoreBackup({url: to.url, log: silentLog}, chunks(backup))
  })

  it('is refused by a database that is in use', async () => {
    const from = await database()
    const to = await database()
    await to.db
      .insertInto('api_tokens')
      .values({name: 'mine', token_hash: Buffer.from('1'), permission: 'view'})
      .execute()
    const refusal = await restoreBackup({url: to.url, log: silentLog}, chunks(await back(from))).catch(error => error)
    expect(refusal.code).toBe('CONFLICT')
    expect(refusal.detail).toContain('api_tokens')
  })

  it('of an older Ingot is restored at its own level and migrated from there', async () => {
    const from = await database({empty: true})
    const names = Object.keys(MIGRATIONS)
    const older = names[1] ?? ''
    await migrate(from.db, older)
    await from.db.insertInto('profiles').values({name: 'p', template: 't', image: 'i'}).execute()
    const backup = await back(from)
    const migrated = await database()
    expect((await restoreBackup({url: migrated.url, log: silentLog}, chunks(backup)).catch(error => error)).code).toBe('CONFLICT')
    const to = await database({empty: true})
    await restoreBackup({url: to.url, log: silentLog}, chunks(backup))
    expect((await schemaState(to.db)).state).toBe('current')
    expect((await to.db.selectFrom('profiles').select('name').execute()).map(row => row.name)).toEqual(['p'])
  })

  it('of a newer Ingot is refused', async () => {
    const backup = (await back(await database())).toString('latin1').replace(Object.keys(MIGRATIONS).at(-1) ?? '', '9999-future')
    const to = await database({empty: true})
    const refusal = await restoreBackup({url: to.url, log: silentLog}, chunks(Buffer.from(backup, 'latin1'))).catch(
      error => error,
    )
    expect(refusal.code).toBe('INVALID_INPUT')
    expect(refusal.detail).toContain('9999-future')
  })
})

describe('ingot db', () => {
  it('backs up into a file that only its owner reads, restores it, and says how much', async () => {
    const from = await database()
    await fill(from.db)
    const folder = mkdtempSync(join(tmpdir(), 'ingot-backup-'))
    cleanups.push(() => rmSync(folder, {recursive: true, force: true}))
    const file = join(folder, 'backup')
    await runDb(from, folder, 'backup', file)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readFileSync(file, 'utf8').startsWith('INGOT-BACKUP 1\n')).toBe(true)
    const to = await database({empty: true})
    const said = await runDb(to, folder, 'restore', file)
    expect(said).toMatch(/^Restored \d+ rows of \d+ tables/)
    expect(await dump(to.db)).toEqual(await dump(from.db))
    expect(await runDb(to, folder, 'migrate')).toBe('The schema is current.\n')
  })

  it('leaves no half-written file, and names the one it cannot read', async () => {
    const from = await database()
    const folder = mkdtempSync(join(tmpdir(), 'ingot-backup-'))
    cleanups.push(() => rmSync(folder, {recursive: true, force: true}))
    writeFileSync(join(folder, 'file'), '')
    await expect(runDb(from, folder, 'backup', join(folder, 'file', 'inside'))).rejects.toMatchObject({code: 'INVALID_INPUT'})
    const to = await database({empty: true})
    await expect(runDb(to, folder, 'restore', join(folder, 'nothing'))).rejects.toThrow(/nothing/)
  })
})

async function database(options: {empty?: boolean} = {}): Promise<TestDatabase> {
  const made = await createTestDatabase(options)
  cleanups.push(() => made.drop())
  return made
}

async function back(from: TestDatabase): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of readBackup({url: from.url, log: silentLog})) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** In pieces of odd sizes, so that lines and characters are cut everywhere. */
async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 3) % 1021 || 7) yield bytes.subarray(at, at + size)
}

function flip(bytes: Buffer, place: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[place] = (copy[place] ?? 0) ^ 1
  return copy
}

/** Rows in every table that can be filled without knowing its rules, and in the partitioned ones; awkward text everywhere it may be. */
async function fill(db: Db): Promise<void> {
  const vrf = await db.selectFrom('vrfs').select('id').executeTakeFirstOrThrow()
  const prefix = await db
    .insertInto('prefixes')
    .values({vrf_id: vrf.id, cidr: '10.77.0.0/16', gateway: '10.77.0.1', dns: ['10.77.0.2', '2001:db8::1']})
    .returning('id')
    .executeTakeFirstOrThrow()
  for (const [index, text] of AWKWARD.entries()) {
    const address = await db
      .insertInto('addresses')
      .values({vrf_id: vrf.id, prefix_id: prefix.id, address: `10.77.1.${index + 1}`})
      .returning('id')
      .executeTakeFirstOrThrow()
    await db
      .insertInto('leases')
      .values({
        address_id: address.id,
        mac: `52:54:00:00:00:${(16 + index).toString(16)}`,
        client_id: Buffer.from([0, 9, 10, 92, 46, 255, index]),
        state: 'bound',
        starts_at: new Date(0),
        expires_at: new Date(8.64e14),
        updated_at: new Date(1_700_000_000_123),
      })
      .execute()
    await db
      .insertInto('profiles')
      .values({name: `p${index}`, template: text, image: text, parameters: JSON.stringify({[text]: text})})
      .execute()
    await db
      .insertInto('api_tokens')
      .values({name: text, token_hash: Buffer.from(`${index}\\x00`), permission: 'view'})
      .execute()
  }
  for (let day = 0; day < 30; day++) {
    const at = new Date(Date.UTC(2024, 0, 1 + day))
    const text = AWKWARD[day % AWKWARD.length] ?? ''
    const detail = JSON.stringify({text})
    await db.insertInto('evidence').values({at, kind: text, source: 'test', mac: '52:54:00:00:00:01', detail}).execute()
    await db.insertInto('events').values({at, kind: 'k', actor: text, subject: null, detail}).execute()
  }
}

/** Every table's rows as text, in an order that does not depend on where they lie; without the columns a backup leaves out. */
async function dump(db: Db): Promise<Record<string, unknown[]>> {
  const {rows: tables} = await sql<{
    name: string
  }>`SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
    AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT LIKE 'kysely%' ORDER BY relname`.execute(db)
  const all: Record<string, unknown[]> = {}
  for (const {name} of tables) {
    const {rows} = await sql<{
      text: string
    }>`SELECT (to_jsonb(t) - 'txid')::text AS text FROM ${sql.table(name)} AS t ORDER BY 1`.execute(db)
    all[name] = rows.map(row => row.text)
  }
  return all
}

/** Runs the command as `bin/ingot` would, and gives what it said. */
async function runDb(target: TestDatabase, state: string, ...words: string[]): Promise<string> {
  writeFileSync(join(state, 'ingot.json'), JSON.stringify({database_url: target.url}))
  const write = process.stdout.write
  let said = ''
  process.stdout.write = ((text: string) => {
    said += text
    return true
  }) as typeof process.stdout.write
  try {
    await dbCommand().parseAsync([...words, '--state', state], {from: 'user'})
  } finally {
    process.stdout.write = write
  }
  return said
}
