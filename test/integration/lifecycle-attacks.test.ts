/** What tries to leave a machine stuck, to leak an address, or to get at a disk out of turn. */
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, it, onTestFinished} from 'vitest'
import {type Mac, parseMac} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import {createClient, withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLog} from '../../lib/log.ts'
import {attemptToken, windowToken} from '../../services/boot/token.ts'
import {createLifecycleWorld, type LifecycleWorld, type SimulatedRamdisk} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
let hosts: string
let otherHosts: string
beforeAll(async () => {
  world = await createLifecycleWorld()
  const make = (cidr: string) => withTx(world.db, tx => world.ipam.createPrefix(tx, {cidr}, 'test'))
  hosts = (await make('10.50.0.0/24')).id
  otherHosts = (await make('10.51.0.0/24')).id
})
afterAll(() => world.close())

let macs = 0
const nextMac = () => `52:54:00:a7:00:${(++macs).toString(16).padStart(2, '0')}`

async function place(state: 'available' | 'active', behaviour: SimulatedRamdisk = {}, driver?: 'manual') {
  const machine = await world.declare(nextMac(), behaviour, driver)
  await world.place(machine.id, state)
  return machine
}

const provision = (id: string, request = {}) =>
  withTx(world.db, tx => world.lifecycle.provision(tx, id, {template: 'debian/12', image: 'debian-12', ...request}, 'test'))
const reinstall = (id: string, request = {}) => withTx(world.db, tx => world.lifecycle.reinstall(tx, id, request, 'test'))
const verb = (name: 'inspect' | 'clean' | 'deprovision' | 'retry' | 'retire', id: string) =>
  withTx(world.db, async tx => (await world.lifecycle[name](tx, id, 'test')) as {id: string})
const cancel = (jobId: string) => withTx(world.db, tx => world.lifecycle.cancel(tx, jobId, 'test'))
const phaseOf = async (jobId: string) => (await world.lifecycle.job(jobId)).job.phase
/** From then on a boot is the job's: a person who switches earlier, while the phase only begins, gets the machine's disk. */
const askedToSwitch = async (jobId: string) => (await world.lifecycle.job(jobId)).attempts.at(-1)?.powered_at != null
const held = async (id: string) => (await world.ipam.allocationsOf(id)).map(row => `${row.purpose} ${row.cidr}`).toSorted()
const key = async () => (await world.db.selectFrom('boot_keys').select('key').executeTakeFirstOrThrow()).key
const macOf = (machine: {interfaces: readonly {mac: string}[]}) => parseMac(machine.interfaces[0]!.mac)!

async function openWindow(over: {machineLimit?: number; until?: Date} = {}) {
  const until = new Date(Date.now() + 600_000)
  return withTx(world.db, tx =>
    world.inventory.openWindow(tx, {prefixId: world.prefix.id, until, clean: false, createdBy: 'test', ...over}),
  )
}
const closeWindow = (id: string) => withTx(world.db, tx => world.inventory.closeWindow(tx, id, new Date()))

describe('jobs that could hang', () => {
  it('heals a job that is working with no task to take it on', async () => {
    const machine = await place('available')
    const job = await withTx(world.db, async tx => {
      const opened = await world.lifecycle.provision(tx, machine.id, {template: 'debian/12', image: 'debian-12'}, 'test')
      await sql`DELETE FROM graphile_worker._private_jobs WHERE key = ${`advance:${opened.id}`}`.execute(tx)
      await sql`UPDATE jobs SET state = 'working', wake_at = now() WHERE id = ${opened.id}`.execute(tx)
      return opened
    })
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
  })

  it('heals a job whose task has failed for good', async () => {
    const machine = await place('available')
    const job = await withTx(world.db, async tx => {
      const opened = await world.lifecycle.provision(tx, machine.id, {template: 'debian/12', image: 'debian-12'}, 'test')
      await sql`UPDATE graphile_worker._private_jobs SET attempts = max_attempts, last_error = 'x', run_at = now() + interval '9 h'
        WHERE key = ${`advance:${opened.id}`}`.execute(tx)
      await sql`UPDATE jobs SET wake_at = now() WHERE id = ${opened.id}`.execute(tx)
      return opened
    })
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
  })

  it('heals a serial queue that stayed locked though no task of it runs', async () => {
    const machine = await place('available')
    const job = await withTx(world.db, async tx => {
      const opened = await world.lifecycle.provision(tx, machine.id, {template: 'debian/12', image: 'debian-12'}, 'test')
      const {rows} = await sql<{id: string}>`SELECT unnest(queue_ids) AS id FROM workers`.execute(tx)
      await sql`UPDATE graphile_worker._private_job_queues SET locked_at = now() - interval '11 s', locked_by = ${rows[0]!.id}
        WHERE queue_name = ${`job:${opened.id}`}`.execute(tx)
      return opened
    })
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
  })

  it('I2 fails a job at its deadline even when a fault of ours comes back at every look', async () => {
    const machine = await place('available')
    world.machines.get(machine.id)!.behaviour.afterClaim = async () => {
      await world.db.updateTable('machine_states').set({state: 'retired'}).where('machine_id', '=', machine.id).execute()
    }
    const job = await provision(machine.id)
    await waitFor(async () => (await world.lifecycle.job(job.id)).phases.some(row => row.phase === 'handed_off'))
    await world.expire(job.id)
    expect((await world.settled(job.id)).job).toMatchObject({state: 'failed', cause: {code: 'INTERNAL'}})
  })

  it('counts what a step cannot commit as a failed try, and names it', async () => {
    const machine = await world.declare(nextMac(), {facts: {nics: [{name: 'x'.repeat(40), mac: '52:54:00:a7:ff:01'}]}})
    await sql`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room for facts'; END $$`.execute(
      world.db,
    )
    await sql`CREATE TRIGGER refuse BEFORE INSERT ON facts FOR EACH ROW EXECUTE FUNCTION refuse()`.execute(world.db)
    const job = await verb('inspect', machine.id)
    const ended = await nudged(job.id)
    await sql`DROP FUNCTION refuse CASCADE`.execute(world.db)
    expect(ended).toMatchObject({state: 'failed', cause: {code: 'STEP_FAILED', detail: 'no room for facts'}})
  })

  it('F9 waits for a BMC that is away without using up its attempts', async () => {
    const machine = await place('available')
    world.power.fail(new IngotError('POWER_UNREACHABLE', 'not asked: 3 attempts in a row failed'))
    const job = await provision(machine.id)
    const tries = async () =>
      (
        await world.db
          .selectFrom('effects')
          .select('tries')
          .where('fence', '=', job.fence)
          .where('phase', '=', 'power_cycled')
          .executeTakeFirst()
      )?.tries ?? 0
    await waitFor(async () => {
      await nudge(job.id)
      return (await tries()) >= 5
    })
    world.power.fail(undefined)
    expect(await nudged(job.id)).toMatchObject({state: 'succeeded', attempt: 1})
  })

  it('F9 names the BMC’s failure, not the lapse of time, when it stays away', async () => {
    const machine = await place('available')
    world.power.fail(new IngotError('POWER_UNREACHABLE', 'the BMC is away'))
    const job = await provision(machine.id)
    for (const attempt of [1, 2]) {
      await waitFor(async () => {
        const view = await world.lifecycle.job(job.id)
        return view.job.attempt === attempt && view.job.phase === 'power_cycled' && view.job.state === 'waiting'
      })
      await world.expire(job.id)
    }
    const {job: ended, attempts} = await world.settled(job.id)
    world.power.fail(undefined)
    expect(attempts.map(row => row.outcome)).toEqual(['POWER_UNREACHABLE', 'POWER_UNREACHABLE'])
    expect(ended.cause?.detail).toContain('the BMC is away')
  })

  it('F7 gives each order once when a step takes longer than a beat, with two workers looking', async () => {
    const second = await world.startSecond()
    const machine = await place('available')
    const before = world.power.calls.length
    world.power.delay(name => sleep(name === 'off' ? 5_000 : 0))
    const {job} = await world.settled((await provision(machine.id)).id)
    world.power.delay(undefined)
    await second.stop()
    expect(job).toMatchObject({state: 'succeeded', attempt: 1})
    expect(world.power.calls.slice(before).map(call => call.replace(/ \S+$/, ''))).toEqual(['off', 'boot pxe', 'on'])
  })
})

describe('a job that is held', () => {
  it('grants no claim, serves no installer, and ends when it is cancelled', async () => {
    const machine = await place('available', {silent: true})
    const job = await provision(machine.id)
    await waitFor(async () => (await phaseOf(job.id)) === 'dhcp_seen')
    await world.db.updateTable('jobs').set({state: 'held'}).where('id', '=', job.id).execute()
    expect(await world.netboot(macOf(machine))).not.toContain('kernel')
    expect(await world.claims.serve(job.fence, '127.0.0.1')).toEqual({refused: 'attempt_over'})
    expect(await world.claims.claim(job.fence, 'ab'.repeat(32), '127.0.0.1')).toEqual({refused: 'ATTEMPT_OVER'})
    await cancel(job.id)
    expect((await world.settled(job.id)).job.state).toBe('cancelled')
    expect(await world.stateOf(machine.id)).toBe('failed')
  })
})

describe('cancelling', () => {
  /** Takes a silent machine by hand through the phases of an install, up to the one named. */
  async function upTo(phase: string) {
    const machine = await place('available', {silent: true})
    const mac = macOf(machine)
    if (phase === 'power_cycled') world.power.delay(() => sleep(300))
    const job = await provision(machine.id)
    await waitFor(async () => (await phaseOf(job.id)) === (phase === 'power_cycled' ? phase : 'dhcp_seen'))
    const install = attemptToken(await key(), job.fence, 'install')
    let session = ''
    const acts: [string, () => Promise<unknown>][] = [
      ['power_cycled', async () => undefined],
      ['dhcp_seen', async () => undefined],
      ['ramdisk_up', () => world.netboot(mac)],
      ['claimed', () => world.call(install, 'POST', '/ramdisk/hello', {mac, firmware: 'bios'})],
      [
        'disk_written',
        async () => {
          session = (await world.call(install, 'POST', '/ramdisk/claim', {session: 'cd'.repeat(32)})).lines.get('session') ?? ''
        },
      ],
      ['local_boot_set', () => world.call(session, 'POST', '/ramdisk/events', {kind: 'disk_written', disk: 'vda'})],
      ['first_boot', () => world.call(session, 'POST', '/ramdisk/events', {kind: 'local_boot_set'})],
    ]
    for (const [name, act] of acts) {
      await act()
      if (name === phase) break
    }
    await waitFor(async () => (await phaseOf(job.id)) === phase)
    return {machine, mac, job, install, session}
  }

  for (const phase of ['power_cycled', 'dhcp_seen', 'ramdisk_up', 'claimed', 'disk_written', 'local_boot_set', 'first_boot']) {
    it(`ends a job in phase ${phase}, after which nothing of it is served, claimed or believed`, async () => {
      const {machine, mac, job, install, session} = await upTo(phase)
      await cancel(job.id)
      await cancel(job.id).catch(error => expect(error).toMatchObject({code: 'CONFLICT'}))
      const {job: ended} = await world.settled(job.id)
      world.power.delay(undefined)
      expect(ended).toMatchObject({
        state: 'cancelled',
        attempt: 1,
        cause: {code: 'CANCELLED', detail: `cancelled in phase ${phase}`},
      })
      expect(await world.lifecycle.state(machine.id)).toMatchObject({state: 'failed', failed_from: 'provisioning', dirty: true})
      expect(await world.netboot(mac)).not.toContain('kernel')
      expect((await world.call(install, 'POST', '/ramdisk/claim', {})).text).toBe('refused ATTEMPT_OVER\n')
      expect((await world.call(install, 'POST', '/ramdisk/hello', {mac, firmware: 'bios'})).status).toBe(409)
      if (session) expect((await world.call(session, 'POST', '/ramdisk/events', {kind: 'local_boot_set'})).status).toBe(409)
      if (session) expect((await world.call(session, 'GET', '/ramdisk/config')).status).toBe(409)
      expect(await world.stateOf(machine.id)).toBe('failed')
    })
  }

  it('I4 refuses every claim that comes after it, however close', async () => {
    for (let round = 0; round < 12; round++) {
      const machine = await place('available', {silent: true})
      const job = await provision(machine.id)
      const [, claimed] = await Promise.all([cancel(job.id), world.claims.claim(job.fence, 'ab'.repeat(32), '127.0.0.1')])
      const after = await world.claims.claim(job.fence, 'ab'.repeat(32), '127.0.0.1')
      expect('refused' in after && ['CANCELLED', 'ATTEMPT_OVER']).toContain('refused' in after ? after.refused : '')
      const attempt = await world.db.selectFrom('attempts').selectAll().where('fence', '=', job.fence).executeTakeFirstOrThrow()
      expect(attempt.claimed_at !== null).toBe('granted' in claimed)
      expect((await world.settled(job.id)).job.state).toBe('cancelled')
    }
  })
})

describe('addresses', () => {
  const failing = () => ({fails: {cause: 'WRITE_FAILED', detail: 'sector 7'}})

  it('of a provision that failed are freed when its machine is wiped, and not before', async () => {
    const machine = await place('available', failing())
    await world.settled((await provision(machine.id, {prefix: hosts})).id)
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16', 'host 10.50.0.0/24'])
    delete world.machines.get(machine.id)!.behaviour.fails
    expect((await world.settled((await verb('clean', machine.id)).id)).job.state).toBe('succeeded')
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16'])
    const again = await world.settled((await provision(machine.id)).id)
    expect(again.job.plan).toMatchObject({install: {addresses: [{purpose: 'boot'}]}})
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16'])
  })

  it('are the ones of the plan when a failed provision is tried again', async () => {
    const machine = await place('available', failing())
    await world.settled((await provision(machine.id, {prefix: hosts})).id)
    const before = (await world.ipam.allocationsOf(machine.id)).map(row => row.id).toSorted()
    delete world.machines.get(machine.id)!.behaviour.fails
    expect((await world.settled((await verb('retry', machine.id)).id)).job.state).toBe('succeeded')
    expect((await world.ipam.allocationsOf(machine.id)).map(row => row.id).toSorted()).toEqual(before)
  })

  it('of a reinstall into another prefix that failed are all freed by the wipe, those before it too', async () => {
    const machine = await place('available')
    await world.settled((await provision(machine.id, {prefix: hosts})).id)
    world.machines.get(machine.id)!.behaviour.fails = failing().fails
    await world.settled((await reinstall(machine.id, {prefix: otherHosts})).id)
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16', 'host 10.50.0.0/24', 'host 10.51.0.0/24'])
    delete world.machines.get(machine.id)!.behaviour.fails
    await world.settled((await verb('clean', machine.id)).id)
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16'])
  })

  it('of a reinstall into another prefix replace those before it', async () => {
    const machine = await place('available')
    await world.settled((await provision(machine.id, {prefix: hosts})).id)
    await world.settled((await reinstall(machine.id, {prefix: otherHosts})).id)
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16', 'host 10.51.0.0/24'])
  })

  it('I1 of a machine switched by hand stay its own until its disks are wiped: nothing proves it off', async () => {
    const machine = await place('available', {}, 'manual')
    const install = await provision(machine.id, {prefix: hosts})
    await waitFor(() => askedToSwitch(install.id))
    world.switchByHand(machine.id)
    expect((await world.settled(install.id)).job.state).toBe('succeeded')
    const job = await verb('deprovision', machine.id)
    await waitFor(() => askedToSwitch(job.id))
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16', 'host 10.50.0.0/24'])
    world.switchByHand(machine.id)
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
    expect(await held(machine.id)).toEqual(['boot 127.0.0.0/16'])
    expect(await world.stateOf(machine.id)).toBe('available')
  })
})

describe('enrolment', () => {
  it('takes in no more machines than its window allows, however many come at once', async () => {
    const window = await openWindow({machineLimit: 1})
    const newcomers = ['52:54:00:a8:00:01', '52:54:00:a8:00:02', '52:54:00:a8:00:03', '52:54:00:a8:00:04'] as Mac[]
    const tokens = newcomers.map(async mac => ({mac, token: windowToken(await key(), window.id, mac)}))
    await Promise.all(
      (await Promise.all(tokens)).map(({mac, token}) => world.call(token, 'POST', '/ramdisk/hello', {mac, firmware: 'bios'})),
    )
    await waitFor(async () => {
      const waiting = await sql`SELECT FROM graphile_worker._private_jobs WHERE key LIKE 'intake:%'`.execute(world.db)
      return waiting.rows.length === 0
    })
    const known = await Promise.all(newcomers.map(mac => world.inventory.machineByMac(mac)))
    expect(known.filter(machine => machine !== undefined)).toHaveLength(1)
    await closeWindow(window.id)
  })

  it('makes one machine of one that came in by two of its network cards', async () => {
    const window = await openWindow()
    const [first, second] = ['52:54:00:a9:00:01', '52:54:00:a9:00:02'] as [Mac, Mac]
    const say = async (mac: Mac, path: string, body: unknown) =>
      world.call(windowToken(await key(), window.id, mac), 'POST', path, body)
    for (const mac of [first, second]) await say(mac, '/ramdisk/hello', {mac, firmware: 'bios'})
    await waitFor(async () =>
      Boolean((await world.inventory.machineByMac(first)) && (await world.inventory.machineByMac(second))),
    )
    const one = (await world.inventory.machineByMac(first))!
    const other = (await world.inventory.machineByMac(second))!
    expect(one.id).not.toBe(other.id)
    const nics = [first, second].map((mac, index) => ({name: `eth${index}`, mac, link: true}))
    await say(first, '/ramdisk/facts', {version: 1, nics, disks: [{name: 'vda', signature: null}]})
    await waitFor(async () => (await world.stateOf(one.id)) === 'enrolled')
    expect((await world.inventory.machineByMac(second))?.id).toBe(one.id)
    expect(await world.lifecycle.state(one.id)).toMatchObject({quarantined: null})
    expect(await world.stateOf(other.id)).toBe('retired')
    expect(await world.ipam.allocationsOf(other.id)).toEqual([])
    expect(await world.lifecycle.openJobOf(other.id)).toBeUndefined()
    await closeWindow(window.id)
  })

  it('takes no MAC from a machine that was inspected itself, and quarantines the one that claims it', async () => {
    const known = await world.declare(nextMac())
    await world.settled((await verb('inspect', known.id)).id)
    const claimant = await world.declare(nextMac(), {facts: {nics: [{name: 'eth0', mac: macOf(known)}]}})
    await world.settled((await verb('inspect', claimant.id)).id)
    expect((await world.lifecycle.state(claimant.id))?.quarantined).toBe(
      `facts_mismatch: ${macOf(known)} belongs to machine '${known.name}'`,
    )
    expect((await world.inventory.machineByMac(macOf(known)))?.id).toBe(known.id)
  })

  it('keeps two machines apart whose firmware tells the same UUID', async () => {
    const [a, b] = [await world.declare(nextMac()), await world.declare(nextMac())]
    for (const machine of [a, b]) await world.settled((await verb('inspect', machine.id)).id)
    const [first, second] = [await world.inventory.requireMachine(a.id), await world.inventory.requireMachine(b.id)]
    expect(first.dmi_uuid).toBe(second.dmi_uuid)
    expect([await world.stateOf(a.id), await world.stateOf(b.id)]).toEqual(['enrolled', 'enrolled'])
    expect((await world.inventory.machineByMac(macOf(a)))?.id).toBe(a.id)
  })

  it('counts a disk as blank only when the ramdisk said so', async () => {
    for (const [disks, quarantined] of [
      [[{name: 'vda'}], 'disk_not_empty: vda holds something unread'],
      [[{name: 'vda', signature: ''}], 'disk_not_empty: vda holds something unread'],
      [[null], 'disk_not_empty: a disk holds something unread'],
      ['none', 'disk_not_empty: the ramdisk told nothing of its disks'],
      [[{name: 'vda', signature: null}], null],
    ] as const) {
      const machine = await world.declare(nextMac(), {facts: {disks}})
      await world.settled((await verb('inspect', machine.id)).id)
      expect((await world.lifecycle.state(machine.id))?.quarantined, JSON.stringify(disks)).toBe(quarantined)
    }
  })

  it('F22 records facts of any shape and any character without stumbling', async () => {
    for (const facts of [
      {dmi: {serial: 'ab\0cd\ud800', uuid: 7}, nics: 'x', bmc: [], firmware: 'arc'},
      {dmi: null, nics: [null, 1, {mac: 5}, {name: {}, mac: '52:54:00:a7:fe:01'}], disks: [{name: 'vda', signature: null}]},
      {'a\0b': {'c\ud800': ['\0']}, disks: []},
      {dmi: {serial: 'x'.repeat(100_000)}},
    ]) {
      const machine = await world.declare(nextMac(), {facts})
      expect((await world.settled((await verb('inspect', machine.id)).id)).job, JSON.stringify(facts).slice(0, 80)).toMatchObject(
        {state: 'succeeded', cause: null},
      )
    }
  })

  it('goes on with an inspection whose window closes meanwhile, and takes in nobody new', async () => {
    const window = await openWindow()
    const [mac, late] = ['52:54:00:aa:0a:01', '52:54:00:aa:0a:02'] as [Mac, Mac]
    const token = windowToken(await key(), window.id, mac)
    await world.call(token, 'POST', '/ramdisk/hello', {mac, firmware: 'bios'})
    await waitFor(async () => (await world.inventory.machineByMac(mac)) !== undefined)
    await closeWindow(window.id)
    const lateToken = windowToken(await key(), window.id, late)
    expect((await world.call(lateToken, 'POST', '/ramdisk/hello', {mac: late, firmware: 'bios'})).text).toBe(
      'refused WINDOW_CLOSED\n',
    )
    expect((await world.call(lateToken, 'POST', '/ramdisk/facts', {version: 1})).status).toBe(409)
    expect((await world.call(lateToken, 'POST', '/ramdisk/claim', {})).text).toBe('refused NOT_A_DESTRUCTIVE_STAGE\n')
    expect((await world.call(token, 'POST', '/ramdisk/facts', {version: 1, disks: []})).status).toBe(200)
    const machine = (await world.inventory.machineByMac(mac))!
    await waitFor(async () => (await world.stateOf(machine.id)) === 'enrolled')
    expect((await world.call(token, 'POST', '/ramdisk/facts', {version: 1})).status).toBe(409)
    expect(await world.inventory.machineByMac(late)).toBeUndefined()
  })

  it('leaves a retired machine retired, whatever it sends inside a window', async () => {
    const machine = await world.declare(nextMac())
    await withTx(world.db, tx => world.lifecycle.retire(tx, machine.id, 'test'))
    const window = await openWindow()
    expect(await world.netboot(macOf(machine))).not.toContain('kernel')
    const token = windowToken(await key(), window.id, macOf(machine))
    await world.call(token, 'POST', '/ramdisk/hello', {mac: macOf(machine), firmware: 'bios'})
    await world.call(token, 'POST', '/ramdisk/facts', {version: 1})
    await waitFor(
      async () =>
        (await sql`SELECT FROM graphile_worker._private_jobs WHERE key LIKE 'intake:%'`.execute(world.db)).rows.length === 0,
    )
    expect(await world.stateOf(machine.id)).toBe('retired')
    expect(await world.lifecycle.openJobOf(machine.id)).toBeUndefined()
    await closeWindow(window.id)
  })

  it('refuses the second of two machines that are declared under one name, or one MAC, at the same time', async () => {
    const declare = (mac: string, name: string) =>
      withTx(world.db, tx => world.lifecycle.declare(tx, {name, macs: [mac as Mac], prefixId: world.prefix.id}, 'test'))
    const [a, b, c] = [nextMac(), nextMac(), nextMac()]
    const pairs = [
      [
        [a, 'twin'],
        [b, 'twin'],
      ],
      [
        [c, 'one'],
        [c, 'two'],
      ],
    ] as const
    for (const pair of pairs) {
      const ends = await Promise.allSettled(pair.map(([mac, name]) => declare(mac, name)))
      expect(ends.map(end => end.status).toSorted()).toEqual(['fulfilled', 'rejected'])
      expect(ends.find(end => end.status === 'rejected')).toMatchObject({reason: {code: 'CONFLICT'}})
    }
  })
})

describe('callbacks', () => {
  async function claimed(behaviour: SimulatedRamdisk = {silent: true}) {
    const machine = await place('available', behaviour)
    const job = await provision(machine.id)
    await waitFor(async () => (await phaseOf(job.id)) === 'dhcp_seen')
    await world.netboot(macOf(machine))
    const install = attemptToken(await key(), job.fence, 'install')
    const claim = await world.call(install, 'POST', '/ramdisk/claim', {session: 'cd'.repeat(32)})
    return {machine, job, install, session: claim.lines.get('session')!}
  }
  const phoneHome = {facts: {hostname: 'x'}, ssh_host_keys: ['ssh-ed25519 AAAA'], user_data: []}

  it('F6 takes a phone-home that overtakes the news that local boot was set', async () => {
    const {job, session} = await claimed()
    await world.call(session, 'POST', '/ramdisk/events', {kind: 'disk_written', disk: 'vda'})
    const token = attemptToken(await key(), job.fence, 'first_boot')
    expect((await world.call(token, 'POST', '/first-boot', phoneHome)).status).toBe(204)
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
    expect((await world.call(session, 'POST', '/ramdisk/events', {kind: 'local_boot_set'})).status).toBe(409)
  })

  it('F6 counts one phone-home out of a thousand at once', async () => {
    const {job, session, machine} = await claimed()
    await world.call(session, 'POST', '/ramdisk/events', {kind: 'disk_written', disk: 'vda'})
    const token = attemptToken(await key(), job.fence, 'first_boot')
    const send = async () => {
      for (let count = 0; count < 50; count++)
        expect((await world.call(token, 'POST', '/first-boot', phoneHome)).status).toBe(204)
    }
    await Promise.all(Array.from({length: 20}, send))
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
    const kinds = await world.evidence.kindsOf(world.db, job.fence)
    expect([kinds.get('first_boot'), kinds.get('facts')]).toEqual([1, 1])
    expect((await world.inventory.latestFacts(machine.id, 'first_boot'))?.version).toBe(1)
  })

  it('records a phone-home after its job has failed under its machine, and changes nothing', async () => {
    const {job, machine} = await claimed()
    await cancel(job.id)
    await world.settled(job.id)
    const token = attemptToken(await key(), job.fence, 'first_boot')
    expect((await world.call(token, 'POST', '/first-boot', phoneHome)).status).toBe(204)
    const rows = await world.evidence.ofMachine(machine.id, {limit: 10})
    expect(rows.find(row => row.kind === 'first_boot')).toMatchObject({job_id: job.id, fence: job.fence})
    await sleep(300)
    expect(await world.stateOf(machine.id)).toBe('failed')
    expect(await world.inventory.latestFacts(machine.id, 'first_boot')).toBeUndefined()
  })

  it('keeps what a ramdisk says of its failure short and printable', async () => {
    const {job, session} = await claimed()
    const hostile = `\u001b[2J\0"; DROP TABLE jobs; {{x}}\r\n${'ö'.repeat(10_000)}`
    expect(
      (await world.call(session, 'POST', '/ramdisk/events', {kind: 'failed', cause: hostile, detail: hostile, more: {a: 1}}))
        .status,
    ).toBe(204)
    await waitFor(async () => (await world.lifecycle.job(job.id)).job.cause !== null)
    const {cause} = (await world.lifecycle.job(job.id)).job
    expect(cause?.code).toBe('RAMDISK_FAILED')
    expect(cause?.detail).toMatch(/^[\x20-\x7e…]{1,5000}$/)
    const failed = (await world.evidence.ofFence(world.db, job.fence)).find(row => row.kind === 'failed')
    expect(Object.keys(failed!.detail).toSorted()).toEqual(['cause', 'detail'])
  })

  it('takes the log of a ramdisk whose failure has already ended its attempt, and few of them', async () => {
    const {job, session, install, machine} = await claimed()
    await world.call(session, 'POST', '/ramdisk/events', {kind: 'failed', cause: 'WRITE_FAILED', detail: 'x'})
    await waitFor(async () => (await world.lifecycle.job(job.id)).job.attempt === 2)
    const log = async (token: string, text: string) =>
      (await fetch(`${world.bootUrl}/ramdisk/log`, {method: 'POST', headers: {authorization: `Bearer ${token}`}, body: text}))
        .status
    for (let count = 0; count < 10; count++)
      expect(await log(count % 2 ? session : install, `line ${count}\n\0\u001b[31m`)).toBe(204)
    expect(await log(session, 'x'.repeat(256 * 1024 + 1))).toBe(413)
    expect(await log(`s.${job.fence}.${'ee'.repeat(32)}`, 'forged')).toBe(409)
    const rows = (await world.evidence.ofMachine(machine.id, {limit: 50})).filter(row => row.kind === 'ramdisk_log')
    expect(rows).toHaveLength(4)
    expect(JSON.stringify(rows.at(-1)!.detail)).toContain('line 0')
    await cancel(job.id)
    await world.settled(job.id)
  })

  it('believes no token of another stage, another machine, or an older attempt', async () => {
    const {job, install, machine} = await claimed()
    const other = await world.declare(nextMac())
    const firstBoot = attemptToken(await key(), job.fence, 'first_boot')
    const clean = attemptToken(await key(), job.fence, 'clean')
    const inspect = attemptToken(await key(), job.fence, 'inspect')
    for (const token of [firstBoot, clean, inspect]) {
      expect((await world.call(token, 'POST', '/ramdisk/hello', {mac: macOf(machine), firmware: 'bios'})).status).toBe(409)
      expect((await world.call(token, 'POST', '/ramdisk/events', {kind: 'failed', cause: 'X', detail: 'x'})).status).toBe(409)
    }
    for (const token of [install, firstBoot, clean, inspect])
      expect((await world.call(token, 'POST', '/ramdisk/facts', {version: 1})).status).toBe(409)
    expect((await world.call(install, 'POST', '/first-boot', phoneHome)).status).toBe(409)
    expect((await world.call(install, 'POST', '/ramdisk/hello', {mac: macOf(other), firmware: 'bios'})).text).toBe(
      'refused WRONG_MACHINE\n',
    )
    expect((await world.call(install, 'POST', '/ramdisk/events', {kind: 'disk_written'})).text).toBe('refused NOT_CLAIMED\n')
    const kinds = await world.evidence.kindsOf(world.db, job.fence)
    expect([kinds.get('wrong_machine'), kinds.has('facts'), kinds.has('failed')]).toEqual([1, false, false])
    expect((await world.lifecycle.job(job.id)).job.state).not.toBe('failed')
    await cancel(job.id)
    await world.settled(job.id)
  })
})

describe('change hints', () => {
  it('are sent for what the snapshot shows, not for every move of a job or a dynamic address', async () => {
    const heard: string[] = []
    const client = createClient({url: world.url, applicationName: 'test-hints', log: createLog('test', 'silent')})
    await client.connect()
    onTestFinished(() => client.end())
    client.on('notification', message => heard.push(message.payload ?? ''))
    await client.query('LISTEN ingot_snapshot')
    const machine = await place('available')
    await client.query('SELECT 1')
    expect(heard.toSorted()).toEqual(['allocations', 'interfaces', 'machines'])
    heard.length = 0
    expect((await world.settled((await provision(machine.id)).id)).job.state).toBe('succeeded')
    await client.query('SELECT 1')
    // The profile that it became carries DHCP options, too.
    expect(heard).toEqual(['jobs', 'jobs', 'machine_states'])
    heard.length = 0
    const dynamic = await withTx(world.db, tx =>
      world.ipam.createPrefix(
        tx,
        {cidr: '10.60.0.0/24', ranges: [{kind: 'dynamic', first: '10.60.0.10', last: '10.60.0.90'}]},
        'test',
      ),
    )
    await client.query('SELECT 1')
    heard.length = 0
    for (let count = 0; count < 5; count++)
      await world.ipam.offerDynamic({mac: `52:54:00:f0:00:0${count}` as Mac, prefixId: dynamic.id, now: new Date()})
    await client.query('SELECT 1')
    expect(heard).toEqual([])
  })
})

describe('partitions of evidence', () => {
  it('are split off with what the default one holds already, again and again, and old ones go', async () => {
    const now = new Date()
    const day = now.toISOString().slice(0, 10).replaceAll('-', '')
    const old = new Date(now.getTime() - 40 * 86_400_000)
    await world.evidence.record(world.db, {at: now, kind: 'kept', source: 'test', detail: {}})
    await world.evidence.record(world.db, {at: old, kind: 'gone', source: 'test', detail: {}})
    await Promise.all([world.evidence.keepPartitions(now, 30), world.evidence.keepPartitions(now, 30)])
    const rows = async (table: string, kind: string) =>
      (await sql`SELECT FROM ${sql.table(table)} WHERE kind = ${kind}`.execute(world.db)).rows.length
    expect(await rows(`evidence_${day}`, 'kept')).toBe(1)
    expect(await rows('evidence', 'gone')).toBe(0)
    await world.evidence.record(world.db, {at: now, kind: 'kept', source: 'test', detail: {}})
    expect(await rows(`evidence_${day}`, 'kept')).toBe(2)
    const later = new Date(now.getTime() + 50 * 86_400_000)
    expect(await world.evidence.keepPartitions(later, 30)).toContain(`evidence_${day}`)
    expect(await rows('evidence', 'kept')).toBe(0)
  })

  it('are split off under the feet of writers without refusing one of them', async () => {
    const now = new Date()
    let writing = true
    let written = 0
    const write = async () => {
      while (writing) {
        await world.evidence.record(world.db, {at: now, kind: 'beside', source: 'test', detail: {}})
        await world.db.transaction().execute(async tx => {
          await world.evidence.eventsEnd()
          await world.evidence.changed(tx, {at: now, actor: 'test', kind: 'beside', detail: {}})
        })
        written++
      }
    }
    const partition = `events_${now.toISOString().slice(0, 10).replaceAll('-', '')}`
    const writers = Promise.all(Array.from({length: 8}, write))
    try {
      for (let round = 0; round < 10; round++) {
        const before = written
        await Promise.race([writers, waitFor(async () => written > before + 8)])
        await sql`DROP TABLE IF EXISTS ${sql.table(partition)}`.execute(world.db)
        await world.evidence.keepPartitions(now, 30)
      }
    } finally {
      writing = false
    }
    await writers
  })
})

async function nudge(jobId: string): Promise<void> {
  await sql`UPDATE jobs SET wake_at = now() WHERE id = ${jobId} AND state = 'waiting'`.execute(world.db)
}

/** Waits for a job's end without its pauses between tries. */
async function nudged(jobId: string) {
  await waitFor(async () => {
    await nudge(jobId)
    return (await world.lifecycle.job(jobId)).job.finished_at !== null
  })
  return (await world.lifecycle.job(jobId)).job
}

async function waitFor(look: () => Promise<boolean>, limitMs = 60_000): Promise<void> {
  const end = Date.now() + limitMs
  while (!(await look())) {
    if (Date.now() > end) throw new Error('it did not come')
    await sleep(25)
  }
}
