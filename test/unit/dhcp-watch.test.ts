/** What dhcpd finds worrying: alerts with their evidence, folded and bounded, and no answer changed by any of it. */
import {describe, expect, it} from 'vitest'
import {type Ipv4, intToIpv4, type Mac} from '../../lib/addresses.ts'
import {silentLog} from '../../lib/log.ts'
import {createCounters} from '../../services/dhcpd/counters.ts'
import type {Alert, DhcpSnapshot} from '../../services/dhcpd/index.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import {decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {createPlaces} from '../../services/dhcpd/places.ts'
import {createResponder} from '../../services/dhcpd/responder.ts'
import {nearlyFull} from '../../services/supervisor/range-watch.ts'
import {countsOf} from '../../services/supervisor/wire-counts.ts'
import {
  ADDRESS,
  ARRIVAL,
  CLIENTS,
  createMemoryLeases,
  HOST,
  MAC,
  makeRequest,
  makeSnapshot,
  NOW,
  OPEN_WINDOW,
  SERVER,
  STRANGER,
} from '../support/dhcp-world.ts'

const ROGUE = '10.77.0.66' as Ipv4
const RELAYS = ['192.0.2.1', '192.0.2.2'] as Ipv4[]
const MINUTE_MS = 60_000

function createWorld(snapshot: DhcpSnapshot = makeSnapshot({relays: RELAYS})) {
  const alerts: Alert[] = []
  const sent: (number | undefined)[] = []
  const at = {ms: 0}
  const clock = {now: () => NOW, monotonicMs: () => at.ms}
  const counters = createCounters()
  const {leases} = createMemoryLeases(() => snapshot)
  const quiet = {sightings: () => undefined, evidence: () => undefined, advertise: () => undefined}
  const parts = {...quiet, snapshot: () => snapshot, leases, log: silentLog, clock, counters}
  const responder = createResponder({...parts, alerts: alert => alerts.push(alert)})
  const unwatched = createResponder({...parts, counters: createCounters()})
  async function receive(packet: Packet, arrival: Arrival = ARRIVAL): Promise<void> {
    const {bytes} = encodePacket(packet, 1472)
    const answers = [0, 0]
    for (const [index, one] of [responder, unwatched].entries()) {
      one.receive(bytes, arrival, reply => {
        answers[index] = 'ignored' in decodePacket(reply) ? 0 : reply.length
      })
      await one.idle()
    }
    // Whoever watches answers as whoever does not.
    expect(answers[0]).toBe(answers[1])
    sent.push(answers[0])
  }
  return {
    alerts,
    sent,
    receive,
    skip(ms: number) {
      at.ms += ms
    },
    count: (name: string) => counters.read().get(name) ?? 0,
  }
}

const macOf = (index: number) =>
  `52:54:02:00:${(index >> 8).toString(16).padStart(2, '0')}:${(index & 255).toString(16).padStart(2, '0')}` as Mac
const through = (circuit: string, relay = RELAYS[0]!, xid = 0) =>
  makeRequest('DISCOVER', {relay_agent_information: new Map([[1, Buffer.from(circuit)]])}, {giaddr: relay, xid})
const withGuid = (hex: string, xid = 0) =>
  makeRequest(
    'DISCOVER',
    {...CLIENTS.uefiRom, client_machine_identifier: Buffer.concat([Buffer.of(0), Buffer.from(hex, 'hex')])},
    {xid},
  )

describe('the watch', () => {
  it('F27 tells of another DHCP server that a client chose, with who chose it and where', async () => {
    const world = createWorld()
    await world.receive(makeRequest('REQUEST', {server_identifier: ROGUE, requested_address: '10.77.3.3' as Ipv4}))
    expect(world.alerts).toMatchObject([
      {
        kind: 'other_dhcp_server',
        subject: ROGUE,
        machineId: HOST.machineId,
        count: 1,
        detail: {server: ROGUE, offered: '10.77.3.3', mac: MAC, machine: HOST.name, interface: 'br0'},
      },
    ])
    expect(world.sent).toEqual([0])
  })

  it('F27 tells of another DHCP server whose reply reached our port, and never of ourselves', async () => {
    const world = createWorld()
    const reply = (server: Ipv4) => ({...makeRequest('OFFER', {server_identifier: server}), op: 2, yiaddr: '10.77.3.4' as Ipv4})
    await world.receive(reply(SERVER))
    await world.receive(makeRequest('REQUEST', {server_identifier: '192.0.2.9' as Ipv4, requested_address: ADDRESS}))
    expect(world.alerts).toEqual([])
    await world.receive(reply(ROGUE))
    expect(world.alerts).toMatchObject([{kind: 'other_dhcp_server', subject: ROGUE, detail: {offered: '10.77.3.4', mac: MAC}}])
  })

  it('F11 drops what comes through an unlisted relay, counts it, and tells of the relay', async () => {
    const world = createWorld()
    const spoofed = makeRequest('DISCOVER', CLIENTS.uefiRom, {giaddr: '198.51.100.7' as Ipv4})
    await world.receive(spoofed)
    await world.receive(spoofed)
    expect(world.sent).toEqual([0, 0])
    expect(world.count('ignored.unlisted_relay')).toBe(2)
    expect(world.alerts).toMatchObject([
      {kind: 'unlisted_relay', subject: '198.51.100.7', detail: {relay: '198.51.100.7', mac: MAC}},
    ])
  })

  it('F11 makes few alerts of many forged relays, and counts the rest', async () => {
    const world = createWorld()
    for (let index = 0; index < 1_000; index++) {
      await world.receive(makeRequest('DISCOVER', CLIENTS.uefiRom, {giaddr: intToIpv4(0xc6336400 + index)}))
    }
    expect(world.alerts).toHaveLength(32)
    expect(world.count('alert.unlisted_relay')).toBe(1_000)
    expect(world.count('alert_dropped.unlisted_relay')).toBe(968)
  })

  it('F27 tells once in ten minutes, and then how often it was', async () => {
    const world = createWorld()
    const chosen = makeRequest('REQUEST', {server_identifier: ROGUE, requested_address: ADDRESS})
    for (let times = 0; times < 50; times++) await world.receive(chosen)
    expect(world.alerts).toHaveLength(1)
    world.skip(10 * MINUTE_MS)
    await world.receive(chosen)
    expect(world.alerts.map(({count}) => count)).toEqual([1, 50])
  })

  it('F27 tells of one MAC on two switch ports that alternate, and not of a machine that was moved', async () => {
    const world = createWorld()
    for (const [index, port] of ['eth1', 'eth1', 'eth2', 'eth2'].entries()) await world.receive(through(port, RELAYS[0], index))
    expect(world.alerts).toEqual([])
    await world.receive(through('eth1', RELAYS[0], 9))
    expect(world.alerts).toMatchObject([{kind: 'duplicate_mac', subject: MAC, machineId: HOST.machineId}])
    expect(world.alerts[0]?.detail.places).toEqual([
      'relay 192.0.2.1, circuit 65:74:68:32',
      'relay 192.0.2.1, circuit 65:74:68:31',
    ])
    expect(world.sent.every(octets => octets! > 0)).toBe(true)
  })

  it('takes two relays of one link that forward the same packet for one place, even when firmware never changes its xid', async () => {
    const world = createWorld()
    for (let times = 0; times < 6; times++) {
      const [first, second] = times % 2 === 0 ? RELAYS : RELAYS.toReversed()
      await world.receive(through('eth1', first, 7))
      await world.receive(through('eth1', second, 7))
      world.skip(5_000)
    }
    expect(world.alerts).toEqual([])
  })

  it('does not take a place that was left long ago for a second machine', async () => {
    const world = createWorld()
    for (const port of ['eth1', 'eth2', 'eth1']) {
      await world.receive(through(port))
      world.skip(11 * MINUTE_MS)
    }
    expect(world.alerts).toEqual([])
  })

  it('F27 tells of two UUIDs that alternate under one MAC; one in two byte orders, or left out, is one', async () => {
    const world = createWorld()
    const guid = '00112233445566778899aabbccddeeff'
    const swapped = '33221100554477668899aabbccddeeff'
    await world.receive(withGuid(guid, 1))
    await world.receive(makeRequest('DISCOVER', CLIENTS.os, {xid: 2}))
    await world.receive(withGuid(swapped, 3))
    await world.receive(withGuid(guid, 4))
    expect(world.alerts).toEqual([])
    await world.receive(withGuid('aa112233445566778899aabbccddeeff', 5))
    await world.receive(withGuid(guid, 6))
    expect(world.alerts).toMatchObject([{kind: 'duplicate_mac', subject: MAC}])
    expect(world.alerts[0]?.detail.uuids).toEqual([
      'aa112233-4455-6677-8899-aabbccddeeff',
      '00112233-4455-6677-8899-aabbccddeeff',
    ])
  })

  it('tells of an address that a client saw in use by another', async () => {
    const world = createWorld()
    await world.receive(makeRequest('DECLINE', {server_identifier: SERVER, requested_address: ADDRESS}))
    expect(world.alerts).toMatchObject([
      {kind: 'address_conflict', subject: ADDRESS, machineId: HOST.machineId, detail: {mac: MAC}},
    ])
  })

  it('tells of a flood of strangers once, and of a rack that is switched on not at all', async () => {
    const world = createWorld()
    const ask = (index: number) => world.receive(makeRequest('DISCOVER', CLIENTS.uefiRom, {mac: macOf(index)}))
    for (let index = 0; index < 200; index++) for (let times = 0; times < 3; times++) await ask(index)
    world.skip(MINUTE_MS)
    for (let index = 200; index < 400; index++) await ask(index)
    expect(world.alerts).toEqual([])
    for (let index = 400; index < 1_400; index++) await ask(index)
    expect(world.alerts).toMatchObject([{kind: 'unknown_mac_flood', subject: 'br0', detail: {macs: 256}}])
    expect(world.alerts[0]?.detail.among).toHaveLength(3)
  })

  it('tells of a range that has nothing left', async () => {
    const one = {first: '10.77.2.10' as Ipv4, last: '10.77.2.10' as Ipv4}
    const world = createWorld(makeSnapshot({window: OPEN_WINDOW, dynamicRanges: [one]}))
    await world.receive(makeRequest('DISCOVER', CLIENTS.os, {mac: STRANGER}))
    expect(world.alerts).toEqual([])
    await world.receive(makeRequest('DISCOVER', CLIENTS.os, {mac: macOf(1)}))
    expect(world.alerts).toMatchObject([{kind: 'range_full', subject: '10.77.0.0/22', detail: {mac: macOf(1)}}])
  })
})

describe('the memory of places', () => {
  it('F10 is bounded, whatever asks', () => {
    const places = createPlaces({now: () => NOW, monotonicMs: () => 0})
    const client = (index: number) => ({mac: macOf(index), guid: null}) as Parameters<typeof places.see>[0]
    for (let index = 0; index < 20_000; index++) places.see(client(index), index, '0.0.0.0' as Ipv4, null, ARRIVAL)
    expect(places.size()).toBe(8_192)
  })
})

describe('a range', () => {
  const prefix = (held: number, cooling: number, size = 100) => ({
    cidr: '10.0.0.0/24' as never,
    utilisation: {dynamic: {size, held, cooling}, static: {size: 0, held: 0, cooling: 0}, container: null},
  })

  it('is nearly full from nine tenths on, with what cools down', () => {
    expect(nearlyFull([prefix(89, 0)])).toEqual([])
    expect(nearlyFull([prefix(0, 0, 0)])).toEqual([])
    expect(nearlyFull([prefix(80, 10)])).toEqual([{cidr: '10.0.0.0/24', size: 100, held: 80, cooling: 10, free: 10}])
    expect(nearlyFull([prefix(100, 2)])[0]?.free).toBe(0)
  })
})

it('counters are published by name and label', () => {
  const counters = createCounters()
  counters.add('received')
  counters.add('ignored', 'unknown_mac')
  counters.add('send_failed', 'E.A')
  expect(countsOf(counters.read(), {missing: 3})).toEqual([
    {name: 'dhcp_received', label: '', value: 1},
    {name: 'dhcp_ignored', label: 'unknown_mac', value: 1},
    {name: 'dhcp_send_failed', label: 'E.A', value: 1},
    {name: 'tftp', label: 'missing', value: 3},
  ])
})
