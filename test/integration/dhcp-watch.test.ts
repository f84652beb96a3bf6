/** What dhcpd finds worrying, on its way to where people see it: events by the API and the CLI, counters in /metrics. */
import {spawn} from 'node:child_process'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {systemClock} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {createCounters} from '../../services/dhcpd/counters.ts'
import {encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {createResponder} from '../../services/dhcpd/responder.ts'
import {databaseNow, openJobsOf, profilesOf} from '../../services/lifecycle/index.ts'
import {createObservers, type Observers} from '../../services/supervisor/observers.ts'
import {watchRanges} from '../../services/supervisor/range-watch.ts'
import {loadSnapshot} from '../../services/supervisor/snapshot-keeper.ts'
import {publishCounts} from '../../services/supervisor/wire-counts.ts'
import {type ApiWorld, createApiWorld} from '../support/api-world.ts'
import {ARRIVAL, createMemoryLeases, makeRequest, makeSnapshot} from '../support/dhcp-world.ts'

const INGOT = new URL('../../bin/ingot', import.meta.url).pathname
const MAC = '52:54:00:f2:00:07'

type Event = {
  id: number
  kind: string
  actor: string
  subject: string
  machine_id: string | null
  detail: Record<string, unknown>
}

let api: ApiWorld
let machineId: string
let observers: Observers
beforeAll(async () => {
  api = await createApiWorld()
  machineId = (await api.world.declare(MAC)).id
  observers = watching()
})
afterAll(async () => {
  await observers.stop()
  await api.close()
})

function watching(): Observers {
  const {evidence, inventory} = api.services
  return createObservers({evidence, inventory, jobOf: () => undefined, clock: systemClock, log: silentLog})
}

/** dhcpd over the database's own snapshot, telling these observers. */
async function responderFor(to: Observers, counters = createCounters()) {
  const {ipam, inventory} = api.services
  const {db} = api
  const reads = {ipam, inventory, openJobs: () => openJobsOf(db), profiles: () => profilesOf(db), now: () => databaseNow(db)}
  const {snapshot} = await loadSnapshot(reads)
  const {leases} = createMemoryLeases(() => makeSnapshot())
  const parts = {leases, counters, clock: systemClock, log: silentLog, advertise: () => undefined}
  const tell = {sightings: to.sighting, evidence: to.evidence, alerts: to.alert}
  const responder = createResponder({...parts, ...tell, snapshot: () => snapshot})
  const arrival = {...ARRIVAL, addresses: ['127.0.0.1' as Ipv4], ownAddresses: ['127.0.0.1' as Ipv4]}
  return (packet: Packet) => {
    responder.receive(encodePacket(packet, 1472).bytes, arrival, () => undefined)
    return responder.idle()
  }
}

async function eventsOf(kind: string): Promise<Event[]> {
  const {body} = await api.ask('GET', '/v1/events?limit=500')
  return (body.items as Event[]).filter(event => event.kind === kind)
}

async function eventually(kind: string, times: number): Promise<Event[]> {
  for (const end = Date.now() + 30_000; ; await new Promise(resolve => setTimeout(resolve, 50))) {
    const events = await eventsOf(kind)
    if (events.length >= times || Date.now() > end) {
      expect(events).toHaveLength(times)
      return events
    }
  }
}

const chooses = (server: string) =>
  makeRequest('REQUEST', {server_identifier: server as Ipv4, requested_address: '127.0.9.9' as Ipv4}, {mac: MAC as never})

function ingot(...words: string[]): Promise<string> {
  const env = {PATH: process.env.PATH, INGOT_API: `http://127.0.0.1:${api.port}`, INGOT_TOKEN: api.tokens.view}
  const child = spawn(INGOT, words, {env, stdio: ['ignore', 'pipe', 'inherit']})
  let said = ''
  child.stdout.setEncoding('utf8').on('data', chunk => {
    said += chunk
  })
  return new Promise(resolve => child.on('close', () => resolve(said)))
}

describe('alerts', () => {
  it('F27 a rogue DHCP server becomes one event with its evidence, whoever sees it, and no state changes', async () => {
    const state = async () => (await api.ask('GET', `/v1/machines/${machineId}`)).body
    const before = await state()
    const other = watching()
    const [one, two] = [await responderFor(observers), await responderFor(other)]
    for (let times = 0; times < 20; times++) await Promise.all([one(chooses('127.0.6.6')), two(chooses('127.0.6.6'))])
    const [event] = await eventually('other_dhcp_server', 1)
    await other.stop()
    expect(await eventsOf('other_dhcp_server')).toHaveLength(1)
    expect(event).toMatchObject({
      actor: 'dhcpd',
      subject: '127.0.6.6',
      machine_id: machineId,
      detail: {
        server: '127.0.6.6',
        offered: '127.0.9.9',
        mac: MAC,
        interface: 'br0',
        because: expect.stringContaining('another DHCP server'),
      },
    })
    expect(await state()).toEqual(before)
    const shown = await ingot('events')
    expect(shown).toMatch(
      /other dhcp server another DHCP server answers on a link that Ingot serves: .*server=127\.0\.6\.6 .*\[dhcpd\]/,
    )
  })

  it('F27 a MAC on two ports becomes an event, and its machine stays as it was', async () => {
    const relayed = await api.ask('PATCH', '/v1/prefixes/127.0.0.0%2F16', {body: {relays: ['127.0.3.3']}})
    expect(relayed.status, relayed.text).toBe(200)
    const receive = await responderFor(observers)
    const before = (await api.ask('GET', `/v1/machines/${machineId}`)).body
    for (const [xid, port] of ['a', 'b', 'a', 'b'].entries()) {
      const circuit = {relay_agent_information: new Map([[1, Buffer.from(port)]])}
      await receive(makeRequest('DISCOVER', circuit, {mac: MAC as never, giaddr: '127.0.3.3' as Ipv4, xid}))
    }
    const [event] = await eventually('duplicate_mac', 1)
    expect(event).toMatchObject({
      subject: MAC,
      machine_id: machineId,
      detail: {places: [expect.stringContaining('62'), expect.stringContaining('61')]},
    })
    expect((await api.ask('GET', `/v1/machines/${machineId}`)).body).toEqual(before)
  })

  it('F11 a relay nobody listed becomes an event', async () => {
    const receive = await responderFor(observers)
    await receive(makeRequest('DISCOVER', {}, {mac: MAC as never, giaddr: '198.51.100.9' as Ipv4}))
    expect(await eventually('unlisted_relay', 1)).toMatchObject([{subject: '198.51.100.9', detail: {mac: MAC}}])
  })

  it('are not made of our own replicas', async () => {
    const now = await databaseNow(api.db)
    await api.services.evidence.publish('other-host eth1', [], ['127.0.6.7'], now)
    const receive = await responderFor(observers)
    await receive(chooses('127.0.6.7'))
    await receive(chooses('127.0.6.8'))
    const events = await eventually('other_dhcp_server', 2)
    expect(events.map(({subject}) => subject)).toEqual(['127.0.6.6', '127.0.6.8'])
  })

  it('wait for a database that is away', async () => {
    const {evidence, inventory} = api.services
    const away = {...evidence, alert: () => Promise.reject(new IngotError('DATABASE_AWAY', 'switched off by the test'))}
    const parts = {inventory, jobOf: () => undefined, clock: systemClock, log: silentLog}
    const held: {evidence: Pick<typeof evidence, 'recordAll' | 'alert' | 'isOwnServer'>} = {evidence: away}
    const patient = createObservers({...parts, evidence: {...evidence, alert: (...given) => held.evidence.alert(...given)}})
    const receive = await responderFor(patient)
    await receive(makeRequest('DISCOVER', {}, {mac: MAC as never, giaddr: '198.51.100.10' as Ipv4}))
    await new Promise(resolve => setTimeout(resolve, 600))
    expect(await eventsOf('unlisted_relay')).toHaveLength(1)
    held.evidence = evidence
    expect((await eventually('unlisted_relay', 2))[1]?.subject).toBe('198.51.100.10')
    await patient.stop()
  })

  it('tell of a dynamic range that is nearly full, once while it stays so', async () => {
    const {ipam, evidence} = api.services
    const range = {kind: 'dynamic' as const, first: '10.78.0.10' as Ipv4, last: '10.78.0.19' as Ipv4}
    const prefix = await withTx(api.db, tx => ipam.createPrefix(tx, {cidr: '10.78.0.0/24', ranges: [range]}, 'test'))
    const now = await databaseNow(api.db)
    const ask = (index: number) =>
      ipam.offerDynamic({mac: `52:54:00:f2:01:0${index}` as never, prefixId: prefix.id, requested: null, now})
    for (let index = 0; index < 8; index++) await ask(index)
    await watchRanges({ipam, evidence}, now)
    expect(await eventsOf('range_nearly_full')).toEqual([])
    await ask(8)
    for (let times = 0; times < 3; times++) await watchRanges({ipam, evidence}, now)
    expect(await eventsOf('range_nearly_full')).toMatchObject([
      {subject: '10.78.0.0/24', actor: 'ipam', detail: {size: 10, held: 9, free: 1}},
    ])
  })
})

describe('/metrics', () => {
  it('shows what a wire process counted, by reason, and forgets one that began again', async () => {
    const counters = createCounters()
    const receive = await responderFor(observers, counters)
    const start = () =>
      publishCounts({
        evidence: api.services.evidence,
        interfaces: ['lo'],
        dhcp: counters.read,
        tftp: () => ({missing: 4}),
        clock: systemClock,
        log: silentLog,
      })
    const metrics = async (what: RegExp) => {
      for (const end = Date.now() + 30_000; ; await new Promise(resolve => setTimeout(resolve, 50))) {
        const {text} = await api.ask('GET', '/metrics')
        if (what.test(text) || Date.now() > end) {
          expect(text).toMatch(what)
          return text
        }
      }
    }
    await receive(makeRequest('DISCOVER', {}, {giaddr: '198.51.100.9' as Ipv4}))
    const publishing = start()
    const text = await metrics(/^ingot_dhcp_ignored_total\{source="\S+ lo",reason="unlisted_relay"\} 1$/m)
    expect(text).toMatch(/^ingot_dhcp_received_total\{source="\S+ lo"\} 1$/m)
    expect(text).toMatch(/^ingot_tftp_total\{source="\S+ lo",what="missing"\} 4$/m)
    await publishing.stop()
    expect(await api.services.evidence.isOwnServer('127.0.0.1', new Date(Date.now() - 60_000))).toBe(true)
    const source = text.match(/source="([^"]+ lo)"/)?.[1] ?? ''
    await api.services.evidence.publish(source, [{name: 'dhcp_received', label: '', value: 7}], [], new Date(Date.now() + 1_000))
    const again = await metrics(/^ingot_dhcp_received_total\{source="\S+ lo"\} 7$/m)
    expect(again).not.toMatch(/reason="unlisted_relay"/)
    await api.services.evidence.forgetCounters(new Date(Date.now() + 60_000))
    expect(await api.services.evidence.counters(new Date(0))).toEqual([])
  })
})
