/** Layer-3 hosts: a profile asks for a /31 and a /127 a machine; they are carved, written into the host, and given back. */
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {withTx} from '../../lib/db.ts'
import {loadTemplates} from '../../lib/template-set.ts'
import {createInstallRenderer, type InstallInput} from '../../services/boot/plan.ts'
import {createLifecycle, type JobPlan} from '../../services/lifecycle/index.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

let world: LifecycleWorld
let lifecycle: LifecycleWorld['lifecycle']
beforeAll(async () => {
  world = await createLifecycleWorld()
  const render = createInstallRenderer(await loadTemplates(new URL('../../templates', import.meta.url).pathname))
  lifecycle = createLifecycle({...world.services, renderInstall: render})
  const create = (input: object) => world.ipam.createPrefix(world.db, input as never, 'test')
  await create({cidr: '10.90.0.0/24', status: 'container', role: 'links', cool_down_s: 120})
  await create({cidr: 'fd90::/64', status: 'container', role: 'links', cool_down_s: 120})
  await withTx(world.db, tx =>
    world.inventory.putProfile(tx, {
      name: 'l3',
      template: 'debian/12',
      image: 'debian-12',
      links: [
        {from: {prefix: '10.90.0.0/24'}, length: 31},
        {from: {role: 'links'}, length: 127},
      ],
    }),
  )
})
afterAll(() => world.close())

const provision = (id: string) => withTx(world.db, tx => lifecycle.provision(tx, id, {profile: 'l3'}, 'test'))

describe('a machine with a profile that asks for links', () => {
  it('gets them with its gateway on the switch, keeps them at the next install, and gives them back with its host', async () => {
    const machine = await world.declare('52:54:00:ab:00:01')
    await world.place(machine.id, 'available')
    const done = await world.settled((await provision(machine.id)).id)
    expect(done.job.cause).toBeNull()
    const {install} = done.job.plan as unknown as JobPlan
    expect(install?.addresses).toEqual([
      {address: '127.0.0.2', prefix: '127.0.0.0/16', purpose: 'boot'},
      {address: '10.90.0.1', prefix: '10.90.0.0/31', purpose: 'host'},
      {address: 'fd90::1', prefix: 'fd90::/127', purpose: 'host'},
    ])
    const network = install?.files.find(file => file.path.endsWith('10-ingot.network'))?.body
    expect(network).toContain('Address=10.90.0.1/31\nGateway=10.90.0.0\nAddress=fd90::1/127\nGateway=fd90::\n')
    expect(install?.files.find(file => file.path === 'etc/hosts')?.body).toContain('10.90.0.1 ')

    await world.place(machine.id, 'available')
    const again = await world.settled((await provision(machine.id)).id)
    expect((again.job.plan as unknown as JobPlan).install).toMatchObject({
      addresses: install?.addresses,
      frees: [],
      gives_back: [],
    })

    const given = await world.settled((await withTx(world.db, tx => lifecycle.deprovision(tx, machine.id, 'test'))).id)
    expect(given.job.state).toBe('succeeded')
    expect((await world.ipam.allocationsOf(machine.id)).map(allocation => allocation.purpose)).toEqual(['boot'])
    const past = await world.ipam.pastOf({machineId: machine.id})
    expect(past.networks.map(row => `${row.cidr} ${row.freedBy}`).toSorted()).toEqual([
      '10.90.0.0/31 lifecycle',
      'fd90::/127 lifecycle',
    ])
    expect(await world.ipam.getPrefix('10.90.0.0/31')).toBeNull()
  }, 180_000)

  it('gets the second /31 of the container, not the one that cools', async () => {
    const machine = await world.declare('52:54:00:ab:00:02')
    await world.place(machine.id, 'available')
    const job = await provision(machine.id)
    expect((job.plan as unknown as JobPlan).install?.addresses.map(row => row.prefix)).toEqual([
      '127.0.0.0/16',
      '10.90.0.2/31',
      'fd90::2/127',
    ])
    await world.settled(job.id)
  }, 180_000)
})

describe('the template', () => {
  it('writes an IPv6 link beside an IPv4 address that is not one', async () => {
    const render = createInstallRenderer(await loadTemplates(new URL('../../templates', import.meta.url).pathname))
    const input: InstallInput = {
      template: 'debian/12',
      hostname: 'web01',
      mac: '52:54:00:00:00:01' as Mac,
      address: '10.0.0.5' as Ipv4,
      cidr: '10.0.0.0/24' as Cidr,
      gateway: null,
      dns: [],
      links: [{address: 'fd90::3', cidr: 'fd90::2/127' as Cidr, gateway: 'fd90::2'}],
      bootUrl: 'http://10.0.0.1:8480',
      parameters: {},
      authorizedKeys: [],
    }
    const body = render(input).find(file => file.path.endsWith('10-ingot.network'))?.body
    expect(body).toContain('Address=10.0.0.5/24\nAddress=fd90::3/127\nGateway=fd90::2\n')
  })
})
