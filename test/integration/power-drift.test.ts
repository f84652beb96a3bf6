/** Power that is not what it should be is noticed and told, over simulated BMCs on the wire; nothing is switched by that. */
import {afterAll, beforeAll, beforeEach, describe, expect, it} from 'vitest'
import type {Mac} from '../../lib/addresses.ts'
import {systemClock} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import {silentLog} from '../../lib/log.ts'
import {createSealer} from '../../lib/seal.ts'
import {Secret} from '../../lib/secret.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {lookAtPower} from '../../services/lifecycle/index.ts'
import {createMemoryStore, createPower, type Power} from '../../services/power/index.ts'
import {type SimulatedBmc, startBmc} from '../../sim/bmc/index.ts'
import {createTestDatabase, type TestDatabase} from '../support/database.ts'

const PASSWORD = 'drift-Kk31'
const MINUTE_MS = 60_000
let database: TestDatabase
let services: Parameters<typeof lookAtPower>[0]
let power: Power
let now: Date

beforeAll(async () => {
  database = await createTestDatabase()
  const {db} = database
  const sealer = createSealer(Buffer.alloc(32, 7))
  power = createPower({log: silentLog, clock: systemClock, retransmitMs: [200, 300, 400, 500], store: createMemoryStore(db)})
  services = {db, evidence: createEvidence({db}), inventory: createInventory({db, sealer}), power, log: silentLog}
})
afterAll(async () => {
  await power.close()
  await database.drop()
})
beforeEach(async () => {
  now = new Date()
  await services.evidence.keepPartitions(now, 90)
  for (const table of ['jobs', 'machine_states', 'bmcs', 'machines'] as const) await database.db.deleteFrom(table).execute()
})

let machines = 0
async function declare(desired: 'on' | 'off' | null, bmc?: SimulatedBmc): Promise<string> {
  const {db} = database
  machines += 1
  const number = machines
  const mac = `52:54:00:dd:00:${number.toString(16).padStart(2, '0')}` as Mac
  return withTx(db, async tx => {
    const {id} = await services.inventory.createMachine(tx, {name: `drift${number}`, macs: [mac], origin: 'declared'})
    const access = {
      driver: 'ipmi',
      address: '127.0.0.1',
      port: bmc?.port,
      username: 'ingot',
      password: new Secret(PASSWORD),
    } as const
    await services.inventory.setBmc(tx, id, bmc ? access : {driver: 'manual'}, now)
    await tx
      .insertInto('machine_states')
      .values({machine_id: id, state: 'active', state_since: now, power_desired: desired, power_observed: desired, power_at: now})
      .execute()
    return id
  })
}

const start = () => startBmc({users: {ingot: {password: PASSWORD}}})
const never = new AbortController().signal
/** Looks once everybody's turn has come again. */
async function look(afterMs = 6 * MINUTE_MS): Promise<number> {
  now = new Date(now.getTime() + afterMs)
  return lookAtPower(services, now, never)
}
const stateOf = (id: string) =>
  database.db.selectFrom('machine_states').selectAll().where('machine_id', '=', id).executeTakeFirstOrThrow()
async function eventsOf(id: string): Promise<string[]> {
  const rows = await database.db.selectFrom('events').select('kind').where('machine_id', '=', id).orderBy('id').execute()
  return rows.map(({kind}) => kind)
}

describe('the look at power', () => {
  it('tells once that a machine went off by itself, and once that it is back, and switches nothing', async () => {
    const bmc = await start()
    const id = await declare('on', bmc)
    bmc.power = 1
    await look()
    expect(await stateOf(id)).toMatchObject({power_observed: 'on', power_drift_since: null})
    bmc.power = 0
    for (let round = 0; round < 3; round++) await look()
    const drifted = await stateOf(id)
    expect(drifted).toMatchObject({power_desired: 'on', power_observed: 'off', power_drift_since: expect.any(Date)})
    bmc.power = 1
    for (let round = 0; round < 2; round++) await look()
    expect(await stateOf(id)).toMatchObject({power_observed: 'on', power_drift_since: null})
    expect(await eventsOf(id)).toEqual(['power_drifted', 'power_settled'])
    expect(bmc.orders).toEqual([])
    await bmc.stop()
  })

  it('F9 tells once that a BMC is silent, keeps the drift it knew of, and asks it more seldom', async () => {
    const bmc = await start()
    const id = await declare('on', bmc)
    await look()
    const {power_drift_since} = await stateOf(id)
    bmc.stalled = true
    await look()
    expect(await stateOf(id)).toMatchObject({power_observed: 'unknown', power_drift_since})
    expect(await look()).toBe(0)
    expect(await look(16 * MINUTE_MS)).toBe(1)
    bmc.stalled = false
    expect(await look(16 * MINUTE_MS)).toBe(1)
    expect(await stateOf(id)).toMatchObject({power_observed: 'off', power_drift_since})
    expect(await eventsOf(id)).toEqual(['power_drifted', 'bmc_lost', 'bmc_found'])
    await bmc.stop()
  })

  it('F9 a silent BMC that was looked at in vain is asked at once when somebody wants it', async () => {
    const bmc = await start()
    const id = await declare('off', bmc)
    bmc.stalled = true
    for (let round = 0; round < 5; round++) await look(16 * MINUTE_MS)
    bmc.stalled = false
    const access = await services.inventory.openBmc(id)
    const {provenAt: _provenAt, ...target} = access!
    expect(await power.on({machineId: id, ...target})).toMatchObject({state: 'on'})
    await bmc.stop()
  })

  it('leaves machines with an open job to it, and what a job wrote meanwhile as it is', async () => {
    const {db} = database
    const bmc = await start()
    const id = await declare('on', bmc)
    const job = {
      machine_id: id,
      kind: 'power',
      requested_by: 'x',
      created_at: now,
      deadline: now,
      wake_at: now,
      plan: '{}',
    } as const
    await db
      .insertInto('jobs')
      .values({...job, state: 'waiting', fence: 1, plan_hash: 'x'})
      .execute()
    expect(await look()).toBe(0)
    await db.updateTable('jobs').set({state: 'succeeded', finished_at: now}).execute()
    // The job comes while the BMC is being asked: its word is the newer one.
    let writes = 0
    let written = false
    bmc.answer = ({netFn, command}) => {
      if (netFn !== 0 || command !== 1 || written) return undefined
      if (writes++ > 0) return 'silence'
      void db
        .updateTable('machine_states')
        .set({power_at: new Date(0)})
        .execute()
        .then(() => {
          written = true
        })
      return 'silence'
    }
    expect(await look()).toBe(1)
    expect(await stateOf(id)).toMatchObject({power_observed: 'on', power_at: new Date(0)})
    expect(await eventsOf(id)).toEqual([])
    await bmc.stop()
  })

  it('takes twenty at a time, each once a turn, and never two processes the same', async () => {
    const bmc = await start()
    const ids = await Promise.all(Array.from({length: 50}, () => declare('off', bmc)))
    now = new Date(now.getTime() + 6 * MINUTE_MS)
    const counts = await Promise.all([1, 2, 3, 4].map(() => lookAtPower(services, now, never)))
    expect(counts.toSorted((left, right) => left - right)).toEqual([0, 10, 20, 20])
    expect(bmc.heard.filter(name => name === 'getChassisStatus').length).toBe(ids.length)
    expect(bmc.mostSessions).toBe(1)
    expect(await lookAtPower(services, now, never)).toBe(0)
    await bmc.stop()
  })

  it('passes by machines that are switched by hand, and those that nobody wants in a state', async () => {
    const bmc = await start()
    const manual = await declare('on')
    const unwanted = await declare(null, bmc)
    bmc.power = 1
    await look()
    expect(await stateOf(manual)).toMatchObject({power_observed: 'on'})
    expect(await stateOf(unwanted)).toMatchObject({power_observed: 'on', power_drift_since: null})
    expect([...(await eventsOf(manual)), ...(await eventsOf(unwanted))]).toEqual([])
    await bmc.stop()
  })
})

describe('what is remembered of BMCs', () => {
  it('is in the database, and another process begins with it', async () => {
    const bmc = await startBmc({users: {ingot: {password: PASSWORD}}, suites: [3], chassis: {refusedParameters: [3]}})
    const target = {machineId: 'm', driver: 'ipmi', address: '127.0.0.1', port: bmc.port, username: 'ingot'} as const
    const withPassword = {...target, password: new Secret(PASSWORD)}
    const first = createPower({log: silentLog, clock: systemClock, store: createMemoryStore(database.db)})
    await first.setBootDevice(withPassword, 'pxe', {firmware: 'bios', persistent: false})
    await first.close()
    const known = await database.db.selectFrom('known_bmcs').selectAll().where('bmc', '=', `127.0.0.1:${bmc.port}`).execute()
    expect(known).toMatchObject([{suite: 3, device: {manufacturer: 'Supermicro', firmware: '3.77'}}])
    const asked = bmc.asked.length
    const second = createPower({log: silentLog, clock: systemClock, store: createMemoryStore(database.db)})
    const seen = await second.device(withPassword)
    await second.close()
    expect(bmc.asked.slice(asked)).toEqual(['1/1/1'])
    expect(seen.done === 'seen' ? seen.quirks.map(({quirk}) => quirk).toSorted() : []).toEqual([
      'boot_option_3_refused',
      'suite_17_refused',
    ])
    await bmc.stop()
  })
})
