/** The walk of a datagram with a leases port in memory: commits before ACKs, floods, absence of the database, what is reported. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {createBindQueue} from '../../services/dhcpd/bind-queue.ts'
import {createCounters} from '../../services/dhcpd/counters.ts'
import type {Destination} from '../../services/dhcpd/destination.ts'
import {createLeaseMemory} from '../../services/dhcpd/lease-memory.ts'
import type {BindRequest, BindResult} from '../../services/dhcpd/leases.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import {createFold, type DhcpEvidence, type Sighting} from '../../services/dhcpd/observations.ts'
import {describeOptions} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {createResponder} from '../../services/dhcpd/responder.ts'
import {ROUTER_ADVERTISEMENT} from '../../services/dhcpd/router-advertisement.ts'
import type {DhcpSnapshot} from '../../services/dhcpd/snapshot.ts'
import {
  ADDRESS,
  ARRIVAL,
  BOOT_URL,
  CLIENTS,
  createMemoryLeases,
  HOST,
  MAC,
  makeRequest,
  makeSnapshot,
  NOW,
  OPEN_WINDOW,
  PREFIX,
  SERVER,
  STRANGER,
} from '../support/dhcp-world.ts'
import {listCaptures, readDhcp} from '../support/pcap.ts'

function createWorld(snapshot: DhcpSnapshot = makeSnapshot()) {
  const world = {
    snapshot,
    now: NOW,
    monotonicMs: 0,
    sent: [] as {packet: Packet; named: Record<string, unknown>; destination: Destination; holder: Mac | undefined}[],
    sightings: [] as Sighting[],
    evidence: [] as DhcpEvidence[],
    advertised: [] as string[],
  }
  const clock: Clock = {now: () => world.now, monotonicMs: () => world.monotonicMs}
  const {leases, state} = createMemoryLeases(() => world.snapshot)
  const counters = createCounters()
  const responder = createResponder({
    snapshot: () => world.snapshot,
    leases,
    sightings: sighting => world.sightings.push(sighting),
    evidence: evidence => world.evidence.push(evidence),
    advertise: name => world.advertised.push(name),
    log: silentLog,
    clock,
    counters,
  })
  const send = (bytes: Buffer, destination: Destination) => {
    const packet = decodePacket(bytes)
    if ('ignored' in packet) throw new Error(packet.ignored)
    // The holder as the port knows it at this very moment.
    const holder = state.holders.get(packet.yiaddr)
    world.sent.push({packet, named: describeOptions(packet.options), destination, holder})
  }
  const receive = (bytes: Uint8Array, arrival: Arrival = ARRIVAL) => responder.receive(bytes, arrival, send)
  return Object.assign(world, {
    leases: state,
    count: (name: string) => counters.read().get(name) ?? 0,
    receive,
    idle: responder.idle,
    /** Sends packets one after another, each answered before the next. */
    async exchange(...packets: readonly Packet[]) {
      const before = world.sent.length
      for (const packet of packets) {
        receive(encodePacket(packet, 1472).bytes)
        await responder.idle()
      }
      return world.sent.slice(before).map(({named}) => named.message_type)
    },
  })
}

const discover = (mac: Mac, options: Parameters<typeof makeRequest>[1] = {}) => makeRequest('DISCOVER', options, {mac})
const selecting = (mac: Mac, requested_address: Ipv4, options: Parameters<typeof makeRequest>[1] = {}) =>
  makeRequest('REQUEST', {...options, requested_address, server_identifier: SERVER}, {mac})
const renewing = (mac: Mac, ciaddr: Ipv4) => makeRequest('REQUEST', {}, {mac, ciaddr})
const macOf = (index: number) =>
  `02:00:00:00:${(index >> 8).toString(16).padStart(2, '0')}:${(index & 255).toString(16).padStart(2, '0')}` as Mac

describe('responder', () => {
  it('offers a known machine its address before receive returns, and without the leases port', () => {
    const world = createWorld()
    world.leases.away = true
    world.receive(encodePacket(discover(MAC)).bytes)
    expect(world.sent[0]).toMatchObject({packet: {yiaddr: ADDRESS}, destination: {via: 'link', mac: MAC}})
  })

  it('W39 gives strangers addresses of the link’s second prefix once the first is full, and each keeps the prefix it has', async () => {
    const second = {
      ...PREFIX,
      id: 'second',
      cidr: '10.78.0.0/24' as Cidr,
      window: OPEN_WINDOW,
      dynamicRanges: [{first: '10.78.0.10' as Ipv4, last: '10.78.0.11' as Ipv4}],
    }
    const [only] = makeSnapshot({
      window: OPEN_WINDOW,
      dynamicRanges: [{first: '10.77.2.10' as Ipv4, last: '10.77.2.10' as Ipv4}],
    }).prefixes
    const world = createWorld({prefixes: [only!, second], hosts: new Map()})
    const take = async (index: number) => {
      await world.exchange(discover(macOf(index)))
      const {yiaddr} = world.sent.at(-1)!.packet
      await world.exchange(selecting(macOf(index), yiaddr))
      return `${world.sent.at(-1)?.named.message_type} ${world.sent.at(-1)?.packet.yiaddr}`
    }
    expect([await take(1), await take(2), await take(3)]).toEqual(['ACK 10.77.2.10', 'ACK 10.78.0.10', 'ACK 10.78.0.11'])
    expect(await world.exchange(discover(macOf(4)))).toEqual([])
    expect(world.count('ignored.range_full')).toBe(1)
    // Another process, which has to ask where each is at home; the first prefix has room again.
    world.leases.holders.delete('10.77.2.10' as Ipv4)
    const later = createWorld(world.snapshot)
    Object.assign(later.leases, {leases: world.leases.leases, offers: world.leases.offers, holders: world.leases.holders})
    expect(await later.exchange(discover(macOf(3)))).toEqual(['OFFER'])
    expect(later.sent.at(-1)?.packet.yiaddr).toBe('10.78.0.11')
  })

  it('W44 answers BOOTP at once, binds nothing, and tells what it saw', () => {
    const world = createWorld(makeSnapshot({bootp: 'static'}))
    world.leases.away = true
    world.receive(encodePacket(makeRequest(null)).bytes)
    expect(world.sent).toMatchObject([{packet: {yiaddr: ADDRESS}, destination: {via: 'link', mac: MAC}}])
    expect(world.leases.batches).toEqual([])
    expect(world.evidence).toMatchObject([{kind: 'dhcp_seen', reply: 'BOOTP', address: ADDRESS, message: null}])
    expect(world.count('sent.BOOTP')).toBe(1)
  })

  it('W48 answers on port 4011 by unicast, binds nothing, and advertises to iPXE', () => {
    const world = createWorld(makeSnapshot({mode: 'proxy'}))
    const proxyFrom = {address: ADDRESS, port: 4011}
    world.receive(encodePacket(makeRequest('REQUEST', CLIENTS.ipxe, {ciaddr: ADDRESS})).bytes, {...ARRIVAL, proxyFrom})
    expect(world.sent).toMatchObject([{named: {message_type: 'ACK'}, destination: {via: 'unicast', to: proxyFrom}}])
    expect(world.leases.batches).toEqual([])
    expect(world.advertised).toEqual(['br0'])
    expect(world.evidence).toMatchObject([{kind: 'dhcp_seen', reply: 'ACK', address: null, file: `${BOOT_URL}/boot.ipxe`}])
  })

  it('W47 does not take the server beside it for an intruder', async () => {
    const world = createWorld(makeSnapshot({mode: 'proxy'}))
    const taking = {requested_address: ADDRESS, server_identifier: '10.77.0.3' as Ipv4}
    expect(await world.exchange(makeRequest('REQUEST', taking))).toEqual([])
    expect(world.count('ignored.proxied')).toBe(1)
    expect(world.evidence.filter(({kind}) => kind === 'other_server_seen')).toEqual([])
  })

  it('sends the ACK only after its bind was committed', async () => {
    const world = createWorld()
    world.receive(encodePacket(selecting(MAC, ADDRESS)).bytes)
    expect(world.leases.batches).toMatchObject([[{mac: MAC, kind: 'reserved', machineId: 'm1', address: ADDRESS, lease_s: 600}]])
    expect(world.sent).toEqual([])
    await world.idle()
    expect(world.sent).toMatchObject([{named: {message_type: 'ACK'}, holder: MAC}])
  })

  it('records no more of a client identifier than one option holds', async () => {
    const world = createWorld()
    const {options} = selecting(MAC, ADDRESS)
    world.receive(
      encodePacket({...selecting(MAC, ADDRESS), options: new Map([...options, [61, Buffer.alloc(1000, 1)]])}, 1472).bytes,
    )
    await world.idle()
    expect(world.leases.batches[0]?.[0]?.clientId).toMatch(/^(01:){254}01…$/)
  })

  it('W18 offers two strangers two addresses, and each its own again', async () => {
    const world = createWorld(makeSnapshot({window: OPEN_WINDOW}))
    await world.exchange(discover(macOf(1)), discover(macOf(2)), discover(macOf(1)))
    const [first, second, again] = world.sent.map(({packet}) => packet.yiaddr)
    expect(first).not.toBe(second)
    expect(again).toBe(first)
  })

  it('W23 takes a declined address out of use and tells', async () => {
    const world = createWorld(makeSnapshot({window: OPEN_WINDOW}))
    await world.exchange(discover(STRANGER))
    const address = world.sent[0]!.packet.yiaddr
    await world.exchange(selecting(STRANGER, address), makeRequest('DECLINE', {requested_address: address}, {mac: STRANGER}))
    expect(world.leases.declined).toMatchObject([{mac: STRANGER, address, prefixId: 'lab'}])
    expect(world.evidence.at(-1)).toMatchObject({kind: 'address_declined', address, mac: STRANGER})
    await world.exchange(discover(macOf(7)))
    expect(world.sent.at(-1)!.packet.yiaddr).not.toBe(address)
  })

  it('W24 releases without a reply', async () => {
    const world = createWorld()
    expect(await world.exchange(selecting(MAC, ADDRESS), makeRequest('RELEASE', {}, {ciaddr: ADDRESS}))).toEqual(['ACK'])
    expect(world.leases.released).toMatchObject([{mac: MAC, machineId: 'm1', address: ADDRESS}])
  })

  it('refuses an address that another got first', async () => {
    const world = createWorld()
    world.leases.holders.set(ADDRESS, STRANGER)
    expect(await world.exchange(selecting(MAC, ADDRESS))).toEqual(['NAK'])
    expect(world.count('bind.taken')).toBe(1)
  })

  it('a lease only the database knows costs one look, and then none', async () => {
    const world = createWorld()
    const address = '10.77.2.12' as Ipv4
    const expires_at = new Date(NOW.getTime() + 60_000)
    world.leases.leases.set(STRANGER, {address, prefixId: 'lab', kind: 'dynamic', machineId: null, expires_at})
    world.leases.holders.set(address, STRANGER)
    expect(await world.exchange(renewing(STRANGER, address), renewing(STRANGER, address))).toEqual(['ACK', 'ACK'])
    expect(world.leases.finds).toBe(1)
  })

  it('W38 every identity of the captured journeys gets one and the same address', async () => {
    for (const [name, mac] of [
      ['journey-bios-ipxe-udhcpc-networkd.pcap', '52:54:00:77:00:10'],
      ['journey-uefi-edk2-ipxe-udhcpc-networkd.pcap', '52:54:00:77:00:11'],
    ] as const) {
      const host = {...HOST, address: '10.77.2.95' as Ipv4}
      const world = createWorld(makeSnapshot({}, [[mac as Mac, host]]))
      const requests = readDhcp(name).filter(({payload}) => payload[0] === 1)
      for (const {payload} of requests) {
        const packet = decodePacket(payload)
        if ('ignored' in packet) throw new Error(packet.ignored)
        const isDiscover = packet.options.get(53)?.[0] === 1
        world.receive(isDiscover ? payload : encodePacket(asksFor(packet, host.address), 1472).bytes)
        await world.idle()
      }
      expect(world.sent.length).toBe(requests.length)
      expect(new Set(world.sent.map(({packet}) => packet.yiaddr))).toEqual(new Set([host.address]))
      expect(new Set(world.leases.batches.flat().map(({clientId}) => clientId)).size).toBeGreaterThan(1)
    }
  })
})

/** A captured REQUEST as that client would have sent it had the offer come from us. */
function asksFor(packet: Packet, address: Ipv4): Packet {
  const options = new Map(packet.options)
  if (options.has(50)) options.set(50, Uint8Array.from(address.split('.').map(Number)))
  if (options.has(54)) options.set(54, Uint8Array.from(SERVER.split('.').map(Number)))
  return {...packet, options, ciaddr: packet.ciaddr === '0.0.0.0' ? packet.ciaddr : address}
}

describe('the database away (F2)', () => {
  it('F2 acknowledges reservations for 120 s', async () => {
    const world = createWorld()
    world.leases.away = true
    expect(await world.exchange(discover(MAC), selecting(MAC, ADDRESS), renewing(MAC, ADDRESS))).toEqual(['OFFER', 'ACK', 'ACK'])
    expect(world.sent.map(({named}) => named.lease_time)).toEqual([600, 120, 120])
    expect(world.sent[1]!.named).toMatchObject({renewal_time: 60, rebinding_time: 105})
  })

  it('F2 renews a dynamic lease for what is left of it, then no more, and begins nothing new', async () => {
    const world = createWorld(makeSnapshot({window: OPEN_WINDOW}))
    await world.exchange(discover(STRANGER))
    const address = world.sent[0]!.packet.yiaddr
    await world.exchange(selecting(STRANGER, address))
    world.leases.away = true
    world.monotonicMs += 500_000
    expect(await world.exchange(renewing(STRANGER, address))).toEqual(['ACK'])
    expect(world.sent.at(-1)!.named.lease_time).toBe(100)
    world.monotonicMs += 99_500
    expect(await world.exchange(renewing(STRANGER, address), discover(STRANGER), discover(macOf(3)))).toEqual([])
    expect(world.count('ignored.database_away')).toBe(3)
    world.leases.away = false
    expect(await world.exchange(discover(STRANGER), selecting(STRANGER, address))).toEqual(['OFFER', 'ACK'])
  })

  it('F5 a wall clock that jumps changes no remaining time', async () => {
    const world = createWorld(makeSnapshot({window: {id: 'w', until: new Date('2100-01-01')}}))
    await world.exchange(discover(STRANGER))
    const address = world.sent[0]!.packet.yiaddr
    await world.exchange(selecting(STRANGER, address))
    world.leases.away = true
    world.now = new Date(NOW.getTime() + 10 * 365 * 86_400_000)
    expect(await world.exchange(renewing(STRANGER, address))).toEqual(['ACK'])
    expect(world.sent.at(-1)!.named.lease_time).toBe(600)
  })
})

describe('floods and faults', () => {
  it('F10 10 000 unknown MACs get nothing, are folded and bounded, and a known machine is answered among them', () => {
    const world = createWorld()
    for (let index = 0; index < 10_000; index++) world.receive(encodePacket(discover(macOf(index))).bytes)
    expect(world.sent).toHaveLength(0)
    expect(world.count('ignored.unknown_mac')).toBe(10_000)
    expect(world.sightings).toHaveLength(4096)
    expect(world.count('sighting_dropped')).toBe(10_000 - 4096)
    world.receive(encodePacket(discover(MAC)).bytes)
    expect(world.sent).toHaveLength(1)
  })

  it('F12 mutated captures from known and unknown machines neither throw nor stop the next packet', async () => {
    const captured = listCaptures().flatMap(readDhcp)
    const macs = [
      ...new Set(
        captured.map(({payload}) => [...payload.subarray(28, 34)].map(byte => byte.toString(16).padStart(2, '0')).join(':')),
      ),
    ]
    const world = createWorld(
      makeSnapshot(
        {window: OPEN_WINDOW},
        macs.slice(0, 4).map(mac => [mac as Mac, HOST]),
      ),
    )
    fc.assert(
      fc.property(
        fc.constantFrom(...captured),
        fc.array(fc.tuple(fc.nat(600), fc.nat(255)), {maxLength: 12}),
        fc.integer({min: 230, max: 700}),
        ({payload}, changes, length) => {
          const bytes = Buffer.from(payload.subarray(0, length))
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          world.receive(bytes)
        },
      ),
      {numRuns: 20_000},
    )
    await world.idle()
    expect(world.count('received')).toBe(20_000)
    expect(world.count('ignored.fault')).toBe(0)
    expect(world.count('sent.OFFER')).toBeGreaterThan(0)
  })

  it('W4 counts a silent discard by its reason', () => {
    const world = createWorld()
    world.receive(Buffer.alloc(10))
    world.receive(encodePacket(makeRequest(null)).bytes)
    world.receive(encodePacket(discover(MAC), 1472).bytes, {...ARRIVAL, interface: 'nowhere'})
    expect([world.count('ignored.too_short'), world.count('ignored.bootp'), world.count('ignored.unserved_link')]).toEqual([
      1, 1, 1,
    ])
  })

  it('throws nothing at the socket when the snapshot or a reporter fails', () => {
    const world = createWorld()
    const failing = createResponder({
      snapshot: () => {
        throw new Error('no snapshot')
      },
      leases: createMemoryLeases(() => world.snapshot).leases,
      sightings: () => undefined,
      evidence: () => undefined,
      advertise: () => undefined,
      log: silentLog,
      clock: {now: () => NOW, monotonicMs: () => 0},
      counters: createCounters({count: (counter, label) => world.advertised.push(`${counter} ${label}`)}),
    })
    expect(() => failing.receive(encodePacket(discover(MAC)).bytes, ARRIVAL, () => undefined)).not.toThrow()
    expect(world.advertised).toContain('ignored fault')
  })
})

describe('what is reported', () => {
  it('evidence of a watched machine: stage, reply, address and file', async () => {
    const world = createWorld()
    await world.exchange(discover(MAC, CLIENTS.uefiRom), selecting(MAC, ADDRESS, CLIENTS.ipxe))
    expect(world.evidence).toMatchObject([
      {kind: 'dhcp_seen', machineId: 'm1', mac: MAC, stage: 'rom', message: 'DISCOVER', reply: 'OFFER', firmware: 'uefi'},
      {kind: 'dhcp_seen', machineId: 'm1', stage: 'ipxe', message: 'REQUEST', reply: 'ACK', address: ADDRESS, prefixId: 'lab'},
    ])
    expect(world.evidence[0]).toMatchObject({file: 'snponly.efi', at: NOW})
    expect(world.sightings).toEqual([])
  })

  it('no evidence of a machine that nobody watches', async () => {
    const world = createWorld(makeSnapshot({}, [[MAC, {...HOST, watched: false}]]))
    expect(await world.exchange(discover(MAC), selecting(MAC, ADDRESS))).toEqual(['OFFER', 'ACK'])
    expect(world.evidence).toEqual([])
  })

  it('why a watched machine hears nothing', async () => {
    const world = createWorld()
    await world.exchange(makeRequest('REQUEST', {requested_address: ADDRESS, server_identifier: '10.77.0.9' as Ipv4}))
    expect(world.evidence).toMatchObject([
      {kind: 'other_server_seen', server: '10.77.0.9'},
      {kind: 'dhcp_seen', reply: null, ignored: 'other_server'},
    ])
  })

  it('F27 another DHCP server, once a minute for each', async () => {
    const world = createWorld()
    const chosen = makeRequest('REQUEST', {requested_address: ADDRESS, server_identifier: '10.77.0.9' as Ipv4})
    await world.exchange(chosen, chosen, chosen)
    world.monotonicMs += 60_001
    await world.exchange(chosen)
    expect(world.evidence.filter(({kind}) => kind === 'other_server_seen')).toHaveLength(2)
  })

  it('F27 a MAC that shows up with another UUID', async () => {
    const guid = Buffer.alloc(17, 0x42).fill(0, 0, 1)
    const world = createWorld(makeSnapshot({}, [[MAC, {...HOST, uuid: '00000000-0000-0000-0000-000000000001'}]]))
    await world.exchange(discover(MAC, {client_machine_identifier: guid}))
    expect(world.evidence).toMatchObject([{uuid_differs: true}])
  })

  it('a sighting of an unknown MAC, with its switch port, folded to one in ten seconds', async () => {
    const relay = '10.77.0.254' as Ipv4
    const world = createWorld(makeSnapshot({relays: [relay]}))
    const relay_agent_information = new Map([[1, Buffer.from('p7')]])
    const seen = makeRequest('DISCOVER', {...CLIENTS.uefiRom, relay_agent_information}, {mac: STRANGER, giaddr: relay})
    await world.exchange(seen, seen, seen)
    expect(world.sightings).toMatchObject([
      {mac: STRANGER, prefixId: 'lab', relay: {giaddr: relay, circuitId: '70:37'}, architecture: 7, count: 1},
    ])
    world.monotonicMs += 10_000
    await world.exchange(seen)
    expect(world.sightings[1]).toMatchObject({count: 3})
    expect(world.evidence).toEqual([])
  })

  it('asks for a router advertisement for iPXE on its own link, where the prefix wants it', async () => {
    const relay = '10.77.0.254' as Ipv4
    const world = createWorld(makeSnapshot({relays: [relay]}))
    await world.exchange(discover(MAC, CLIENTS.uefiRom), makeRequest('DISCOVER', CLIENTS.ipxe, {giaddr: relay}))
    expect(world.advertised).toEqual([])
    await world.exchange(discover(MAC, CLIENTS.ipxe), selecting(MAC, ADDRESS, CLIENTS.ipxe))
    expect(world.advertised).toEqual(['br0', 'br0'])
    world.snapshot = makeSnapshot({routerAdvertisement: false})
    await world.exchange(discover(MAC, CLIENTS.ipxe))
    expect(world.advertised).toHaveLength(2)
  })
})

describe('group commit', () => {
  const request = (index: number, address = `10.77.1.${index}` as Ipv4): BindRequest => ({
    mac: macOf(index),
    kind: 'dynamic',
    machineId: null,
    prefixId: 'lab',
    address,
    lease_s: 600,
    clientId: null,
    now: NOW,
  })

  function createGate() {
    const batches: (readonly BindRequest[])[] = []
    const open: ((results?: readonly BindResult[]) => void)[] = []
    const bind = (requests: readonly BindRequest[]) => {
      batches.push(requests)
      return new Promise<readonly BindResult[]>(resolve => {
        open.push((results = requests.map(() => ({bound: true}) as const)) => resolve(results))
      })
    }
    return {batches, bind, release: (results?: readonly BindResult[]) => open.shift()?.(results)}
  }

  it('commits the first at once and everything that queued meanwhile together', async () => {
    const gate = createGate()
    const queue = createBindQueue(gate)
    const done = Promise.all([1, 2, 3, 4].map(index => queue.submit(request(index))))
    expect(gate.batches.map(batch => batch.length)).toEqual([1])
    gate.release()
    await expect.poll(() => gate.batches.length).toBe(2)
    gate.release()
    await done
    expect(gate.batches.map(batch => batch.length)).toEqual([1, 3])
  })

  it('shares the bind of a repeated request and keeps two wishes of one MAC in two batches', async () => {
    const gate = createGate()
    const queue = createBindQueue(gate)
    const first = queue.submit(request(1))
    const twice = [queue.submit(request(2)), queue.submit(request(2)), queue.submit(request(2, '10.77.1.99' as Ipv4))]
    gate.release()
    await first
    await expect.poll(() => gate.batches.length).toBe(2)
    gate.release([{refused: 'taken'}])
    await expect.poll(() => gate.batches.length).toBe(3)
    gate.release()
    expect(await Promise.all(twice)).toEqual([{refused: 'taken'}, {refused: 'taken'}, {bound: true}])
    await queue.idle()
  })

  it('fails the whole batch when the commit fails, and goes on with the next', async () => {
    let calls = 0
    const queue = createBindQueue({
      bind: async requests => {
        if (calls++ === 0) throw new Error('away')
        return requests.map(() => ({bound: true}) as const)
      },
    })
    await expect(queue.submit(request(1))).rejects.toThrow('away')
    await expect(queue.submit(request(1))).resolves.toEqual({bound: true})
  })

  it('rejects when the port answers fewer than it was asked', async () => {
    await expect(createBindQueue({bind: async () => []}).submit(request(1))).rejects.toThrow('answered 0 of 1')
  })
})

describe('bounded memory', () => {
  it('forgets the oldest lease past its capacity', () => {
    const memory = createLeaseMemory({now: () => NOW, monotonicMs: () => 0}, 2)
    for (const index of [1, 2, 3])
      memory.remember(macOf(index), {address: `10.77.2.${index}` as Ipv4, prefixId: 'lab', lease_s: 60})
    expect([1, 2, 3].map(index => memory.recall(macOf(index)) !== undefined)).toEqual([false, true, true])
  })

  it('folds again once the time of an old key is over', () => {
    let nowMs = 0
    let dropped = 0
    const fold = createFold<number>({now: () => NOW, monotonicMs: () => nowMs}, 100, 2, () => dropped++)
    expect([1, 2, 3, 1].map(key => fold.due(key))).toEqual([1, 1, 0, 0])
    expect(dropped).toBe(1)
    nowMs = 200
    expect([3, 2, 4].map(key => fold.due(key))).toEqual([1, 1, 0])
  })
})

it('the router advertisement has lifetime 0 and no option', () => {
  expect([...ROUTER_ADVERTISEMENT]).toEqual([134, ...Array<number>(15).fill(0)])
})
