/**
 * A process that can be killed between any two things it does to the world: every commit, every statement outside a transaction, every
 * power verb is a boundary, and it dies before or after the n-th. Dead, it says nothing more to the database or a BMC.
 */
import {randomUUID} from 'node:crypto'
import {Kysely, PostgresDialect} from 'kysely'
import type pg from 'pg'
import {systemClock} from '../../lib/clock.ts'
import {createPool} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import {createSealer} from '../../lib/seal.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {advance} from '../../services/lifecycle/advance.ts'
import {createHandoffRuns} from '../../services/lifecycle/handoff-runs.ts'
import type {LifecycleServices} from '../../services/lifecycle/index.ts'
import type {Self} from '../../services/lifecycle/steps/step.ts'
import type {Power} from '../../services/power/index.ts'
import type {LifecycleWorld} from './lifecycle-world.ts'

export type Death = {readonly at: number; readonly when: 'before' | 'after'}

export class Died extends Error {}

export type Mortal = {
  /** how many boundaries it has crossed */
  readonly crossed: () => number
  readonly boundaries: readonly string[]
  advance(jobId: string): Promise<void>
  /** The kernel closes what a dead process held. */
  bury(): Promise<void>
}

const log = createLog('test', 'silent')

export async function createMortal(world: LifecycleWorld, death: Death | undefined): Promise<Mortal> {
  let dead = false
  const boundaries: string[] = []

  async function cross<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (dead) throw new Died(name)
    boundaries.push(name)
    const mine = boundaries.length
    if (mine === death?.at && death.when === 'before') dead = true
    if (dead) throw new Died(name)
    const result = await work()
    if (mine === death?.at) dead = true
    if (dead) throw new Died(name)
    return result
  }

  const pool = createPool({url: world.url, applicationName: 'test-mortal', maxConnections: 4, log})
  const db = new Kysely<Database>({dialect: new PostgresDialect({pool: mortalPool(pool, cross, () => dead)})})
  const evidence = createEvidence({db})
  const services: LifecycleServices = {
    ...world.services,
    log,
    db,
    evidence,
    inventory: createInventory({db, sealer: createSealer(Buffer.alloc(32, 7))}),
    ipam: createIpam({db, clock: systemClock, log}),
    power: mortalPower(world.power.power, cross),
  }
  const workerId = randomUUID()
  const far = new Date(Date.now() + 3_600_000)
  await world.db
    .insertInto('workers')
    .values({id: workerId, host: 'elsewhere', pid: 1, queue_ids: [], started_at: new Date(), beat_at: far})
    .execute()
  const handoffs = createHandoffRuns(services, pool, {workerId, mayGoOn: () => !dead})
  const self: Self = {workerId, watch: () => () => !dead, handoffs}

  return {
    crossed: () => boundaries.length,
    boundaries,
    async advance(jobId) {
      await advance(services, jobId, self)
      await handoffs.tend()
    },
    async bury() {
      dead = true
      await handoffs.stop()
      await world.db.deleteFrom('workers').where('id', '=', workerId).execute()
      await pool.end()
    },
  }
}

type Cross = <T>(name: string, work: () => Promise<T>) => Promise<T>

/** Hands out connections that count commits and lone writes, and that are broken off, with their transactions, once it is dead. */
function mortalPool(pool: pg.Pool, cross: Cross, isDead: () => boolean) {
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      if (isDead()) throw new Died('connect')
      const client = await pool.connect()
      let inTransaction = false
      const query = async (text: string, parameters: unknown[]) => {
        if (isDead()) throw new Died(text)
        const word = text.trimStart().split(/\s/, 1)[0]?.toLowerCase() ?? ''
        if (word === 'begin' || word === 'start') inTransaction = true
        if (word === 'rollback') inTransaction = false
        if (word === 'commit') {
          inTransaction = false
          return cross('commit', () => client.query(text, parameters))
        }
        if (!inTransaction && (word === 'insert' || word === 'update' || word === 'delete'))
          return cross(text.slice(0, 40), () => client.query(text, parameters))
        return client.query(text, parameters)
      }
      return {query, release: () => client.release(isDead())} as unknown as pg.PoolClient
    },
  }
}

function mortalPower(power: Power, cross: Cross): Power {
  return {
    ...power,
    on: (target, options) => cross('power on', () => power.on(target, options)),
    off: (target, options) => cross('power off', () => power.off(target, options)),
    setBootDevice: (target, device, how, options) =>
      cross('boot device', () => power.setBootDevice(target, device, how, options)),
  }
}
