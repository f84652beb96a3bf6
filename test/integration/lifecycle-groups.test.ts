import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import type {GroupGuard, GroupRequest} from '../../services/lifecycle/index.ts'
import {createLifecycleWorld, type LifecycleWorld, type SimulatedRamdisk} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
beforeAll(async () => {
  world = await createLifecycleWorld()
})
afterAll(() => world.close())

let macs = 0
async function rack(name: string, count: number, state: 'available' | 'active' | 'enrolled', behaviour: SimulatedRamdisk = {}) {
  const machines = []
  for (let index = 0; index < count; index++) {
    const mac = `52:54:00:b2:00:${(++macs).toString(16).padStart(2, '0')}`
    const machine = await world.declare(mac, {...behaviour})
    await world.place(machine.id, state)
    await world.db
      .updateTable('machines')
      .set({labels: JSON.stringify({rack: name})})
      .where('id', '=', machine.id)
      .execute()
    machines.push(machine)
  }
  return machines
}

const request = (action: GroupRequest['action'], selector: string, params = {}): GroupRequest => ({action, selector, params})
const open = (asked: GroupRequest, guard: GroupGuard = {}) =>
  withTx(world.db, tx => world.lifecycle.openGroup(tx, asked, {beyondLimit: true, ...guard}, 'test'))
async function confirmed(asked: GroupRequest, guard: GroupGuard = {}) {
  const {hash} = await world.lifecycle.planGroup(asked)
  return open(asked, {hash, ...guard})
}
async function ended(id: string) {
  for (const end = Date.now() + 90_000; ; await sleep(50)) {
    const view = await world.lifecycle.group(id)
    if (view.group.finished_at) return view
    if (Date.now() > end) throw new Error(`group ${id} is still ${view.group.state}: ${JSON.stringify(view.members)}`)
  }
}
const statesOf = (members: readonly {state: string}[]) => members.map(member => member.state)

describe('a group action', () => {
  it('says what it would do, whom it would refuse and why, before it does anything', async () => {
    const machines = await rack('p1', 3, 'available')
    await withTx(world.db, tx => world.lifecycle.maintain(tx, machines[2]!.id, true, '', 'test'))
    const plan = await world.lifecycle.planGroup(request('clean', 'attribute.rack=p1'))
    expect(plan).toMatchObject({
      destructive: true,
      count: 2,
      refused: [{machine: machines[2]!.name, why: 'it is in maintenance'}],
    })
    expect(plan.groups).toContainEqual({by: 'state', value: 'available', count: 2, of: expect.any(Number)})
    expect(plan.sample).toEqual([machines[0]!.name, machines[1]!.name])
    expect(world.power.calls).toEqual([])
  })

  it('wants the hash of its plan back, and not that of another', async () => {
    await rack('h1', 2, 'available')
    const asked = request('clean', 'attribute.rack=h1')
    await expect(open(asked)).rejects.toMatchObject({code: 'GROUP_UNCONFIRMED'})
    const {hash} = await world.lifecycle.planGroup(asked)
    await rack('h1', 1, 'available')
    await expect(open(asked, {hash})).rejects.toMatchObject({
      code: 'GROUP_UNCONFIRMED',
      detail: expect.stringContaining('changed'),
    })
    await expect(open(request('power_cycle', 'attribute.rack=h1'), {hash})).rejects.toMatchObject({code: 'GROUP_UNCONFIRMED'})
  })

  it.each(['', 'state', 'rack=1'])('refuses the selector `%s`: it would mean every machine', async selector => {
    await expect(world.lifecycle.planGroup(request('power_on', selector))).rejects.toMatchObject({code: 'INVALID_INPUT'})
  })

  it('provisions one first and then the others, each by a job of its own', async () => {
    const machines = await rack('g1', 4, 'available')
    const asked = request('provision', 'attribute.rack=g1 state=available', {template: 'debian/12', image: 'debian-12'})
    const group = await confirmed(asked, {canary: 1, batch: 2})
    const {group: over, members} = await ended(group.id)
    expect(over).toMatchObject({state: 'succeeded', reason: null})
    expect(statesOf(members)).toEqual(['succeeded', 'succeeded', 'succeeded', 'succeeded'])
    for (const machine of machines) expect(await world.stateOf(machine.id)).toBe('active')
    const canary = (await world.lifecycle.job(members[0]!.job_id!)).job
    for (const member of members.slice(1)) {
      const {job} = await world.lifecycle.job(member.job_id!)
      expect(job.created_at.getTime()).toBeGreaterThanOrEqual(canary.finished_at!.getTime())
    }
  })

  it('stops at a canary that fails, and touches nobody else', async () => {
    const machines = await rack('c1', 4, 'active', {fails: {cause: 'DISK_NOT_FOUND', detail: 'none'}})
    const {group, members} = await ended((await confirmed(request('deprovision', 'attribute.rack=c1'), {canary: 1})).id)
    expect(group).toMatchObject({state: 'stopped', reason: expect.stringContaining('1 of 1 failed')})
    expect(statesOf(members)).toEqual(['failed', 'skipped', 'skipped', 'skipped'])
    expect(members[0]!.why).toBe('DISK_NOT_FOUND')
    for (const machine of machines.slice(1)) expect(await world.stateOf(machine.id)).toBe('active')
  })

  it('starts nobody any more once it is cancelled; what runs goes on', async () => {
    const machines = await rack('x1', 3, 'available', {silent: true})
    const group = await confirmed(request('clean', 'attribute.rack=x1'), {canary: 1})
    for (
      const end = Date.now() + 60_000;
      !statesOf((await world.lifecycle.group(group.id)).members).includes('started');
      await sleep(25)
    )
      if (Date.now() > end) throw new Error('nobody was started')
    await withTx(world.db, tx => world.lifecycle.cancelGroup(tx, group.id, 'test'))
    const running = await world.lifecycle.openJobOf(machines[0]!.id)
    await withTx(world.db, tx => world.lifecycle.cancel(tx, running!.id, 'test'))
    const {group: over, members} = await ended(group.id)
    expect(over.state).toBe('cancelled')
    expect(statesOf(members)).toEqual(['failed', 'skipped', 'skipped'])
  })

  it('counts a machine that can no longer be taken as failed, and goes on with the others', async () => {
    const machines = await rack('f1', 3, 'available')
    await world.stopWorker()
    const group = await confirmed(request('clean', 'attribute.rack=f1'), {canary: 0, stopShare: 1})
    await withTx(world.db, tx => world.lifecycle.quarantine(tx, machines[1]!.id, 'smoke', 'test'))
    await world.restartWorker()
    const {members} = await ended(group.id)
    expect(statesOf(members)).toEqual(['succeeded', 'failed', 'succeeded'])
    expect(members[1]!.why).toContain('smoke')
  })

  it('F7 starts each machine once when two workers drive it, and goes on when one is gone', async () => {
    await rack('w1', 6, 'available')
    const second = await world.startSecond()
    const group = await confirmed(request('clean', 'attribute.rack=w1'), {canary: 0, batch: 3})
    await world.stopWorker()
    const {members} = await ended(group.id)
    await second.stop()
    await world.restartWorker()
    expect(statesOf(members)).toEqual(Array(6).fill('succeeded'))
    const jobs = await Promise.all(members.map(member => world.lifecycle.jobs({machineId: member.machine_id, limit: 10})))
    expect(jobs.map(list => list.length)).toEqual(Array(6).fill(1))
  })

  it('is refused over the limit of an hour, but for who may say so', async () => {
    await rack('l1', 12, 'active')
    const asked = request('power_off', 'attribute.rack=l1')
    const {hash} = await world.lifecycle.planGroup(asked)
    await expect(open(asked, {hash, beyondLimit: false})).rejects.toMatchObject({code: 'GROUP_LIMIT'})
    const {members} = await ended((await open(asked, {hash, batch: 12, canary: 0})).id)
    expect(members).toHaveLength(12)
  })
})
