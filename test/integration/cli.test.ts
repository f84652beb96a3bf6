/** The command line as people and scripts meet it: `bin/ingot` over a Unix socket, against the real API. */
import {type ChildProcess, spawn} from 'node:child_process'
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {Command} from 'commander'
import {afterAll, beforeAll, describe, expect, it, vi} from 'vitest'
import {withTx} from '../../lib/db.ts'
import {type ApiWorld, createApiWorld} from '../support/api-world.ts'

const INGOT = new URL('../../bin/ingot', import.meta.url).pathname

let api: ApiWorld
let verbs: {path: string; verb: Command}[]
let dir: string
let socket: string
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ingot-cli-'))
  socket = join(dir, 'api.sock')
  api = await createApiWorld()
  await api.listen({path: socket})
  verbs = verbsOf(await loadProgram())
  writeFileSync(join(dir, 'password'), 's3cret\n')
  const loader = {kind: 'loader', version: '1', source: 'test'} as const
  await api.services.artefacts.importFile('loaders/own.efi', join(dir, 'password'), loader)
  writeFileSync(join(dir, 'program'), '#!/bin/sh\ntrue\n')
  writeFileSync(join(dir, 'profile.yml'), 'image: debian-12\nparameters:\n  search_domains: [example.org]\n')
})
afterAll(async () => {
  await api.close()
  rmSync(dir, {recursive: true, force: true})
})

type Ran = {readonly code: number | null; readonly signal: string | null; readonly out: string; readonly err: string}

type Started = {readonly child: ChildProcess; readonly said: {out: string; err: string}; readonly ran: Promise<Ran>}

function start(words: readonly string[], env: Record<string, string> = {}): Started {
  const own = {HOME: dir, INGOT_API: `unix:${socket}`, INGOT_TOKEN: api.tokens.administer}
  const child = spawn(INGOT, words, {env: {PATH: process.env.PATH, ...own, ...env}, cwd: dir, stdio: ['ignore', 'pipe', 'pipe']})
  const said = {out: '', err: ''}
  child.stdout.setEncoding('utf8').on('data', chunk => {
    said.out += chunk
  })
  child.stderr.setEncoding('utf8').on('data', chunk => {
    said.err += chunk
  })
  const ran = new Promise<Ran>(resolve => child.on('close', (code, signal) => resolve({code, signal, ...said})))
  return {child, said, ran}
}

/** Waits until it has said something of the kind. */
async function spoken({child, said}: Started, what: RegExp, from: 'out' | 'err' = 'out'): Promise<void> {
  for (const end = Date.now() + 60_000; !what.test(said[from]); await new Promise(resolve => setTimeout(resolve, 20))) {
    if (Date.now() > end || child.exitCode !== null) throw new Error(`it never said ${what}, but ${JSON.stringify(said)}`)
  }
}

const ingot = (line: string, env?: Record<string, string>) => start(line.split(' ').filter(Boolean), env).ran

async function json(line: string): Promise<Record<string, unknown>> {
  const {code, out, err} = await ingot(`${line} --json`)
  expect({line, code, err}).toEqual({line, code: 0, err: ''})
  return JSON.parse(out)
}

/** The program as bin/ingot.ts builds it. */
async function loadProgram(): Promise<Command> {
  const parse = vi.spyOn(Command.prototype, 'parseAsync').mockImplementation(async function (this: Command) {
    return this
  })
  await import('../../bin/ingot.ts')
  const program = parse.mock.contexts[0] as Command
  parse.mockRestore()
  return program
}

function verbsOf(command: Command, path = ''): {path: string; verb: Command}[] {
  return command.commands.flatMap(sub => {
    const name = `${path} ${sub.name()}`.trim()
    return sub.commands.length > 0 ? verbsOf(sub, name) : [{path: name, verb: sub}]
  })
}

/** What NetBox answers at /api/ipam/prefixes/ and /api/ipam/ip-addresses/, cut down. */
const NETBOX = [
  {
    count: 2,
    results: [
      {
        id: 2,
        prefix: '10.46.1.0/24',
        vrf: null,
        status: {value: 'active'},
        role: {name: 'Servers'},
        site: {name: 'AMS'},
        description: 'db',
      },
      {id: 1, prefix: '10.46.0.0/16', vrf: null, status: {value: 'active'}, role: null, site: null, description: ''},
    ],
  },
  {count: 1, results: [{id: 9, address: '10.46.1.7/24', vrf: null, status: {value: 'active'}, dns_name: 'db01.example.org'}]},
]

describe('every verb', () => {
  const tried = new Set<string>()
  const use = (line: string) => {
    const [verb] = verbs.filter(({path}) => `${line} `.startsWith(`${path} `)).toSorted((x, y) => y.path.length - x.path.length)
    tried.add(verb?.path ?? line)
    return json(line)
  }

  it('of `ingot ip` with --json prints one JSON document', useOnAddresses, 300_000)

  it('with --json prints one JSON document', async () => {
    await Promise.all([useOnMachine(), useOnTheRest()])
  }, 300_000)

  // Apart from the first, which lists the one machine that there is.
  it('of the rest of the lifecycle and of DHCP does so too', () => Promise.all([useOnOthers(), useOnDhcp()]), 300_000)

  it('has been tried', () => {
    // These work on a host, and have tests of their own.
    const onHost = ['init', 'serve', 'images build', 'db migrate', 'db backup', 'db restore', 'secrets show', 'secrets rotate']
    const all = verbs.map(verb => verb.path)
    expect(all.filter(path => !onHost.includes(path) && !tried.has(path))).toEqual([])
  })

  async function useOnMachine() {
    const declared = await use(
      'machines add 52:54:00:0c:00:01 --name m1 --label rack=12 --bmc 127.0.0.1 --bmc-user root --bmc-password-file password',
    )
    expect(declared).toMatchObject({name: 'm1', labels: {rack: '12'}})
    const behaviour = {mac: '52:54:00:0c:00:01' as never, behaviour: {}, on: false, boots: 0, journal: []}
    api.world.machines.set(String(declared.id), behaviour)
    const [listed, set] = await Promise.all([use('machines list'), use('machines set-bmc m1 --bmc 127.0.0.1 --bmc-user root')])
    expect(listed).toMatchObject({items: [{name: 'm1'}], next: null})
    expect(set).toMatchObject({driver: 'ipmi', username: 'root'})
    expect(await use('inspect m1 --wait')).toMatchObject({kind: 'inspect', state: 'succeeded'})
    expect(await use('clean m1 --wait')).toMatchObject({kind: 'clean', state: 'succeeded'})
    expect(await use('profiles write web --template debian/12 --file profile.yml')).toMatchObject({
      image: 'debian-12',
      parameters: {search_domains: ['example.org']},
    })
    expect(await use('provision m1 --profile web --hostname www --set n=1 --user-data program --wait')).toMatchObject({
      state: 'succeeded',
    })
    const cycled = await use('power cycle m1 --wait')
    expect(cycled).toMatchObject({kind: 'power', state: 'succeeded'})
    const [shown, inventory, host, actions, jobs, job, followed, status, bundle, stages, events, profiles] = await Promise.all([
      use('machines show m1'),
      use('ansible-inventory'),
      json('ansible-inventory --host m1'),
      use('machines actions m1'),
      use('jobs list --machine m1 --limit 2'),
      use(`jobs show ${String(cycled.id)}`),
      use(`jobs follow ${String(cycled.id)}`),
      use('power status m1'),
      use('bundle m1 --output m1.tar'),
      use('explain m1 --stage rom'),
      use('events --machine m1 --last 5'),
      use('profiles list'),
    ])
    expect(shown).toMatchObject({name: 'm1', state: 'active', provisioned: {hostname: 'www'}})
    expect(inventory).toMatchObject({web: {hosts: ['m1']}})
    expect(host).toMatchObject({ansible_user: 'root'})
    expect(actions).toContainEqual(expect.objectContaining({action: 'deprovision', allowed: true}))
    expect(jobs).toMatchObject({items: [{kind: 'power'}, {kind: 'provision'}], next: expect.any(String)})
    expect([job, followed]).toMatchObject([{id: cycled.id}, {id: cycled.id}])
    expect(status).toMatchObject({driver: 'ipmi', state: 'on'})
    expect(bundle).toMatchObject({file: 'm1.tar', bytes: expect.any(Number)})
    expect(stages).toMatchObject({mac: '52:54:00:0c:00:01'})
    expect(events.items).toHaveLength(5)
    expect(profiles).toMatchObject({items: [{name: 'web'}]})
    const [device, bmc, sensors, inventories, log, light] = await Promise.all([
      use('power boot-device m1'),
      use('power bmc m1'),
      use('power sensors m1'),
      use('power fru m1'),
      use('power sel m1'),
      use('power identify m1 --seconds 5'),
    ])
    expect(device).toMatchObject({device: 'pxe', valid: true})
    expect(bmc).toMatchObject({device: {manufacturer: 'Intel'}, quirks: []})
    expect([sensors, inventories]).toMatchObject([[{name: 'Inlet', value: 21}], [{areas: {board: {serial: 'B1'}}}]])
    expect([log, light]).toMatchObject([{items: []}, {seconds: 5}])
    expect(await json('power boot-device m1 disk --persistent')).toMatchObject({device: 'disk', persistent: true})
    expect(await use('power off m1 --wait')).toMatchObject({state: 'succeeded'})
    expect(await use('power on m1 --wait')).toMatchObject({state: 'succeeded'})
    expect(await use('deprovision m1 --wait')).toMatchObject({kind: 'deprovision', state: 'succeeded'})
    api.world.machines.get(String(declared.id))!.behaviour = {silent: true}
    const stuck = await use('clean m1')
    expect(await use(`jobs cancel ${String(stuck.id)}`)).toMatchObject({cancel_requested: true})
    await api.world.settled(String(stuck.id))
    api.world.machines.get(String(declared.id))!.behaviour = {}
    expect(await use('retry m1 --wait')).toMatchObject({kind: 'clean', state: 'succeeded'})
    expect(await use('machines retire m1')).toEqual({retired: 'm1'})
  }

  /** Verbs of the lifecycle that the first machine does not come by, each on a machine of its own, all at once. */
  async function useOnOthers() {
    const {world} = api
    const [a, b, c, d, e] = await Promise.all(
      [1, 2, 3, 4, 5].map(async index => {
        const machine = await world.declare(`52:54:00:0c:01:0${index}`)
        await world.place(machine.id, index === 1 || index === 5 ? 'available' : index === 2 ? 'enrolled' : 'active')
        return machine
      }),
    )
    await Promise.all([
      useOnAvailable(a!.name),
      useOnEnrolled(b!.name),
      useOnActive(c!.name, 'rescue'),
      useOnActive(d!.name, 'service'),
    ])
    world.machines.get(e!.id)!.behaviour = {silent: true}
    const plan = await json(`clean name=${e!.name}`)
    expect(plan).toMatchObject({count: 1, sample: [e!.name], hash: expect.any(String)})
    const group = await json(`clean name=${e!.name} --confirm ${String(plan.hash)}`)
    expect(await use(`groups show ${String(group.id)}`)).toMatchObject({action: 'clean', members: [{machine_id: e!.id}]})
    expect(await use(`groups cancel ${String(group.id)}`)).toMatchObject({cancel_requested: true})
    expect(await use('groups list')).toMatchObject({items: [{id: group.id}]})
    expect(await use(`reinstall ${c!.name} --template debian/12 --image debian-12 --wipe fast --wait`)).toMatchObject({
      state: 'succeeded',
    })
  }

  async function useOnAvailable(name: string) {
    expect(await use(`maintenance ${name} on --reason fan`)).toEqual({machine: name, maintenance: true})
    expect(await json(`maintenance ${name} off`)).toEqual({machine: name, maintenance: false})
    expect(await use(`reserve ${name} --for me --until 2027-01-01`)).toMatchObject({reserved: name})
    expect(await use(`unreserve ${name}`)).toEqual({unreserve: name})
    expect(await use(`test ${name} --seconds 2 --wait`)).toMatchObject({kind: 'test', state: 'succeeded'})
  }

  async function useOnEnrolled(name: string) {
    expect(await use(`quarantine ${name} --reason smoke`)).toEqual({machine: name, quarantined: 'smoke'})
    expect(await json(`quarantine ${name} --lift`)).toEqual({machine: name, quarantined: null})
    expect(await use(`adopt ${name}`)).toEqual({adopt: name})
  }

  async function useOnActive(name: string, verb: 'service' | 'rescue') {
    const job = await use(`${verb} ${name}`)
    const look = async () => (await api.world.lifecycle.job(String(job.id))).job
    for (const end = Date.now() + 60_000; (await look()).phase !== 'attended'; await new Promise(again => setTimeout(again, 50)))
      if (Date.now() > end) throw new Error(`${verb} never stayed`)
    if (verb === 'service') {
      expect(await use(`jobs hold ${String(job.id)} --at left --minutes 5`)).toMatchObject({hold_at: 'left'})
      expect(await use(`jobs resume ${String(job.id)}`)).toMatchObject({hold_at: null})
    }
    expect(await use(`leave ${name} --wait`)).toMatchObject({kind: verb, state: 'succeeded'})
  }

  async function useOnAddresses() {
    const added = await use('ip add 10.44.0.0/24 --gateway 10.44.0.1 --no-ra')
    expect(await use(`ip set ${String(added.id)} --lease 600 --ra`)).toMatchObject({lease_s: 600, router_advertisement: true})
    const serving = `ip set ${String(added.id)} --lease infinite --dhcp proxy --bootp static`
    expect(await use(serving)).toMatchObject({lease_s: 4_294_967_295, dhcp: 'proxy', bootp: 'static'})
    const {items} = (await use('ip allocate 10.44.0.0/24 --for balancer --hold 600')) as {items: {id: string; address: string}[]}
    const [allocation] = items
    expect(await use(`ip who ${allocation?.address}`)).toMatchObject({holder: {name: 'balancer'}})
    expect(await use(`ip renew ${allocation?.address} --hold 900`)).toMatchObject({id: allocation?.id})
    expect(await use(`ip confirm ${allocation?.address}`)).toMatchObject({expires_at: null})
    const moved = await use(`ip move ${allocation?.address} --person ada --reason failover`)
    expect(moved).toMatchObject({address: allocation?.address, holder: {kind: 'person', name: 'ada'}})
    expect(await use(`ip free ${allocation?.address} --reason done`)).toMatchObject({id: moved.id, freed_reason: 'done'})
    expect(await use(`ip history ${allocation?.address}`)).toMatchObject({
      items: [{freed_reason: 'done'}, {freed_reason: 'moved to person ada'}],
    })
    await useOnPlaces()
    const [prefixes, report, map, available, exported] = await Promise.all([
      use('ip prefixes'),
      use('ip report --role links'),
      use('ip map 10.44.0.0/24 --cells 16'),
      use('ip available 10.45.0.0/24'),
      use('ip export'),
    ])
    expect(prefixes).toMatchObject({next: null})
    expect(report).toMatchObject({items: [{prefix: {cidr: '10.45.0.0/24'}, used: 0, cooling: 2}]})
    expect(map).toMatchObject({size: 16, count: 16, prefix: {cidr: '10.44.0.0/24'}})
    expect((available.items as {cidr: string}[]).map(row => row.cidr)).toContain('10.45.0.128/25')
    expect(exported).toMatchObject({aggregates: [{cidr: '10.0.0.0/8'}]})
    writeFileSync(join(dir, 'netbox.json'), JSON.stringify(NETBOX))
    const dry = await use('ip import netbox.json --dry-run')
    const imported = ['prefix 10.46.0.0/16', 'prefix 10.46.1.0/24', 'address 10.46.1.7']
    expect((dry.added as string[]).toSorted()).toEqual(imported.toSorted())
    expect(dry).toMatchObject({notes: ['10.46.0.0/16 holds other prefixes: it becomes a container']})
    expect(await use('ip import netbox.json')).toMatchObject({added: imported, failed: []})
    expect(await use('ip import netbox.json')).toMatchObject({added: [], there: imported, failed: []})
    expect(await use('ip who 10.46.1.7')).toMatchObject({
      holder: {name: 'db01.example.org'},
      reason: expect.stringContaining('NetBox'),
    })
    expect(await use('ip remove 10.46.0.0/16')).toEqual({removed: '10.46.0.0/16'})
  }

  async function useOnPlaces() {
    await use('ip add 10.45.0.0/24 --container --role links')
    expect(await use('ip pools write spare 10.44.0.0/24')).toMatchObject({prefixes: [{cidr: '10.44.0.0/24'}]})
    expect(await use('ip vrfs add blue --description apart')).toMatchObject({name: 'blue'})
    const aggregate = await use('ip aggregates add 10.0.0.0/8 --registry RFC1918')
    const quotas = [
      {family: 4, role: 'links', at_most: 8},
      {family: 4, role: null, at_most: 16},
    ]
    const tenant = await use('ip tenants write acme --grant 10.45.0.0/24 --pool spare --quota ipv4=16 --quota ipv4:links=8')
    expect(tenant).toMatchObject({prefixes: ['10.45.0.0/24'], pools: ['spare'], quotas: expect.arrayContaining(quotas)})
    const carved = await json('ip allocate --role links --length 31 --link --for edge --tenant acme')
    expect(carved).toMatchObject({items: [{address: '10.45.0.1'}], delegations: [{cidr: '10.45.0.0/31', tenant: 'acme'}]})
    expect(await json('ip free 10.45.0.0/31')).toMatchObject({cidr: '10.45.0.0/31', freed_reason: null})
    const lists = [use('ip pools list'), use('ip vrfs list'), use('ip aggregates list'), use('ip tenants list')]
    expect(await Promise.all(lists)).toMatchObject([
      {items: [{name: 'spare'}]},
      {items: expect.arrayContaining([expect.objectContaining({name: 'blue', prefixes: 0})])},
      {items: [{id: aggregate.id}]},
      {items: [{name: 'acme', used: []}]},
    ])
    const removed = [use('ip pools remove spare'), use('ip vrfs remove blue'), use('ip tenants remove acme')]
    expect(await Promise.all(removed)).toEqual([{removed: 'spare'}, {removed: 'blue'}, {removed: 'acme'}])
    const other = await json('ip aggregates add fd00::/8')
    expect(await use(`ip aggregates remove ${String(other.id)}`)).toEqual({removed: other.id})
  }

  async function useOnDhcp() {
    const options = {'option-224:text': {value: 'lab', always: true}, vendor_specific: {value: {1: '0a:00:00:01'}, always: true}}
    const set = await use('dhcp options set option-224:text=lab vendor_specific={"1:ips":"10.0.0.1"} --always')
    expect(set).toEqual({scope: 'site', options})
    expect(await use('dhcp options list')).toEqual({scope: 'site', options})
    expect(await use('dhcp options unset option-224:text vendor_specific')).toEqual({scope: 'site', options: {}})
    expect(await use('dhcp options types')).toMatchObject({items: expect.arrayContaining([expect.objectContaining({code: 42})])})
    expect(await use('dhcp loaders set 7=own.efi')).toEqual({scope: 'site', loaders: {7: 'own.efi'}})
    expect(await use('dhcp loaders list')).toEqual({scope: 'site', loaders: {7: 'own.efi'}})
    expect(await use('dhcp loaders unset 7')).toEqual({scope: 'site', loaders: {}})
    await json('machines add 52:54:00:0c:00:77 --name keyed')
    const key = await use('dhcp keys add keyed --circuit-id 65:74:68:31 --relay 10.0.0.9')
    expect(key).toMatchObject({kind: 'circuit_id', value: '65:74:68:31', relay: '10.0.0.9'})
    expect(await use('dhcp keys list keyed')).toMatchObject({items: [{id: key.id}]})
    expect(await use(`dhcp keys remove keyed ${String(key.id)}`)).toMatchObject({id: key.id})
  }

  async function useOnTheRest() {
    const window = await use(`windows open ${api.world.prefix.id} --minutes 1`)
    const [windows, sightings, made] = await Promise.all([
      use('windows list'),
      use('sightings'),
      use('tokens make robot --days 1'),
    ])
    expect([windows, sightings]).toMatchObject([{items: [{id: window.id}]}, {items: []}])
    expect(made).toMatchObject({permission: 'view', token: expect.stringMatching(/^ingot_/)})
    expect(await use(`windows close ${String(window.id)}`)).toEqual({closed: window.id})
    expect(await use('tokens list')).toMatchObject({next: null})
    expect(await use(`tokens revoke ${String(made.id)}`)).toEqual({revoked: made.id})
    expect(await use(`images list --state ${dir}`)).toEqual([])
    expect(await use(`images verify --state ${dir}`)).toMatchObject({checked: 0})
  }

  it('has help that says what it does and what it takes', async () => {
    expect(verbs.length).toBeGreaterThan(30)
    for (const {path, verb} of verbs) {
      const help = verb.helpInformation()
      expect(help, path).toContain('Usage:')
      expect(verb.description(), path).toMatch(/\w{3}/)
    }
    for (const line of ['--help', 'machines --help', 'ip add --help', 'ansible-inventory --help']) {
      const {code, out, err} = await ingot(line)
      expect({line, code, err}).toEqual({line, code: 0, err: ''})
      expect(out).toContain('Usage: ingot')
    }
  })
})

describe('a failure', () => {
  it.concurrent.each([
    ['machines show nobody', "There is no such thing: no machine 'nobody'"],
    ['machines add zz --firmware efi', 'macs.0: is not a MAC address'],
    ['jobs show foo', 'id: is not an id'],
    ['machines frobnicate', "takes no 'frobnicate'"],
    ['machines set-bmc m1', 'nothing says how its power is reached'],
    ['machines set-bmc m1 --bmc-user root', 'no BMC to use them at'],
    ['machines add 52:54:00:0c:00:02 --manual --bmc 10.0.0.1', 'exclude each other'],
    ['windows open 127.0.0.0/16 --bmc-user root', 'a name and a password'],
    ['ip allocate 127.0.0.0/16', 'who holds the address'],
    ['ip set 127.0.0.0/16', 'nothing is to be changed'],
    ['provision m1 --parameters-file nothing.yml', 'ENOENT'],
    ['provision m1 --parameters-file program', 'does not hold names and values'],
    ['images build everything', 'no part everything'],
    ['ansible-inventory --list --host m1', 'exclude each other'],
    ['machines list --api ftp://x', 'no API address'],
  ])('of `ingot %s` names cause and mend, and exits with 1', async (line, cause) => {
    const {code, out, err} = await ingot(line)
    expect({code, out}).toEqual({code: 1, out: ''})
    expect(err).toContain(cause)
    expect(err).toMatch(/^ingot: .+\n( {2}.+\n)* {2}→ .+\n$/)
  })

  it('is a problem document with --json', async () => {
    const {code, out, err} = await ingot('machines show nobody --json')
    expect({code, out}).toEqual({code: 1, out: ''})
    expect(JSON.parse(err)).toMatchObject({status: 404, code: 'NOT_FOUND', mend: expect.any(String)})
  })

  it.concurrent.each([
    'machines list --limit x',
    'ip who 10.0.0.1 --at yesterday',
    'machines add 52:54:00:0c:00:02 --label x',
    'machines list --nothing',
  ])('of an option in `ingot %s` is told without a stack', async line => {
    const {code, err} = await ingot(line)
    expect(code).toBe(1)
    expect(err).toMatch(/^error: (unknown )?option '/)
    expect(err).not.toContain('    at ')
  })

  it('says that Ingot does not answer, and where it was looked for', async () => {
    for (const at of [`unix:${dir}/none.sock`, 'http://127.0.0.1:9', '127.0.0.1:9']) {
      const {code, err} = await ingot('machines', {INGOT_API: at})
      expect(code).toBe(1)
      expect(err).toMatch(/^ingot: Ingot does not answer: .*(none\.sock|127\.0\.0\.1:9).*\n {2}→ Is `ingot serve` running\?/)
    }
  })

  it('says that there is no token, or that it is a wrong one, and never shows it', async () => {
    const none = await ingot('machines', {INGOT_TOKEN: ''})
    expect(none).toMatchObject({
      code: 1,
      err: expect.stringMatching(/There is no API token: .*\/\.config\/ingot\/token does not exist\n {2}→ Set INGOT_TOKEN/),
    })
    const odd = await ingot('machines', {INGOT_TOKEN: 'two words'})
    expect(odd).toMatchObject({code: 1, err: expect.stringContaining('what INGOT_TOKEN holds is no token')})
    const wrong = await ingot('machines', {INGOT_TOKEN: 'ingot_wrong'})
    expect(wrong).toMatchObject({code: 1, err: expect.stringContaining('unknown, expired or revoked')})
    for (const {err} of [odd, wrong]) expect(err).not.toMatch(/two words|ingot_wrong/)
  })
})

describe('what people read', () => {
  it('F22 shows what machines and clients say of themselves without obeying it', async () => {
    const vendorClass = 'PXE\u001b]0;owned\u0007\u009b31m\nfake line \u202etxt'
    await api.world.inventory.recordSightings([
      {
        mac: '02:0c:00:00:00:01' as never,
        prefixId: api.world.prefix.id,
        circuit: '',
        vendorClass,
        lastSeen: new Date(),
        packets: 1,
      },
    ])
    const [table, document] = await Promise.all([ingot('sightings'), ingot('sightings --json')])
    for (const {out} of [table, document]) expect(out).toMatch(/^[\n\x20-\x7e]*$/)
    expect(table.out.trimEnd().split('\n')).toHaveLength(2)
    expect(JSON.parse(document.out).items[0].vendor_class).toBe(vendorClass)
  })

  it('is a table, a sentence, or a word that there is nothing', async () => {
    const machine = await api.world.declare('52:54:00:0c:00:03')
    await api.world.settled((await withTx(api.world.db, tx => api.world.lifecycle.inspect(tx, machine.id, 'test'))).id)
    const [list, shown, jobs, events, none] = await Promise.all([
      ingot('machines --in enrolled'),
      ingot(`machines show ${machine.name}`),
      ingot(`jobs --machine ${machine.name}`),
      ingot(`events --machine ${machine.name}`),
      ingot('machines --in failed'),
    ])
    expect(list.out).toMatch(/^NAME +STATE +POWER +MAC +FLAGS +ID\nnode-5254000c0003 +enrolled +off +52:54:00:0c:00:03 +-/)
    expect(shown.out).toMatch(/^state +enrolled, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/m)
    expect(shown.out).toMatch(/^disks +vda 4\.0 GB; not proven wiped$/m)
    expect(jobs.out).toMatch(/node-5254000c0003 +inspect +succeeded/)
    expect(events.out).toMatch(/node-5254000c0003 +state changed +discovered → inspecting: inspect was asked for {2}\[test\]/)
    expect(none.out).toBe('No machine is like that.\n')
  })

  it('follows a job that fails, with its cause and mend, and exits with 1', async () => {
    const machine = await api.world.declare('52:54:00:0c:00:04', {silent: true})
    const following = start(['inspect', machine.name, '--wait'])
    await spoken(following, /planned/)
    const open = await api.world.lifecycle.openJobOf(machine.id)
    expect((await ingot(`jobs cancel ${open!.id}`)).out).toContain('will end')
    const {code, out} = await following.ran
    expect(code).toBe(1)
    expect(out).toMatch(/inspect cancelled after +[\d.]+ s\n {2}CANCELLED: .+\n {2}→ .+\n$/)
  })
})

describe('following', () => {
  const happen = (subject: string) =>
    withTx(api.world.db, tx => api.world.evidence.changed(tx, {at: new Date(), actor: 'test', kind: 'tested', subject}))

  it('ends without a word and with 0 at Ctrl-C', async () => {
    await happen('before')
    for (const words of [
      ['events', '--follow'],
      ['events', '--follow', '--json'],
    ]) {
      const following = start(words)
      await spoken(following, /before/)
      following.child.kill('SIGINT')
      expect(await following.ran).toMatchObject({code: 0, signal: null, err: ''})
    }
  })

  it('ends without a word when its reader is gone', async () => {
    const following = start(['events', '--follow', '--last', '1'])
    await spoken(following, /\n/)
    following.child.stdout?.destroy()
    let over = false
    void following.ran.then(() => {
      over = true
    })
    for (let n = 0; !over && n < 200; n++) {
      await happen(`drop ${n}`)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    expect(await following.ran).toMatchObject({code: 0, signal: null, err: ''})
  })

  it('goes on when Ingot restarts, with every event that happened meanwhile', async () => {
    const path = join(dir, 'restarts.sock')
    const server = await api.listen({path})
    const following = start(['events', '--follow', '--last', '1', '--json'], {INGOT_API: `unix:${path}`})
    await spoken(following, /\n/)
    await new Promise<void>(resolve => server.close(() => resolve()))
    for (const subject of ['one', 'two', 'three']) await happen(subject)
    await spoken(following, /waiting/, 'err')
    await api.listen({path})
    await spoken(following, /"three"/)
    following.child.kill('SIGINT')
    const {code, out, err} = await following.ran
    expect(code).toBe(0)
    expect(err).toMatch(/^Ingot does not answer: .+; waiting for it\n$/)
    const subjects = out
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line).subject)
    expect(subjects.filter(subject => ['one', 'two', 'three'].includes(subject))).toEqual(['one', 'two', 'three'])
  })

  it('a job, Ctrl-C leaves the job alone and says how to see it again', async () => {
    const machine = await api.world.declare('52:54:00:0c:00:05', {silent: true})
    const following = start(['inspect', machine.name, '--wait'])
    await spoken(following, /planned/)
    const open = await api.world.lifecycle.openJobOf(machine.id)
    following.child.kill('SIGINT')
    expect(await following.ran).toMatchObject({code: 130, err: expect.stringContaining(`ingot jobs follow ${open!.id}`)})
    expect((await api.world.lifecycle.openJobOf(machine.id))?.cancel_requested).toBe(false)
    await withTx(api.world.db, tx => api.world.lifecycle.cancel(tx, open!.id, 'test'))
    await api.world.settled(open!.id)
  })
})
