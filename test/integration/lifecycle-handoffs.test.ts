import {sql} from 'kysely'
import {afterAll, beforeAll, beforeEach, expect, it} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {createPool, withTx} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import type {Handoff, HandoffResult} from '../../services/handoff/index.ts'
import {createHandoffRuns, type RunOrder} from '../../services/lifecycle/handoff-runs.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

const log = createLog('test', 'silent')

let world: LifecycleWorld
let macs = 0
beforeAll(async () => {
  world = await createLifecycleWorld({worker: false})
})
afterAll(() => world.close())

/** One process's handoffs: runs that end when the test says so, and a connection that can be cut. */
function createProcess(name: string) {
  const going = new Map<string, PromiseWithResolvers<HandoffResult>>()
  const started: string[] = []
  const stopped: string[] = []
  const result = (outcome: 'done' | 'failed'): HandoffResult => ({
    outcome,
    summary: {by: name},
    outputTail: '',
    startedAt: new Date(),
    finishedAt: new Date(),
  })
  const finish = (runId: string, outcome: 'done' | 'failed') => {
    going.get(runId)?.resolve(result(outcome))
    going.delete(runId)
  }
  const handoff: Handoff = {
    validate: () => ({kind: 'none'}),
    publicKeys: () => [],
    running: () => [...going.keys()],
    withdraws: () => false,
    start({runId}) {
      started.push(runId)
      const run = Promise.withResolvers<HandoffResult>()
      going.set(runId, run)
      return {runId, done: run.promise}
    },
    async stop(runId) {
      stopped.push(runId)
      finish(runId, 'failed')
    },
    reclaim: async () => [],
  }
  const pool = createPool({url: world.url, applicationName: `test-${name}`, log})
  let alive = true
  const runs = createHandoffRuns({...world.services, log, handoff}, pool, {workerId: name, mayGoOn: () => alive})
  return {
    runs,
    started,
    stopped,
    finish,
    /** Its clock says that others count it as dead. */
    silence: () => {
      alive = false
    },
    async end() {
      await runs.stop()
      await pool.end()
    },
  }
}

let one: ReturnType<typeof createProcess>
let two: ReturnType<typeof createProcess>
let order: RunOrder
let runId: string
beforeEach(async () => {
  one = createProcess('one')
  two = createProcess('two')
  macs++
  const machine = await world.declare(`52:54:00:dd:00:${macs.toString(16).padStart(2, '0')}`)
  await world.place(machine.id, 'available')
  const request = {template: 'debian/12', image: 'debian-12'}
  const job = await withTx(world.db, tx => world.lifecycle.provision(tx, machine.id, request, 'test'))
  order = {
    jobId: job.id,
    machineId: machine.id,
    fence: job.fence,
    config: {kind: 'none'},
    machine: {id: machine.id, name: machine.name, address: '127.0.0.1', sshHostKeys: [], facts: {}, parameters: {}},
  }
  runId = `${job.id}-${job.fence}`
  return async () => {
    await one.end()
    await two.end()
  }
})

const told = async () => (await world.evidence.kindsOf(world.db, order.fence)).get('handed_off') ?? 0

it('a handoff that one process runs is not started by another', async () => {
  expect(await one.runs.start(order)).toBe('here')
  expect(await one.runs.start(order)).toBe('here')
  expect(await two.runs.start(order)).toBe('elsewhere')
  expect(one.started).toEqual([runId])
  expect(two.started).toEqual([])
  one.finish(runId, 'done')
  await until(async () => (await told()) === 1)
})

it('a handoff whose process lost its connection is stopped there, says nothing, and may go on elsewhere', async () => {
  await one.runs.start(order)
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-one'`.execute(world.db)
  await until(async () => one.stopped.includes(runId))
  await until(async () => (await two.runs.start(order)) === 'here')
  two.finish(runId, 'done')
  await until(async () => (await told()) === 1)
  expect((await world.evidence.kindsOf(world.db, order.fence)).has('handoff_failed')).toBe(false)
})

it('F19 a process that counts as dead stops its handoffs', async () => {
  await one.runs.start(order)
  one.silence()
  await one.runs.tend()
  expect(one.stopped).toEqual([runId])
  await until(async () => (await two.runs.start(order)) === 'here')
  expect(await told()).toBe(0)
})

it('a handoff whose job was cancelled is stopped, and its end changes nothing', async () => {
  await one.runs.start(order)
  await one.runs.tend()
  expect(one.stopped).toEqual([])
  await sql`UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id = ${order.jobId}`.execute(world.db)
  await one.runs.tend()
  expect(one.stopped).toEqual([runId])
  expect(await told()).toBe(0)
})

it('a result that could not be written is written later', async () => {
  await one.runs.start(order)
  await sql`ALTER TABLE evidence RENAME TO evidence_away`.execute(world.db)
  one.finish(runId, 'done')
  await sleep(200)
  await sql`ALTER TABLE evidence_away RENAME TO evidence`.execute(world.db)
  expect(await told()).toBe(0)
  await one.runs.tend()
  expect(await told()).toBe(1)
})

it('a process that ends leaves its handoff to the next one', async () => {
  await one.runs.start(order)
  await one.runs.stop()
  expect(one.stopped).toEqual([runId])
  expect(await told()).toBe(0)
  await until(async () => (await two.runs.start(order)) === 'here')
})

async function until(look: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 30_000
  while (!(await look())) {
    if (Date.now() > end) throw new Error('it did not come')
    await sleep(20)
  }
}
