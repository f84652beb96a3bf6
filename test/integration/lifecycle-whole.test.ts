import {mkdirSync, writeFileSync} from 'node:fs'
import {createServer} from 'node:http'
import type {AddressInfo} from 'node:net'
import {join} from 'node:path'
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, it, onTestFinished} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import type {JobPlan} from '../../services/lifecycle/index.ts'
import {createLifecycleWorld, type LifecycleWorld, type SimulatedRamdisk} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
beforeAll(async () => {
  world = await createLifecycleWorld()
})
afterAll(() => world.close())

let macs = 0
const nextMac = () => `52:54:00:b1:00:${(++macs).toString(16).padStart(2, '0')}`
const INSTALL = {template: 'debian/12', image: 'debian-12'}

async function place(state: 'enrolled' | 'available' | 'active', behaviour: SimulatedRamdisk = {}, driver?: 'manual') {
  const machine = await world.declare(nextMac(), behaviour, driver)
  await world.place(machine.id, state)
  return machine
}
type Verbs = LifecycleWorld['lifecycle']
const run = <T>(work: (lifecycle: Verbs, tx: typeof world.db) => Promise<T>) => withTx(world.db, tx => work(world.lifecycle, tx))
const stateOf = (id: string) => world.lifecycle.state(id)
const phaseOf = async (jobId: string) => (await world.lifecycle.job(jobId)).job.phase
const bootsOf = (id: string) => world.machines.get(id)!.journal
const addressesOf = async (id: string) => (await world.ipam.allocationsOf(id)).map(row => row.address).toSorted()

async function waitFor(look: () => Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !(await look()); await sleep(25)) if (Date.now() > end) throw new Error(`never: ${what}`)
}

describe('a burn-in', () => {
  it('brings the machine back to where it was, with its results as facts', async () => {
    for (const state of ['enrolled', 'available'] as const) {
      const machine = await place(state)
      const job = await run((lifecycle, tx) => lifecycle.test(tx, machine.id, 'test', {seconds: 7}))
      expect(await stateOf(machine.id)).toMatchObject({state: 'testing'})
      expect((await world.settled(job.id)).job.cause).toBeNull()
      expect(await stateOf(machine.id)).toMatchObject({state, dirty: state !== 'available'})
      expect((await world.inventory.latestFacts(machine.id, 'test'))?.facts).toMatchObject({
        memory_mb_s: 9000,
        seconds: 7,
        limits: {seconds: 7},
      })
    }
  })

  it('that fails tells why; tried again it leads back to available, unless somebody worked on it meanwhile', async () => {
    for (const worked of [false, true]) {
      const machine = await place('available', {fails: {cause: 'TEST_TOO_SLOW', detail: 'vda read 3 MB/s'}})
      const job = await run((lifecycle, tx) => lifecycle.test(tx, machine.id, 'test'))
      expect((await world.settled(job.id)).job).toMatchObject({state: 'failed', cause: {code: 'TEST_TOO_SLOW'}})
      expect(await stateOf(machine.id)).toMatchObject({state: 'failed', failed_from: 'testing', dirty: false})
      delete world.machines.get(machine.id)!.behaviour.fails
      if (worked) {
        const stay = await run((lifecycle, tx) => lifecycle.rescue(tx, machine.id, 'test'))
        await waitFor(async () => (await phaseOf(stay.id)) === 'attended', 'attended')
        await run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))
        await world.settled(stay.id)
        expect(await stateOf(machine.id)).toMatchObject({state: 'failed', failed_from: 'testing'})
      }
      const again = await run((lifecycle, tx) => lifecycle.retry(tx, machine.id, 'test'))
      expect(again).toMatchObject({kind: 'test', plan_hash: job.plan_hash})
      expect((await world.settled(again.id)).job.state).toBe('succeeded')
      expect(await stateOf(machine.id)).toMatchObject({state: worked ? 'enrolled' : 'available', dirty: worked})
    }
  })

  it('cannot be ended by another stage’s ramdisk', async () => {
    const machine = await place('active')
    const stay = await run((lifecycle, tx) => lifecycle.service(tx, machine.id, 'test'))
    await waitFor(async () => (await phaseOf(stay.id)) === 'attended', 'attended')
    const script = await world.netboot(machine.interfaces[0]!.mac as never)
    const token = /ingot\.token=(\S+)/.exec(script ?? '')![1]!
    expect((await world.call(token, 'POST', '/ramdisk/events', {kind: 'tested'})).text).toContain('NOT_OF_THIS_STAGE')
    expect((await world.call(token, 'POST', '/ramdisk/events', {kind: 'wiped'})).text).toContain('NOT_CLAIMED')
    expect((await world.call(token, 'POST', '/ramdisk/claim', {})).text).toContain('NOT_A_DESTRUCTIVE_STAGE')
    await run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))
    await world.settled(stay.id)
  })
})

describe('a stay in the ramdisk', () => {
  it.each(['service', 'rescue'] as const)(
    '%s lasts until it is left, then the machine boots its disk and is active',
    async verb => {
      const machine = await place('active')
      const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijkl me'
      const job = await run((lifecycle, tx) => lifecycle[verb](tx, machine.id, 'test', [key]))
      await waitFor(async () => (await phaseOf(job.id)) === 'attended', 'attended')
      expect(await stateOf(machine.id)).toMatchObject({state: verb === 'service' ? 'servicing' : 'rescue'})
      expect(bootsOf(machine.id)).toContain(`stays: end poweroff\nkey ${key}`)
      await run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))
      expect((await world.settled(job.id)).job.cause).toBeNull()
      expect(await stateOf(machine.id)).toMatchObject({state: 'active', failed_from: null})
      await waitFor(async () => bootsOf(machine.id).includes('local'), 'booted its disk')
      await expect(run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))).rejects.toMatchObject({
        code: 'TRANSITION_REFUSED',
      })
    },
  )

  it('of a machine switched by hand is left by its own ramdisk, which asks', async () => {
    const machine = await place('active', {}, 'manual')
    const job = await run((lifecycle, tx) => lifecycle.rescue(tx, machine.id, 'test'))
    world.switchByHand(machine.id)
    await waitFor(async () => (await phaseOf(job.id)) === 'attended', 'attended')
    await run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))
    expect((await world.settled(job.id)).job.cause).toBeNull()
    await waitFor(async () => bootsOf(machine.id).includes('local'), 'booted its disk')
  })

  it('from failed leads back to failed, from which the failed job can still be tried again', async () => {
    const machine = await place('available', {fails: {cause: 'WRITE_FAILED', detail: 'sector 7'}})
    const job = await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, INSTALL, 'test'))
    await world.settled(job.id)
    delete world.machines.get(machine.id)!.behaviour.fails
    const stay = await run((lifecycle, tx) => lifecycle.rescue(tx, machine.id, 'test'))
    await waitFor(async () => (await phaseOf(stay.id)) === 'attended', 'attended')
    await run((lifecycle, tx) => lifecycle.leave(tx, machine.id, 'test'))
    await world.settled(stay.id)
    expect(await stateOf(machine.id)).toMatchObject({state: 'failed', failed_from: 'provisioning'})
    const again = await run((lifecycle, tx) => lifecycle.retry(tx, machine.id, 'test'))
    expect((await world.settled(again.id)).job.cause).toBeNull()
    expect(await stateOf(machine.id)).toMatchObject({state: 'active'})
  })
})

describe('what moves without a job', () => {
  it('reserves an available machine until its time is over, and provisions one that is reserved', async () => {
    const machine = await place('available')
    const until = new Date(Date.now() + 3_600_000)
    await run((lifecycle, tx) => lifecycle.reserve(tx, machine.id, {for: 'team web', until}, 'test'))
    expect(await stateOf(machine.id)).toMatchObject({state: 'reserved', reserved_for: 'team web'})
    await sql`UPDATE machine_states SET reserved_until = now() - interval '1 second' WHERE machine_id = ${machine.id}`.execute(
      world.db,
    )
    await waitFor(async () => (await stateOf(machine.id))?.state === 'available', 'the reservation ends')
    expect(await stateOf(machine.id)).toMatchObject({reserved_for: null, reserved_until: null})
    await run((lifecycle, tx) => lifecycle.reserve(tx, machine.id, {for: 'team web', until}, 'test'))
    const job = await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, INSTALL, 'test'))
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
    expect(await stateOf(machine.id)).toMatchObject({state: 'active', reserved_until: null})
  })

  it('refuses a reservation that ends in the past, and one of a machine that is dirty or in maintenance', async () => {
    const machine = await place('available')
    const reserve = (until: Date) => run((lifecycle, tx) => lifecycle.reserve(tx, machine.id, {for: 'x', until}, 'test'))
    await expect(reserve(new Date(Date.now() - 1_000))).rejects.toMatchObject({code: 'INVALID_INPUT'})
    await run((lifecycle, tx) => lifecycle.maintain(tx, machine.id, true, 'fan', 'test'))
    await expect(reserve(new Date(Date.now() + 60_000))).rejects.toMatchObject({code: 'TRANSITION_REFUSED'})
    await run((lifecycle, tx) => lifecycle.maintain(tx, machine.id, false, '', 'test'))
    await world.db.updateTable('machine_states').set({dirty: true}).where('machine_id', '=', machine.id).execute()
    await expect(reserve(new Date(Date.now() + 60_000))).rejects.toMatchObject({
      detail: expect.stringContaining('not proven wiped'),
    })
  })

  it('adopts a machine whose disk holds something, which then boots that disk and nothing else', async () => {
    const machine = await world.declare(nextMac(), {signature: 'ext4'})
    await world.settled((await run((lifecycle, tx) => lifecycle.inspect(tx, machine.id, 'test'))).id)
    expect((await stateOf(machine.id))?.quarantined).toContain('disk_not_empty')
    await run((lifecycle, tx) => lifecycle.adopt(tx, machine.id, 'test'))
    expect(await stateOf(machine.id)).toMatchObject({state: 'active', quarantined: null, dirty: true})
    expect(await world.netboot(machine.interfaces[0]!.mac as never)).toContain('exit 1')
  })

  it('quarantines at a person’s word, says so in its actions, and lifts it', async () => {
    const machine = await place('available')
    await run((lifecycle, tx) => lifecycle.quarantine(tx, machine.id, 'smells burnt', 'test'))
    const actions = await world.lifecycle.actions(machine.id)
    for (const action of ['provision', 'reserve', 'clean', 'test'])
      expect(actions.find(row => row.action === action)).toMatchObject({
        allowed: false,
        why: expect.stringContaining('smells burnt'),
      })
    expect(actions.find(row => row.action === 'quarantine_lift')).toMatchObject({allowed: true})
    await run((lifecycle, tx) => lifecycle.quarantine(tx, machine.id, null, 'test'))
    expect((await world.lifecycle.actions(machine.id)).find(row => row.action === 'provision')).toMatchObject({allowed: true})
  })
})

describe('a reinstall', () => {
  it('installs what runs there, on the same addresses, with the wipe that was asked for', async () => {
    const machine = await place('available')
    const first = await run((lifecycle, tx) =>
      lifecycle.provision(tx, machine.id, {...INSTALL, hostname: 'web01', disk: 'name=vda', parameters: {motd: 'hello'}}, 'test'),
    )
    await world.settled(first.id)
    const before = await addressesOf(machine.id)
    for (const wipe of ['full', 'fast', 'preserve'] as const) {
      const job = await run((lifecycle, tx) => lifecycle.reinstall(tx, machine.id, wipe === 'preserve' ? {} : {wipe}, 'test'))
      const done = await world.settled(job.id)
      expect(done.job.cause).toBeNull()
      expect(bootsOf(machine.id).findLast(row => row.startsWith('wipe '))).toBe(`wipe ${wipe}`)
      expect((done.job.plan as unknown as JobPlan).install).toMatchObject({
        hostname: 'web01',
        disk: 'name=vda',
        parameters: {motd: 'hello'},
      })
      expect(await stateOf(machine.id)).toMatchObject({state: 'active', dirty: true, provisioned: {hostname: 'web01'}})
      expect(await addressesOf(machine.id)).toEqual(before)
    }
  })

  it('needs to be told what, where Ingot installed nothing', async () => {
    const machine = await place('active')
    await expect(run((lifecycle, tx) => lifecycle.reinstall(tx, machine.id, {}, 'test'))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
  })
})

describe('a job that is held', () => {
  it('stops before its step, boots nothing but the disk, and goes on where it was', async () => {
    const machine = await place('available')
    const job = await run(async (lifecycle, tx) => {
      const opened = await lifecycle.provision(tx, machine.id, INSTALL, 'test')
      await lifecycle.hold(tx, opened.id, {at: 'power_cycled', seconds: 600}, 'test')
      return opened
    })
    await waitFor(async () => (await world.lifecycle.job(job.id)).job.state === 'held', 'held')
    expect(world.power.calls.filter(call => call.endsWith(machine.id))).toEqual([])
    expect(await world.netboot(machine.interfaces[0]!.mac as never)).toContain('exit 1')
    await expect(run((lifecycle, tx) => lifecycle.clean(tx, machine.id, 'test'))).rejects.toMatchObject({code: 'JOB_OPEN'})
    await run((lifecycle, tx) => lifecycle.resume(tx, job.id, 'test'))
    expect((await world.settled(job.id)).job.cause).toBeNull()
  })

  it('fails when nobody lets it go on in time, and can be cancelled before', async () => {
    for (const ending of ['HOLD_EXPIRED', 'CANCELLED'] as const) {
      const machine = await place('available')
      const job = await run(async (lifecycle, tx) => {
        const opened = await lifecycle.clean(tx, machine.id, 'test')
        await lifecycle.hold(tx, opened.id, {seconds: 600}, 'test')
        return opened
      })
      await waitFor(async () => (await world.lifecycle.job(job.id)).job.state === 'held', 'held')
      if (ending === 'CANCELLED') await run((lifecycle, tx) => lifecycle.cancel(tx, job.id, 'test'))
      else await world.expire(job.id)
      expect((await world.settled(job.id)).job).toMatchObject({cause: {code: ending}})
      expect(await stateOf(machine.id)).toMatchObject({state: 'failed', failed_from: 'cleaning'})
    }
  })

  it('is held nowhere else than before a step of Ingot’s own', async () => {
    const machine = await place('available')
    const job = await run((lifecycle, tx) => lifecycle.clean(tx, machine.id, 'test'))
    for (const at of ['wiped', 'nonsense'])
      await expect(run((lifecycle, tx) => lifecycle.hold(tx, job.id, {at, seconds: 60}, 'test'))).rejects.toMatchObject({
        code: 'CONFLICT',
      })
    await world.settled(job.id)
  })
})

describe('a retry', () => {
  it('goes on where it failed when the disk was done and nothing happened since; otherwise it begins again', async () => {
    for (const switched of [false, true]) {
      const machine = await place('available')
      const claims = () => bootsOf(machine.id).filter(row => row === 'claimed').length
      const job = await run(async (lifecycle, tx) => {
        const opened = await lifecycle.clean(tx, machine.id, 'test')
        await lifecycle.hold(tx, opened.id, {at: 'powered_off', seconds: 600}, 'test')
        return opened
      })
      await waitFor(async () => (await world.lifecycle.job(job.id)).job.state === 'held', 'held')
      await run((lifecycle, tx) => lifecycle.cancel(tx, job.id, 'test'))
      expect((await world.settled(job.id)).job).toMatchObject({state: 'cancelled', phase: 'powered_off'})
      expect(await stateOf(machine.id)).toMatchObject({state: 'failed', dirty: true})
      if (switched) await world.settled((await run((lifecycle, tx) => lifecycle.power(tx, machine.id, 'on', 'test'))).id)
      const again = await run((lifecycle, tx) => lifecycle.retry(tx, machine.id, 'test'))
      expect((await world.settled(again.id)).job.state).toBe('succeeded')
      expect(claims()).toBe(switched ? 2 : 1)
      expect(await stateOf(machine.id)).toMatchObject({state: 'available', dirty: false})
    }
  })
})

describe('power off by force', () => {
  it('cancels the job that is open, says so, and leaves the machine off and failed', async () => {
    const machine = await place('available', {silent: true})
    const job = await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, INSTALL, 'test'))
    await waitFor(async () => (await phaseOf(job.id)) === 'dhcp_seen', 'powered')
    await expect(run((lifecycle, tx) => lifecycle.power(tx, machine.id, 'off', 'test'))).rejects.toMatchObject({code: 'JOB_OPEN'})
    const off = await run((lifecycle, tx) => lifecycle.power(tx, machine.id, 'off', 'test', true))
    expect((await world.settled(off.id)).job.state).toBe('succeeded')
    const ended = await world.lifecycle.job(job.id)
    expect(ended.job).toMatchObject({state: 'cancelled', cause: {code: 'CANCELLED', detail: expect.stringContaining('forced')}})
    expect(await stateOf(machine.id)).toMatchObject({state: 'failed', failed_from: 'provisioning', power_observed: 'off'})
    expect(world.power.calls.filter(call => call.endsWith(machine.id)).at(-1)).toBe(`off ${machine.id}`)
  })

  it('is not undone by a power cycle that was under way', async () => {
    const machine = await place('available', {silent: true})
    let inside: () => void = () => undefined
    const reached = new Promise<void>(resolve => {
      inside = resolve
    })
    let go: () => void = () => undefined
    const gate = new Promise<void>(resolve => {
      go = resolve
    })
    world.power.delay(async (name, id) => {
      if (id !== machine.id || name !== 'boot pxe') return
      inside()
      await gate
    })
    await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, INSTALL, 'test'))
    await reached
    const off = await run((lifecycle, tx) => lifecycle.power(tx, machine.id, 'off', 'test', true))
    await world.settled(off.id)
    go()
    world.power.delay(undefined)
    await world.settled((await run((lifecycle, tx) => lifecycle.power(tx, machine.id, 'off', 'test'))).id)
    expect(world.power.calls).not.toContain(`on ${machine.id}`)
  })
})

describe('deadlines and expectations', () => {
  it('are learned from machines of the same model, and from no other', async () => {
    const facts = {dmi: {manufacturer: 'Acme', product: 'R1', serial: 'A1'}}
    const machine = await world.declare(nextMac(), {facts})
    await world.settled((await run((lifecycle, tx) => lifecycle.inspect(tx, machine.id, 'test'))).id)
    const job = await run((lifecycle, tx) => lifecycle.clean(tx, machine.id, 'test'))
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
    const learned = await world.db.selectFrom('phase_times').selectAll().where('model', '=', 'Acme R1').execute()
    expect(learned.map(row => row.phase)).toEqual(expect.arrayContaining(['loader_fetched', 'claimed', 'wiped', 'powered_off']))
    const at = new Date()
    const known = (model: string, seconds: number) =>
      (job.plan as unknown as JobPlan).phases.flatMap(phase => Array.from({length: 25}, () => ({model, phase, seconds, at})))
    await world.db
      .insertInto('phase_times')
      .values([...known('Acme R1', 40), ...known('Acme R2', 5_000)])
      .execute()
    world.machines.get(machine.id)!.behaviour.silent = true
    const slow = await run((lifecycle, tx) => lifecycle.clean(tx, machine.id, 'test'))
    await waitFor(async () => (await phaseOf(slow.id)) === 'dhcp_seen', 'powered')
    const {job: open, phases, eta} = await world.lifecycle.job(slow.id)
    const powered = phases.find(row => row.phase === 'power_cycled')!.at
    expect(Math.round((open.deadline.getTime() - powered.getTime()) / 1000)).toBeCloseTo(120, -1)
    expect(eta!.getTime()).toBeGreaterThan(powered.getTime() + 200_000)
    await run((lifecycle, tx) => lifecycle.cancel(tx, slow.id, 'test'))
    await world.settled(slow.id)
    expect((await world.lifecycle.job(slow.id)).eta).toBeNull()
  })
})

describe('causes', () => {
  it('tell a machine that booted its disk, and one that another DHCP server answered', async () => {
    for (const [kind, code] of [
      ['dhcp_renewed', 'BOOT_ORDER_DISK'],
      ['other_server_seen', 'DHCP_OTHER_SERVER'],
    ] as const) {
      const machine = await place('available', {silent: true})
      const job = await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, INSTALL, 'test'))
      await waitFor(async () => (await phaseOf(job.id)) === 'dhcp_seen', 'powered')
      const detail = {server: '10.0.0.66', vendorClass: 'udhcp'}
      // Packets count from the power-on on, which both clocks agree on a minute later.
      const at = new Date(Date.now() + 60_000)
      const about = {at, kind, source: 'dhcpd', machineId: machine.id, jobId: job.id, fence: job.fence, detail}
      await world.evidence.recordAll([about])
      await world.expire(job.id)
      await waitFor(async () => (await world.lifecycle.job(job.id)).attempts[0]?.outcome === code, code)
      // Listening to the other server a second time would help nobody.
      expect((await world.lifecycle.job(job.id)).job.finished_at === null).toBe(code === 'BOOT_ORDER_DISK')
      if (code === 'BOOT_ORDER_DISK') await run((lifecycle, tx) => lifecycle.cancel(tx, job.id, 'test'))
      await world.settled(job.id)
    }
  })
})

describe('a handoff by webhook', () => {
  it('is told when the machine is installed and when it is given back, and a deaf receiver keeps no machine', async () => {
    const heard: {event: string; machine: {address: string}}[] = []
    let deaf = false
    const receiver = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      if (!deaf) heard.push(JSON.parse(body))
      response.writeHead(deaf ? 410 : 204).end()
    })
    await new Promise<void>(resolve => receiver.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void receiver.close())
    const folder = join(world.dir, 'handoff', 'webhook')
    mkdirSync(folder, {recursive: true})
    writeFileSync(join(folder, 'cmdb.key'), 'a key of a receiver')
    writeFileSync(join(folder, 'allowed-networks'), '127.0.0.0/8\n')
    const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
    for (const outcome of ['heard', 'deaf'] as const) {
      const machine = await place('available')
      const handoff = {kind: 'webhook', url, key: 'cmdb'}
      const job = await run((lifecycle, tx) => lifecycle.provision(tx, machine.id, {...INSTALL, handoff}, 'test'))
      expect((await world.settled(job.id)).job.cause).toBeNull()
      const [address] = await addressesOf(machine.id)
      expect(heard.at(-1)).toMatchObject({event: 'provisioned', machine: {address}})
      deaf = outcome === 'deaf'
      const given = await run((lifecycle, tx) => lifecycle.deprovision(tx, machine.id, 'test'))
      const {job: over, phases} = await world.settled(given.id)
      expect(over.state).toBe('succeeded')
      if (!deaf) expect(heard.at(-1)).toMatchObject({event: 'withdrawn', machine: {address}})
      else
        expect(phases.find(row => row.phase === 'withdrawn')?.evidence).toMatchObject({
          not_heard: {code: 'HANDOFF_WEBHOOK_REFUSED'},
        })
      expect(await stateOf(machine.id)).toMatchObject({state: 'available'})
    }
  })
})
