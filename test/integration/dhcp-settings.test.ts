/** Options, loaders and client keys: over the API into the database, and from there into what the wire sends. */
import {writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {type Ipv4, type Mac, parseMac} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import {withTx} from '../../lib/db.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {describeOptions} from '../../services/dhcpd/options.ts'
import {buildReply} from '../../services/dhcpd/reply.ts'
import type {DhcpSnapshot} from '../../services/dhcpd/snapshot.ts'
import {databaseNow, openJobsOf, profilesOf} from '../../services/lifecycle/index.ts'
import {loadSnapshot} from '../../services/supervisor/snapshot-keeper.ts'
import {type ApiWorld, createApiWorld, expectProblem} from '../support/api-world.ts'
import {CLIENTS, makeRequest} from '../support/dhcp-world.ts'

const UUID = '00112233-4455-6677-8899-aabbccddeeff'
const PREFIX = '127.0.0.0/16'

let api: ApiWorld
let mac: Mac
let name: string
beforeAll(async () => {
  api = await createApiWorld()
  mac = parseMac('52:54:00:d0:00:01')!
  const declared = await api.ask('POST', '/v1/machines', {body: {macs: [mac], name: 'options-1', dmi_uuid: UUID}})
  name = String(declared.body.name)
  await withTx(api.db, tx => api.services.inventory.putProfile(tx, {name: 'web', template: 'debian/12', image: 'debian-12'}))
  const file = join(tmpdir(), `ingot-loader-${process.pid}`)
  writeFileSync(file, 'a loader')
  for (const loader of ['own.efi', 'site.efi'])
    await api.services.artefacts.importFile(`loaders/${loader}`, file, {kind: 'loader', version: '1', source: 'test'})
})
afterAll(() => api.close())

async function snapshot(): Promise<DhcpSnapshot> {
  const {db, services} = api
  const parts = {
    ipam: services.ipam,
    inventory: services.inventory,
    openJobs: () => openJobsOf(db),
    profiles: () => profilesOf(db),
    now: () => databaseNow(db),
  }
  return (await loadSnapshot(parts)).snapshot
}

/** What the wire would offer, from what is in the database now. */
async function offered(options: Parameters<typeof makeRequest>[1], from = mac) {
  const known = await snapshot()
  const [prefix] = known.prefixes
  const address = (known.hosts.get(mac)?.address ?? '127.0.0.1') as Ipv4
  const arrival = {interface: 'any', addresses: [address], ownAddresses: [address]}
  const request = makeRequest('DISCOVER', options, {mac: from})
  const {answer, reasons} = decide(request, arrival, known, {}, new Date())
  if (!('offer' in answer)) return {answer, prefix, reasons, named: {} as Record<string, unknown>}
  const reply = buildReply(request, 'OFFER', answer.offer)
  return {answer, prefix, reasons, reply, named: describeOptions(reply.options)}
}

const setOptions = (body: object) => api.ask('PATCH', '/v1/dhcp/options', {body})
const asking = (...codes: number[]) => ({parameter_request_list: codes})

describe('options', () => {
  it('reach the wire by scope: machine over profile over prefix over site, with the reasons told', async () => {
    const set = (value: string) => [{name: 'root_path', value}]
    expect((await setOptions({set: [...set('site'), {name: 'ntp_servers', value: '127.0.9.9', always: true}]})).body).toEqual({
      scope: 'site',
      options: {root_path: {value: 'site', always: false}, ntp_servers: {value: ['127.0.9.9'], always: true}},
    })
    expect((await offered(asking(17))).named).toMatchObject({root_path: 'site', ntp_servers: ['127.0.9.9']})
    expect((await setOptions({prefix: PREFIX, set: set('prefix')})).body.scope).toBe(`prefix ${PREFIX}`)
    expect((await offered(asking(17))).named.root_path).toBe('prefix')
    await setOptions({profile: 'web', set: set('profile')})
    expect((await offered(asking(17))).named.root_path).toBe('prefix')
    await api.db
      .updateTable('machine_states')
      .set({provisioned: JSON.stringify({profile: 'web'})})
      .where('machine_id', '=', (await api.services.inventory.requireMachine(name)).id)
      .execute()
    expect((await offered(asking(17))).named.root_path).toBe('profile')
    await setOptions({machine: name, set: set('machine')})
    const {named, reasons} = await offered(asking(17))
    expect(named.root_path).toBe('machine')
    expect(reasons.find(({rule}) => rule === 'options')?.because).toContain(
      `root_path from machine ${name}, over profile web, prefix ${PREFIX}, the site`,
    )
    for (const scope of [{machine: name}, {profile: 'web'}, {prefix: PREFIX}])
      expect((await setOptions({...scope, unset: ['root_path']})).body.options).toEqual({})
    expect((await offered(asking(17))).named.root_path).toBe('site')
    expect((await setOptions({unset: ['root_path', 'ntp_servers']})).body).toEqual({scope: 'site', options: {}})
  })

  it('are refused with why when they cannot be encoded, are Ingot’s own, or are not set; and nothing is changed', async () => {
    const bad = [
      {name: 'ntp_servers', value: 'noon'},
      {name: 'lease_time', value: 60},
      {name: 'option-82:bytes', value: '00'},
      {name: 'host_name', value: 'fine'},
    ]
    const problem = expectProblem(await setOptions({prefix: PREFIX, set: bad, unset: ['wpad_url']}), 400, 'INVALID_INPUT')
    expect(problem.errors).toEqual([
      {field: 'unset.wpad_url', code: 'absent', message: 'is not set here'},
      {field: 'set.ntp_servers', code: 'value', message: expect.stringContaining('"noon" is none')},
      {field: 'set.lease_time', code: 'owned', message: expect.stringContaining('lease time of the prefix')},
      {field: 'set.option-82:bytes', code: 'named', message: 'is relay_agent_information: use that name'},
    ])
    expect((await api.ask('GET', `/v1/dhcp/options?prefix=${encodeURIComponent(PREFIX)}`)).body.options).toEqual({})
    expectProblem(await setOptions({prefix: PREFIX, machine: name, unset: ['x']}), 400, 'INVALID_INPUT')
    expectProblem(await setOptions({}), 400, 'INVALID_INPUT')
    for (const scope of [{prefix: '10.250.0.0/24'}, {profile: 'none'}, {machine: 'nobody'}])
      expectProblem(await setOptions({...scope, set: [bad[3]]}), 404, 'NOT_FOUND')
    expect((await api.ask('PATCH', '/v1/dhcp/options', {body: {set: [bad[3]]}, token: api.tokens.view})).status).toBe(403)
  })

  it('set by many at once are all kept', async () => {
    const codes = Array.from({length: 12}, (_, index) => 224 + index)
    const answers = await Promise.all(
      codes.map(code => setOptions({profile: 'web', set: [{name: `option-${code}:u8`, value: 1}]})),
    )
    expect(answers.map(({status}) => status)).toEqual(codes.map(() => 200))
    const {options} = (await api.ask('GET', '/v1/dhcp/options?profile=web')).body
    expect(Object.keys(options as object)).toHaveLength(12)
    const events = await api.ask('GET', '/v1/events?last=1')
    expect(events.body.items).toMatchObject([{kind: 'dhcp_options_set', subject: 'profile web'}])
    await setOptions({profile: 'web', unset: codes.map(code => `option-${code}:u8`)})
  })

  it('have a table for people', async () => {
    const {items} = (await api.ask('GET', '/v1/dhcp/option-types')).body as {items: {name: string; owned: string | null}[]}
    expect(items.find(item => item.name === 'ntp_servers')).toMatchObject({code: 42, type: 'ips', owned: null})
    expect(items.find(item => item.name === 'server_identifier')?.owned).toMatch(/protocol/)
  })
})

describe('loaders', () => {
  it('replace the usual ones by scope, and only with what is there to be fetched', async () => {
    const setLoaders = (body: object) => api.ask('PATCH', '/v1/dhcp/loaders', {body})
    const missing = expectProblem(await setLoaders({set: {'uefi-x64': 'nowhere.efi'}}), 404, 'NOT_FOUND')
    expect(missing.detail).toContain('there are own.efi, site.efi')
    expect(expectProblem(await setLoaders({set: {sparc: 'own.efi'}}), 400, 'INVALID_INPUT').errors?.[0]?.field).toBe('set.sparc')
    expect((await setLoaders({set: {'uefi-x64': 'site.efi'}})).body).toEqual({scope: 'site', loaders: {'uefi-x64': 'site.efi'}})
    expect((await offered(CLIENTS.uefiRom)).reply?.file).toBe('site.efi')
    expect((await setLoaders({machine: name, set: {'7': 'own.efi'}})).status).toBe(200)
    expect((await offered(CLIENTS.uefiRom)).reply?.file).toBe('own.efi')
    expect((await api.ask('GET', `/v1/dhcp/loaders?machine=${name}`)).body.loaders).toEqual({'7': 'own.efi'})
    await setLoaders({machine: name, unset: ['7']})
    await setLoaders({unset: ['uefi-x64']})
    expect((await offered(CLIENTS.uefiRom)).reply?.file).toBe('snponly.efi')
  })
})

describe('a machine', () => {
  const stranger = parseMac('52:54:00:d0:00:99')!

  it('W80 is found by its UUID when its NIC is new, in both byte orders, and not once two have it', async () => {
    const guid = (hex: string) => ({...CLIENTS.uefiRom, client_machine_identifier: Buffer.from(`00${hex}`, 'hex')})
    const own = (await offered(CLIENTS.uefiRom)).reply?.yiaddr
    expect(own).toBeDefined()
    expect((await offered(guid('00112233445566778899aabbccddeeff'), stranger)).reply?.yiaddr).toBe(own)
    expect((await offered(guid('33221100554477668899aabbccddeeff'), stranger)).reply?.yiaddr).toBe(own)
    const twin = await api.ask('POST', '/v1/machines', {body: {macs: ['52:54:00:d0:00:02'], dmi_uuid: UUID}})
    expect(twin.status).toBe(201)
    const {answer} = await offered(guid('00112233445566778899aabbccddeeff'), stranger)
    expect(answer).toEqual({ignored: 'unknown_mac'})
  })

  it('W38 is known by a client identifier that was declared, which no other machine can have', async () => {
    const keys = `/v1/machines/${name}/client-keys`
    const added = await api.ask('POST', keys, {body: {kind: 'client_id', value: 'FF00-77aa'}})
    expect(added).toMatchObject({status: 201, body: {kind: 'client_id', value: 'ff:00:77:aa', relay: null}})
    const client_identifier = parseHex('ff0077aa')!
    expect((await offered({client_identifier}, stranger)).answer).toHaveProperty('offer')
    const other = await api.ask('POST', '/v1/machines', {body: {macs: ['52:54:00:d0:00:03'], name: 'options-3'}})
    const again = await api.ask('POST', `/v1/machines/${String(other.body.id)}/client-keys`, {
      body: {kind: 'client_id', value: 'ff0077aa'},
    })
    expect(expectProblem(again, 409, 'CONFLICT').detail).toContain(name)
    for (const body of [
      {kind: 'client_id', value: 'xyz'},
      {kind: 'client_id', value: 'ff', relay: '127.0.0.9'},
      {kind: 'circuit_id', value: 'ff', relay: '127.0.0.999'},
    ])
      expectProblem(await api.ask('POST', keys, {body}), 400, 'INVALID_INPUT')
    expect((await api.ask('POST', keys, {body: {kind: 'circuit_id', value: 'ff', relay: '127.0.0.9'}})).status).toBe(201)
    expect((await snapshot()).keys?.byCircuit.has('127.0.0.9 ff')).toBe(true)
    const {items} = (await api.ask('GET', keys)).body as {items: {id: string}[]}
    expect(items).toHaveLength(2)
    for (const {id} of items) expect((await api.ask('DELETE', `${keys}/${id}`)).status).toBe(200)
    expectProblem(await api.ask('DELETE', `${keys}/${items[0]!.id}`), 404, 'NOT_FOUND')
    expect((await offered({client_identifier}, stranger)).answer).toEqual({ignored: 'unknown_mac'})
  })
})

describe('a prefix', () => {
  it('W47 W44 W26 brings its mode, BOOTP policy and endless lease into the snapshot', async () => {
    const path = `/v1/prefixes/${encodeURIComponent(PREFIX)}`
    const before = (await api.ask('GET', path)).body
    await api.ask('PATCH', path, {body: {dhcp: 'proxy', bootp: 'static', lease_s: 0xffffffff}})
    expect((await offered(CLIENTS.uefiRom)).answer).toMatchObject({proxy: {boot: {file: 'snponly.efi'}}})
    expect((await snapshot()).prefixes[0]).toMatchObject({mode: 'proxy', bootp: 'static', lease_s: 4_294_967_295})
    await api.ask('PATCH', path, {body: {dhcp: 'off'}})
    expect((await snapshot()).prefixes).toEqual([])
    await api.ask('PATCH', path, {body: {dhcp: 'authoritative', bootp: 'ignored', lease_s: before.lease_s}})
    expect((await offered(CLIENTS.uefiRom)).answer).toHaveProperty('offer')
  })
})
