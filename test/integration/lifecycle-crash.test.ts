/** F1: the process that drives a job is killed before and after each thing it does, and another goes on. */
import {sql} from 'kysely'
import {afterAll, beforeAll, expect, it} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import {createMortal, type Death, Died} from '../support/crash.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

const AT_ONCE = 6

let world: LifecycleWorld
let hosts: string
beforeAll(async () => {
  world = await createLifecycleWorld({worker: false})
  hosts = (await withTx(world.db, tx => world.ipam.createPrefix(tx, {cidr: '10.99.0.0/20'}, 'test'))).id
})
afterAll(() => world.close())

let macs = 0

async function place(state: 'available' | 'active') {
  macs++
  const machine = await world.declare(`52:54:00:c0:${hex(macs >> 8)}:${hex(macs & 255)}`)
  await world.place(machine.id, state)
  return machine
}

const kinds = {
  async provision() {
    const machine = await place('available')
    const request = {template: 'debian/12', image: 'debian-12', prefix: hosts}
    return {machine, job: await withTx(world.db, tx => world.lifecycle.provision(tx, machine.id, request, 'test'))}
  },
  async deprovision() {
    const machine = await place('active')
    const holder = {kind: 'machine' as const, machineId: machine.id, name: machine.name}
    await withTx(world.db, tx =>
      world.ipam.allocate(tx, {prefixId: hosts, holder, purpose: 'host', reason: 'test'}, 'test', new Date()),
    )
    return {machine, job: await withTx(world.db, tx => world.lifecycle.deprovision(tx, machine.id, 'test'))}
  },
}

/** Drives a job to its end with a process that dies once, and then with others that do not. @returns the boundaries of the first */
async function drive(jobId: string, death: Death | undefined): Promise<readonly string[]> {
  const first = await createMortal(world, death)
  let current = first
  const end = Date.now() + 60_000
  for (;;) {
    try {
      await current.advance(jobId)
    } catch (error) {
      if (!(error instanceof Died)) throw error
      await current.bury()
      current = await createMortal(world, undefined)
    }
    const {job} = await world.lifecycle.job(jobId)
    if (job.finished_at) break
    if (Date.now() > end) throw new Error(`job ${jobId} hangs in ${job.phase} after a death ${death?.when} ${death?.at}`)
    await sleep(10)
  }
  await current.bury()
  return first.boundaries
}

async function checkInvariants(machineId: string, jobId: string, about: string): Promise<void> {
  const {job, attempts} = await world.lifecycle.job(jobId)
  expect(job.cause === null || job.state !== 'succeeded' || job.attempt > 1, about).toBe(true)
  expect({about, state: job.state, cause: job.state === 'succeeded' ? null : job.cause}).toMatchObject({
    state: 'succeeded',
    cause: null,
  })
  const doubled =
    await sql`SELECT address_id FROM allocations WHERE freed_at IS NULL GROUP BY address_id HAVING count(*) > 1`.execute(world.db)
  expect(doubled.rows, `I1 ${about}`).toEqual([])
  const stuck = await sql`SELECT j.id FROM jobs j WHERE j.machine_id = ${machineId} AND j.finished_at IS NULL`.execute(world.db)
  expect(stuck.rows, `I2 ${about}`).toEqual([])
  const open = await sql`SELECT fence FROM attempts WHERE job_id = ${jobId} AND ended_at IS NULL`.execute(world.db)
  expect(open.rows, `no attempt stays open ${about}`).toEqual([])
  for (const {fence} of attempts) {
    const kinds = await world.evidence.kindsOf(world.db, fence)
    expect(kinds.get('claimed') ?? 0, `I4 ${about}`).toBeLessThan(2)
    expect(kinds.get('script_fetched') ?? 0, `I4 ${about}`).toBeLessThan(2)
    if (kinds.has('wiped') || kinds.has('disk_written')) expect(kinds.has('claimed'), `I4 ${about}`).toBe(true)
  }
  const state = await world.lifecycle.state(machineId)
  const held = (await world.ipam.allocationsOf(machineId)).map(row => row.purpose).toSorted()
  if (job.kind === 'provision') {
    expect(state, about).toMatchObject({state: 'active', dirty: true})
    expect(held, about).toEqual(['boot', 'host'])
  } else {
    expect(state, about).toMatchObject({state: 'available', dirty: false})
    expect(held, about).toEqual(['boot'])
  }
}

for (const kind of ['provision', 'deprovision'] as const) {
  it(`F1 ends a ${kind} well wherever the process that drives it is killed`, async () => {
    const whole = await kinds[kind]()
    const boundaries = await drive(whole.job.id, undefined)
    await checkInvariants(whole.machine.id, whole.job.id, 'no death')
    expect(boundaries.filter(name => name === 'power on')).toHaveLength(1)
    expect(boundaries.length).toBeGreaterThan(15)
    const deaths: Death[] = []
    for (let at = 1; at <= boundaries.length; at++) deaths.push({at, when: 'before'}, {at, when: 'after'})
    let next = 0
    async function take(): Promise<void> {
      for (let death = deaths[next++]; death; death = deaths[next++]) {
        const {machine, job} = await kinds[kind]()
        await drive(job.id, death)
        await checkInvariants(machine.id, job.id, `killed ${death.when} ${death.at} (${boundaries[death.at - 1]})`)
      }
    }
    await Promise.all(Array.from({length: AT_ONCE}, take))
  })
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}
