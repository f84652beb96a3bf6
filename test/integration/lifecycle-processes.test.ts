/** Two worker processes on one database: one is stopped, continued, killed or cut off, and the other goes on. */
import {type ChildProcess, spawn} from 'node:child_process'
import {createServer, type Server} from 'node:http'
import type {AddressInfo} from 'node:net'
import {join} from 'node:path'
import {text} from 'node:stream/consumers'
import {sql} from 'kysely'
import {afterAll, afterEach, beforeAll, expect, it} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
let bmcs: Server
/** `<pid> <order> <machine>`, as they came */
const orders: string[] = []
let hold: ((order: string) => Promise<unknown> | undefined) | undefined
const children = new Set<ChildProcess>()

beforeAll(async () => {
  world = await createLifecycleWorld({worker: false})
  bmcs = createServer((request, response) => {
    void (async () => {
      const machineId = (request.url ?? '').slice(1)
      const order = await text(request)
      orders.push(`${order} ${machineId}`)
      const withheld = order.includes('withheld')
      if (order.endsWith(' on') && !withheld) await world.power.power.on({machineId, driver: 'ipmi'})
      if (order.endsWith(' off') && !withheld) await world.power.power.off({machineId, driver: 'ipmi'})
      // Only the answer waits: what was ordered is done.
      await hold?.(order)
      response.end()
    })()
  })
  await new Promise<void>(resolve => bmcs.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  hold = undefined
  await Promise.all([...children].map(kill))
})
afterAll(async () => {
  bmcs.closeAllConnections()
  bmcs.close()
  await world.close()
})

async function startProcess(): Promise<ChildProcess & {pid: number}> {
  const script = join(import.meta.dirname, '..', 'support', 'worker-process.ts')
  const url = `http://127.0.0.1:${(bmcs.address() as AddressInfo).port}`
  const child = spawn(process.execPath, [script, world.url, world.dir, url], {stdio: ['ignore', 'pipe', 'inherit']})
  children.add(child)
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.once('exit', code => reject(new Error(`the worker process ended with ${code}`)))
  })
  return child as ChildProcess & {pid: number}
}

async function kill(child: ChildProcess): Promise<void> {
  children.delete(child)
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

let macs = 0
async function provisioning() {
  macs++
  const machine = await world.declare(`52:54:00:bb:00:${macs.toString(16).padStart(2, '0')}`)
  await world.place(machine.id, 'available')
  const request = {template: 'debian/12', image: 'debian-12'}
  return {machine, job: await withTx(world.db, tx => world.lifecycle.provision(tx, machine.id, request, 'test'))}
}

async function waitFor(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000
  while (!(await look())) {
    if (Date.now() > end) throw new Error(`${what} did not come`)
    await sleep(25)
  }
}

it('F7 gives no order and commits no outcome for a process that was stopped while another took its job over', async () => {
  const first = await startProcess()
  const stopped = Promise.withResolvers<void>()
  hold = order => (order === `${first.pid} off` ? stopped.promise : undefined)
  const {machine, job} = await provisioning()
  await waitFor('the first order', () => orders.includes(`${first.pid} off ${machine.id}`))
  first.kill('SIGSTOP')
  const second = await startProcess()
  await waitFor('the second worker', () => orders.includes(`${second.pid} on ${machine.id}`))
  const before = orders.length
  first.kill('SIGCONT')
  stopped.resolve()
  const ended = await world.settled(job.id)
  expect(ended.job).toMatchObject({state: 'succeeded', attempt: 1})
  await waitFor('the first one’s end of its step', () => orders.includes(`${first.pid} withheld boot pxe ${machine.id}`))
  const late = orders.slice(before).filter(order => order.startsWith(`${first.pid} `))
  expect(late.filter(order => !order.includes('withheld'))).toEqual([])
  const effect = await world.db
    .selectFrom('effects')
    .selectAll()
    .where('fence', '=', ended.job.fence)
    .where('phase', '=', 'power_cycled')
    .executeTakeFirstOrThrow()
  expect(effect).toMatchObject({tries: 2, outcome: {ok: true, on: 'seen'}})
  expect(
    await world.db.selectFrom('events').select('kind').where('job_id', '=', job.id).where('kind', '=', 'step_failed').execute(),
  ).toEqual([])
})

it('F1 goes on with the job of a process that was killed in the middle of a step', async () => {
  const first = await startProcess()
  hold = order => (order === `${first.pid} boot pxe` ? new Promise(() => undefined) : undefined)
  const {machine, job} = await provisioning()
  await waitFor('the order', () => orders.includes(`${first.pid} boot pxe ${machine.id}`))
  const second = await startProcess()
  await kill(first)
  const ended = await world.settled(job.id)
  expect(ended.job).toMatchObject({state: 'succeeded', attempt: 1})
  expect(orders).toContain(`${second.pid} on ${machine.id}`)
})

it('F1 goes on after a restart when nobody was left', async () => {
  const first = await startProcess()
  hold = order => (order === `${first.pid} off` ? new Promise(() => undefined) : undefined)
  const {machine, job} = await provisioning()
  await waitFor('the order', () => orders.includes(`${first.pid} off ${machine.id}`))
  await kill(first)
  await startProcess()
  expect((await world.settled(job.id)).job).toMatchObject({state: 'succeeded', attempt: 1})
})

it('F2 ends every job well while connections to PostgreSQL break again and again', async () => {
  await startProcess()
  await startProcess()
  const jobs = []
  for (let count = 0; count < 6; count++) jobs.push((await provisioning()).job)
  let storm = true
  const breaking = (async () => {
    for (let round = 0; storm && round < 40; round++) {
      await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test-worker-process%'
        AND datname = current_database() AND random() < 0.4`.execute(world.db)
      await sleep(150)
    }
  })()
  const ended = await Promise.all(jobs.map(job => world.settled(job.id, 100_000)))
  storm = false
  await breaking
  for (const {job} of ended) expect(job).toMatchObject({state: 'succeeded'})
  for (const child of children) expect(child.exitCode).toBeNull()
  const doubled =
    await sql`SELECT address_id FROM allocations WHERE freed_at IS NULL GROUP BY address_id HAVING count(*) > 1`.execute(world.db)
  expect(doubled.rows).toEqual([])
})
