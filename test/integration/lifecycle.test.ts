import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {parseMac} from '../../lib/addresses.ts'
import {withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
beforeAll(async () => {
  world = await createLifecycleWorld()
})
afterAll(() => world.close())

let macs = 0
function nextMac(): string {
  macs++
  return `52:54:00:aa:00:${macs.toString(16).padStart(2, '0')}`
}

async function ready(behaviour = {}) {
  const machine = await world.declare(nextMac(), behaviour)
  await inspectAndClean(machine.id)
  return machine
}

async function inspectAndClean(id: string) {
  expect((await world.settled((await withTx(world.db, tx => world.lifecycle.inspect(tx, id, 'test'))).id)).job.state).toBe(
    'succeeded',
  )
  expect((await world.settled((await withTx(world.db, tx => world.lifecycle.clean(tx, id, 'test'))).id)).job.state).toBe(
    'succeeded',
  )
}

const provision = (id: string, request = {}) =>
  withTx(world.db, tx => world.lifecycle.provision(tx, id, {template: 'debian/12', image: 'debian-12', ...request}, 'test'))

describe('a machine’s way', () => {
  it('goes from discovered to active and back to available, each phase proven in order', async () => {
    const machine = await world.declare(nextMac())
    expect(await world.stateOf(machine.id)).toBe('discovered')
    await inspectAndClean(machine.id)
    expect(await world.stateOf(machine.id)).toBe('available')
    const done = await world.settled((await provision(machine.id, {hostname: 'web01'})).id)
    expect(done.job.cause).toBeNull()
    expect(done.job.state).toBe('succeeded')
    expect(done.phases.map(row => row.phase).toSorted()).toEqual(
      [
        'planned',
        'network_ready',
        'power_cycled',
        'dhcp_seen',
        'loader_fetched',
        'ramdisk_up',
        'claimed',
        'disk_written',
        'local_boot_set',
        'first_boot',
        'facts_recorded',
        'handed_off',
      ].toSorted(),
    )
    expect(await world.stateOf(machine.id)).toBe('active')
    const given = await world.settled((await withTx(world.db, tx => world.lifecycle.deprovision(tx, machine.id, 'test'))).id)
    expect(given.job.state).toBe('succeeded')
    const state = await world.lifecycle.state(machine.id)
    expect(state).toMatchObject({state: 'available', dirty: false, provisioned: null})
  })

  it('enrols an unknown machine inside a window with the address it keeps, and cleans it because its disks are blank', async () => {
    const mac = parseMac(nextMac())!
    await withTx(world.db, tx =>
      world.inventory.openWindow(tx, {
        prefixId: world.prefix.id,
        until: new Date(Date.now() + 60_000),
        clean: true,
        createdBy: 'test',
      }),
    )
    world.switchOn(mac)
    const enrolled = await waitFor(async () => {
      const machine = await world.inventory.machineByMac(mac)
      return machine && (await world.stateOf(machine.id)) === 'cleaning' ? machine : undefined
    })
    const [address] = await world.ipam.allocationsOf(enrolled.id)
    expect(address).toMatchObject({purpose: 'boot', clientKey: mac})
    expect((await world.inventory.latestFacts(enrolled.id, 'inspection'))?.version).toBe(1)
    const open = await world.lifecycle.openJobOf(enrolled.id)
    expect(open?.kind).toBe('clean')
    await withTx(world.db, tx => world.lifecycle.cancel(tx, open!.id, 'test'))
    await world.settled(open!.id)
    for (const window of await world.inventory.openWindows(new Date())) {
      await withTx(world.db, tx => world.inventory.closeWindow(tx, window.id, new Date()))
    }
  })

  it('gives a MAC that nobody declared nothing when no window is open', async () => {
    expect(await world.netboot(parseMac('52:54:00:ff:ff:01')!)).toBeUndefined()
  })

  it('quarantines a machine whose disk is not empty, and cleans it only at a person’s word', async () => {
    const machine = await world.declare(nextMac(), {signature: 'ext4'})
    await world.settled((await withTx(world.db, tx => world.lifecycle.inspect(tx, machine.id, 'test'))).id)
    expect((await world.lifecycle.state(machine.id))?.quarantined).toMatch(/^disk_not_empty: vda holds ext4/)
    const actions = await world.lifecycle.actions(machine.id)
    expect(actions.find(action => action.action === 'clean')).toMatchObject({allowed: true})
    await world.settled((await withTx(world.db, tx => world.lifecycle.clean(tx, machine.id, 'test'))).id)
    expect(await world.lifecycle.state(machine.id)).toMatchObject({state: 'available', quarantined: null})
  })
})

describe('what must never happen', () => {
  it('F7 grants one claim an attempt: a second claimant is refused and ends the job', async () => {
    const machine = await ready()
    const record = world.machines.get(machine.id)!
    record.behaviour.afterClaim = async () => {
      const open = await world.lifecycle.openJobOf(machine.id)
      expect(await world.claims.claim(open!.fence, 'cd'.repeat(32), '10.9.9.9')).toEqual({refused: 'SECOND_CLAIM'})
    }
    const {job} = await world.settled((await provision(machine.id)).id)
    expect(job).toMatchObject({state: 'failed', cause: {code: 'SECOND_CLAIM'}})
    expect(await world.lifecycle.state(machine.id)).toMatchObject({state: 'failed', failed_from: 'provisioning', dirty: true})
  })

  it('grants the same ramdisk its claim again when the answer was lost', async () => {
    const machine = await ready()
    const record = world.machines.get(machine.id)!
    record.behaviour.afterClaim = async () => {
      const open = await world.lifecycle.openJobOf(machine.id)
      expect(await world.claims.claim(open!.fence, record.session!, '127.0.0.1')).toHaveProperty('granted')
    }
    expect((await world.settled((await provision(machine.id)).id)).job.state).toBe('succeeded')
  })

  it('ends an attempt whose installer is fetched twice with LOADER_LOOP, and succeeds with the next fence', async () => {
    const machine = await ready()
    world.machines.get(machine.id)!.behaviour.resets = true
    const started = await provision(machine.id)
    const ended = await waitFor(async () => {
      const view = await world.lifecycle.job(started.id)
      return view.attempts.length > 1 ? view : undefined
    })
    expect(ended.attempts[0]?.outcome).toBe('LOADER_LOOP')
    const {job, attempts} = await world.settled(started.id)
    expect(job.cause).toBeNull()
    expect(attempts).toHaveLength(2)
    expect(attempts[1]!.fence).toBeGreaterThan(attempts[0]!.fence)
  })

  it('sends a machine without an open job to its disk, three times over', async () => {
    const machine = await ready()
    const mac = parseMac(machine.interfaces[0]!.mac)!
    for (let boot = 0; boot < 3; boot++) {
      const script = await world.netboot(mac)
      expect(script).toMatch(/^#!ipxe\n(.*\n)*exit 1\n$/)
      expect(script).not.toContain('kernel')
    }
  })

  it('serves no installer to a boot that began before the job power-cycled the machine', async () => {
    const machine = await ready()
    world.power.fail(new IngotError('POWER_UNREACHABLE', 'the BMC is away'))
    const job = await provision(machine.id)
    expect(await world.netboot(parseMac(machine.interfaces[0]!.mac)!)).toContain('exit 1')
    await waitFor(async () => ((await world.lifecycle.job(job.id)).job.phase === 'power_cycled' ? true : undefined))
    expect(await world.netboot(parseMac(machine.interfaces[0]!.mac)!)).not.toContain('kernel')
    world.power.fail(undefined)
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
  })

  it('F15 refuses a job whose image does not exist before anything is touched', async () => {
    const machine = await ready()
    const before = world.power.calls.length
    await expect(provision(machine.id, {image: 'no-such'})).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    expect(await world.stateOf(machine.id)).toBe('available')
    expect(world.power.calls.length).toBe(before)
  })

  it('refuses a second job while one is open, naming it', async () => {
    const machine = await ready({})
    world.machines.get(machine.id)!.behaviour.silent = true
    const job = await provision(machine.id)
    await expect(provision(machine.id)).rejects.toMatchObject({code: 'JOB_OPEN', detail: expect.stringContaining(job.id)})
    await expect(withTx(world.db, tx => world.lifecycle.power(tx, machine.id, 'off', 'test'))).rejects.toMatchObject({
      code: 'JOB_OPEN',
    })
    await withTx(world.db, tx => world.lifecycle.cancel(tx, job.id, 'test'))
    expect((await world.settled(job.id)).job).toMatchObject({state: 'cancelled', cause: {code: 'CANCELLED'}})
    expect(await world.stateOf(machine.id)).toBe('failed')
  })
})

describe('when things go wrong', () => {
  it('fails a phase whose deadline has passed with its cause and mend, and tries again with a new fence first', async () => {
    const machine = await ready()
    world.machines.get(machine.id)!.behaviour.silent = true
    const job = await provision(machine.id)
    await waitFor(async () => ((await world.lifecycle.job(job.id)).job.phase === 'dhcp_seen' ? true : undefined))
    await world.expire(job.id)
    await waitFor(async () => {
      const view = await world.lifecycle.job(job.id)
      return view.job.attempt === 2 && view.job.phase === 'dhcp_seen' ? true : undefined
    })
    await world.expire(job.id)
    const {job: ended, attempts} = await world.settled(job.id)
    expect(attempts.map(attempt => attempt.outcome)).toEqual(['NO_DHCP', 'NO_DHCP'])
    expect(ended.cause).toMatchObject({code: 'NO_DHCP', mend: expect.stringContaining('network')})
  })

  it('tells what the ramdisk said when it failed, and retries the frozen plan on request', async () => {
    const machine = await ready()
    world.machines.get(machine.id)!.behaviour.fails = {cause: 'IMAGE_CHECKSUM', detail: 'chunk 7'}
    const {job} = await world.settled((await provision(machine.id, {hostname: 'kept'})).id)
    expect(job).toMatchObject({state: 'failed', attempt: 2, cause: {code: 'IMAGE_CHECKSUM', detail: 'chunk 7'}})
    delete world.machines.get(machine.id)!.behaviour.fails
    const again = await withTx(world.db, tx => world.lifecycle.retry(tx, machine.id, 'test'))
    expect(again.plan_hash).toBe(job.plan_hash)
    expect((await world.settled(again.id)).job.state).toBe('succeeded')
    expect(await world.stateOf(machine.id)).toBe('active')
  })

  it('F6 changes nothing when the phone-home is doubled, replayed or comes with an old fence', async () => {
    const machine = await ready()
    const {job} = await world.settled((await provision(machine.id)).id)
    const before = (await world.evidence.ofFence(world.db, job.fence)).length
    const {createHmac} = await import('node:crypto')
    const {key} = await world.db.selectFrom('boot_keys').select('key').executeTakeFirstOrThrow()
    const token = `a.${job.fence}.first_boot.${createHmac('sha256', key).update(`attempt|${job.fence}|first_boot`).digest('base64url')}`
    const body = {facts: {hostname: 'evil'}, ssh_host_keys: ['ssh-ed25519 EVIL'], user_data: []}
    for (let replay = 0; replay < 20; replay++) expect((await world.call(token, 'POST', '/first-boot', body)).status).toBe(204)
    expect(await world.evidence.ofFence(world.db, job.fence)).toHaveLength(before)
    expect(JSON.stringify(await world.inventory.latestFacts(machine.id, 'first_boot'))).not.toContain('EVIL')
    expect(await world.stateOf(machine.id)).toBe('active')
  })

  it('goes on where it was when the worker is replaced mid-job', async () => {
    const machine = await ready()
    let released: () => void = () => undefined
    const held = new Promise<void>(resolve => {
      released = resolve
    })
    world.machines.get(machine.id)!.behaviour.afterClaim = () => held
    const job = await provision(machine.id)
    await waitFor(async () => ((await world.lifecycle.job(job.id)).job.phase === 'disk_written' ? true : undefined))
    await world.restartWorker()
    released()
    expect((await world.settled(job.id)).job.state).toBe('succeeded')
  })

  it('refuses a forged token and a token of another stage', async () => {
    const machine = await ready()
    expect((await world.call('a.1.install.forged', 'POST', '/ramdisk/claim', {})).status).toBe(401)
    expect((await world.call('s.1.'.concat('0'.repeat(64)), 'GET', '/ramdisk/config')).status).toBe(409)
    expect(await world.stateOf(machine.id)).toBe('available')
  })
})

async function waitFor<T>(look: () => Promise<T | undefined>, limitMs = 60_000): Promise<T> {
  const end = Date.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error('it did not come')
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}
