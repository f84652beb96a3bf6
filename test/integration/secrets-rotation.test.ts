/** The key that seals BMC credentials is changed while processes use it, and whoever does it may die at any moment. */
import {createCipheriv, randomBytes} from 'node:crypto'
import {mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterAll, afterEach, beforeAll, beforeEach, describe, expect, it} from 'vitest'
import type {Mac} from '../../lib/addresses.ts'
import {sleep, systemClock} from '../../lib/clock.ts'
import {type Keyring, keyringOf, parseKeyring} from '../../lib/keyring.ts'
import {silentLog} from '../../lib/log.ts'
import {createSealer, type SealPlace} from '../../lib/seal.ts'
import {Secret} from '../../lib/secret.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {announceKeys} from '../../services/supervisor/keyholders.ts'
import {type RotationParts, rotateKeys} from '../../services/supervisor/rotate-keys.ts'
import {readSealingKeys} from '../../services/supervisor/sealing-key.ts'
import {createTestDatabase, type TestDatabase} from '../support/database.ts'

const MACHINES = 40
let database: TestDatabase
let directory: string
let keyFile: string
let machines: string[]
const stops: (() => Promise<void>)[] = []

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ingot-rotate-'))
  keyFile = join(directory, 'sealing.key')
  writeFileSync(keyFile, randomBytes(32), {mode: 0o600})
  const {db} = database
  for (const table of ['keyholders', 'bmcs', 'windows', 'machines'] as const) await db.deleteFrom(table).execute()
  machines = []
  const inventory = createInventory({db, sealer: createSealer(() => readSealingKeys(keyFile))})
  for (let number = 0; number < MACHINES; number++) {
    const {id} = await inventory.createMachine(db, {name: `m${number}`, origin: 'declared', macs: [macOf(number)]})
    machines.push(id)
    await inventory.setBmc(
      db,
      id,
      {driver: 'ipmi', address: '127.0.0.1', username: 'u', password: passwordOf(number)},
      new Date(),
    )
  }
  await inventory.openWindow(db, {
    prefixId: machines[0]!,
    until: new Date(Date.now() + 60_000),
    clean: false,
    bmcUsername: 'u',
    bmcPassword: new Secret('of the window'),
    createdBy: 'test',
  })
})
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
  rmSync(directory, {recursive: true, force: true})
})

const macOf = (number: number) => `52:54:00:ab:00:${number.toString(16).padStart(2, '0')}` as Mac
const passwordOf = (number: number) => new Secret(`password ${number}`)

/** What a process that holds this ring reads; throws where it cannot. */
async function readAll(ring: Keyring): Promise<string[]> {
  const inventory = createInventory({db: database.db, sealer: createSealer(() => ring)})
  const bmcs = await Promise.all(machines.map(id => inventory.openBmc(id)))
  const [window] = await inventory.listWindows(1)
  return [...bmcs.map(bmc => bmc?.password?.reveal() ?? 'none'), inventory.windowPassword(window!)?.reveal() ?? 'none']
}

const everything = () => [...machines.map((_, number) => passwordOf(number).reveal()), 'of the window']

function rotate(more: Partial<RotationParts> = {}) {
  const signal = new AbortController().signal
  return rotateKeys({keyFile, db: database.db, renewKeys: () => undefined, waitsFor: () => undefined, signal, ...more})
}

describe('a rotation', () => {
  it('leaves one new key, under which everything opens and the old one nothing', async () => {
    const before = readSealingKeys(keyFile)
    const rotation = await rotate()
    const after = readSealingKeys(keyFile)
    expect(rotation).toEqual({from: before.primary.id, to: after.primary.id, resealed: MACHINES + 1, unopenable: []})
    expect(after.keys.length).toBe(1)
    expect(readFileSync(keyFile).length).toBe(32)
    expect(statSync(keyFile).mode & 0o777).toBe(0o600)
    expect(await readAll(after)).toEqual(everything())
    await expect(readAll(before)).rejects.toThrow(`sealed under key ${after.primary.id}`)
    const counted = await createInventory({db: database.db}).countSealed()
    expect(counted).toEqual({[after.primary.id]: MACHINES + 1})
    const events = await database.db.selectFrom('events').selectAll().where('kind', '=', 'sealing_key_rotated').execute()
    expect(events.at(-1)?.detail).toMatchObject({from: before.primary.id, to: after.primary.id})
  })

  it('takes along values of the layout that named no key', async () => {
    const {primary} = readSealingKeys(keyFile)
    const place = {table: 'bmcs', row: machines[3]!, field: 'password'}
    const old = sealWithoutName(primary.key, 'an old one', place)
    await database.db.updateTable('bmcs').set({password_sealed: old}).where('machine_id', '=', place.row).execute()
    expect((await readAll(readSealingKeys(keyFile)))[3]).toBe('an old one')
    expect(await rotate()).toMatchObject({resealed: MACHINES + 1, unopenable: []})
    expect((await readAll(readSealingKeys(keyFile)))[3]).toBe('an old one')
  })

  it.each(['coming', 'primary', 'resealed', 'done'] as const)(
    'F1 killed before the stage `%s`, it goes on from there, and nothing was unreadable meanwhile',
    async stage => {
      const before = readSealingKeys(keyFile)
      const killed = new Error('killed')
      const dying = rotate({
        stage: name => {
          if (name === stage) throw killed
        },
      })
      await expect(dying).rejects.toBe(killed)
      expect(await readAll(readSealingKeys(keyFile))).toEqual(everything())
      await rotate()
      const after = readSealingKeys(keyFile)
      expect(after.keys.map(({role}) => role)).toEqual(['primary'])
      expect(after.primary.id).not.toBe(before.primary.id)
      expect(await readAll(after)).toEqual(everything())
    },
  )

  it('F1 killed in the midst of sealing anew, it leaves each value under one of the two keys', async () => {
    const dying = rotate({db: mortal(7)})
    await expect(dying).rejects.toThrow('the power is cut')
    const ring = readSealingKeys(keyFile)
    expect(ring.keys.map(({role}) => role)).toEqual(['primary', 'leaving'])
    const counts = await createInventory({db: database.db}).countSealed()
    expect(Object.keys(counts).toSorted()).toEqual(ring.keys.map(({id}) => id).toSorted())
    expect(await readAll(ring)).toEqual(everything())
    expect(await rotate()).toMatchObject({resealed: MACHINES + 1 - 7})
    expect(await readAll(readSealingKeys(keyFile))).toEqual(everything())
  })

  it('waits for every process that holds the keys, names it, and takes no key away that one still needs', async () => {
    let held = readSealingKeys(keyFile)
    const listeners: (() => void)[] = []
    const keys = {current: () => held, onChange: (listener: () => void) => void listeners.push(listener)}
    const holder = announceKeys({db: database.db, keys, clock: systemClock, log: silentLog})
    stops.push(() => holder.stop())
    await expect.poll(() => database.db.selectFrom('keyholders').selectAll().execute()).toHaveLength(1)
    const waited: number[] = []
    let finished = false
    const rotation = rotate({waitsFor: holders => void waited.push(...holders.map(({pid}) => pid))}).then(result => {
      finished = true
      return result
    })
    await expect.poll(() => waited).toEqual([process.pid])
    await sleep(600)
    // The old process seals and opens as ever, for the new key seals nothing yet.
    expect(finished).toBe(false)
    expect(readSealingKeys(keyFile).primary.id).toBe(held.primary.id)
    expect(await readAll(held)).toEqual(everything())
    const renew = () => {
      held = readSealingKeys(keyFile)
      for (const listener of listeners) listener()
    }
    renew()
    await expect.poll(() => waited).toEqual([process.pid, process.pid])
    expect(await readAll(held)).toEqual(everything())
    // It seals with the old key still; what it writes now must be found later.
    await createInventory({db: database.db, sealer: createSealer(() => held)}).setBmc(
      database.db,
      machines[5]!,
      {driver: 'ipmi', address: '127.0.0.1', username: 'u', password: new Secret('written meanwhile')},
      new Date(),
    )
    renew()
    expect(await rotation).toMatchObject({unopenable: []})
    renew()
    const expected = everything()
    expected[5] = 'written meanwhile'
    expect(await readAll(held)).toEqual(expected)
  })

  it('leaves a value alone that was changed while it was being sealed anew', async () => {
    const {db} = database
    const ring = keyringOf(['primary', randomBytes(32)], ['leaving', readSealingKeys(keyFile).primary.key])
    const inventory = createInventory({db, sealer: createSealer(() => ring)})
    const store = await import('../../services/inventory/store.ts')
    const [first] = await store.selectSealedBmcs(db)
    await inventory.setBmc(
      db,
      first!.id,
      {driver: 'ipmi', address: '127.0.0.1', username: 'u', password: new Secret('newer')},
      new Date(),
    )
    expect(await store.updateSealedBmc(db, first!.id, {before: first!.sealed, after: first!.sealed})).toBe(false)
    expect((await inventory.openBmc(first!.id))?.password?.reveal()).toBe('newer')
  })

  it('names what opens with no key, and is not held up by it', async () => {
    await database.db
      .updateTable('bmcs')
      .set({password_sealed: randomBytes(120)})
      .where('machine_id', '=', machines[0]!)
      .execute()
    const rotation = await rotate()
    expect(rotation.unopenable).toEqual([{table: 'bmcs', row: machines[0], field: 'password'}])
    expect(rotation.resealed).toBe(MACHINES)
  })

  it('is the only one at a time', async () => {
    const {promise, resolve: goOn} = Promise.withResolvers<void>()
    const first = rotate({stage: name => (name === 'primary' ? promise : undefined)})
    await expect.poll(() => readSealingKeys(keyFile).keys.length).toBe(2)
    await expect(rotate()).rejects.toMatchObject({code: 'DATABASE_LOCKED'})
    goOn()
    await first
  })

  it('can be given up while it waits, and changes nothing by that', async () => {
    const keys = {current: () => readSealingKeys(`${keyFile}.old`), onChange: () => undefined}
    writeFileSync(`${keyFile}.old`, readFileSync(keyFile), {mode: 0o600})
    const holder = announceKeys({db: database.db, keys, clock: systemClock, log: silentLog})
    stops.push(() => holder.stop())
    await expect.poll(() => database.db.selectFrom('keyholders').selectAll().execute()).toHaveLength(1)
    const stop = new AbortController()
    const rotation = rotate({signal: stop.signal, waitsFor: () => stop.abort(new Error('given up'))})
    await expect(rotation).rejects.toThrow('given up')
    expect(await readAll(keys.current())).toEqual(everything())
  })
})

describe('the file of keys', () => {
  it('refuses what is no ring: another length, another header, two primaries, a torn line', () => {
    const key = randomBytes(32).toString('base64')
    const texts = ['', 'x', `ingot-sealing-keys 2\nprimary ${key}\n`, `ingot-sealing-keys 1\nprimary ${key}\nprimary ${key}\n`]
    for (const text of [...texts, `ingot-sealing-keys 1\nprimary ${key}\ncoming ${key.slice(0, 20)}`, 'ingot-sealing-keys 1\n'])
      expect(parseKeyring(Buffer.from(text))).toBeUndefined()
  })
})

/** The database until so many values were written anew. */
function mortal(writes: number): RotationParts['db'] {
  let left = writes
  return new Proxy(database.db, {
    get(target, name, receiver) {
      if (name === 'updateTable' && left-- <= 0) throw new Error('the power is cut')
      const value = Reflect.get(target, name, receiver)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** As the first version sealed. */
function sealWithoutName(key: Buffer, text: string, place: SealPlace): Buffer {
  const data = Buffer.from(JSON.stringify([place.table, place.row, place.field, 1]))
  const seal = (under: Buffer, plain: Buffer) => {
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', under, iv)
    cipher.setAAD(data)
    return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }
  const dataKey = randomBytes(32)
  return Buffer.concat([Buffer.from([1]), seal(key, dataKey), seal(dataKey, Buffer.from(text))])
}
