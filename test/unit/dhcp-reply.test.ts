/** Replies on the wire: which fields and options they carry, what they never carry, and how they travel. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import type {Grant} from '../../services/dhcpd/decision.ts'
import {replyDestination} from '../../services/dhcpd/destination.ts'
import {describeOptions, OPTIONS} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet, replyLimit} from '../../services/dhcpd/packet.ts'
import {buildNak, buildReply} from '../../services/dhcpd/reply.ts'
import {settle} from '../../services/dhcpd/settle.ts'
import type {DhcpPrefix} from '../../services/dhcpd/snapshot.ts'
import {ADDRESS, ARRIVAL, BOOT_URL, CLIENTS, HOST, MAC, makeRequest, makeSnapshot, NOW, SERVER} from '../support/dhcp-world.ts'

const RELAY = '10.77.0.254' as Ipv4

function grantFor(request: Packet, prefix: Partial<DhcpPrefix> = {}): Grant {
  const {answer} = decide(request, ARRIVAL, makeSnapshot({relays: [RELAY], ...prefix}), {}, NOW)
  if ('offer' in answer) return answer.offer
  if ('ack' in answer) return answer.ack
  if ('inform' in answer) return answer.inform
  throw new Error(`no grant: ${JSON.stringify(answer)}`)
}

/** The reply as a client would read it. */
function sent(request: Packet, type: 'OFFER' | 'ACK' | 'INFORM' = 'OFFER', prefix: Partial<DhcpPrefix> = {}) {
  const {bytes} = encodePacket(buildReply(request, type, grantFor(request, prefix)), replyLimit(request))
  const packet = decodePacket(bytes)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return {...packet, bytes, named: describeOptions(packet.options)}
}

const nak = (request: Packet) =>
  buildNak(request, {client: grantFor(makeRequest('DISCOVER')).client, server: SERVER, message: 'no'})
const selecting = (options: Parameters<typeof makeRequest>[1] = {}, header: Parameters<typeof makeRequest>[2] = {}) =>
  makeRequest('REQUEST', {requested_address: ADDRESS, server_identifier: SERVER, ...options}, header)

describe('DHCP reply', () => {
  it('W11 echoes xid, flags, giaddr and chaddr, and clears hops and secs', () => {
    const request = makeRequest('DISCOVER', {}, {flags: 0x8000, giaddr: RELAY, hops: 3, secs: 9})
    const reply = sent(request)
    expect(reply).toMatchObject({op: 2, xid: request.xid, flags: 0x8000, giaddr: RELAY, hops: 0, secs: 0, yiaddr: ADDRESS})
    expect(Buffer.from(reply.chaddr)).toEqual(Buffer.from(request.chaddr))
  })

  it('W12 an OFFER and an ACK carry server-id, lease and its times; the ACK to INFORM no lease and no address', () => {
    const lease = {server_identifier: SERVER, lease_time: 600, renewal_time: 300, rebinding_time: 525}
    expect(sent(makeRequest('DISCOVER')).named).toMatchObject({message_type: 'OFFER', ...lease})
    expect(sent(selecting(), 'ACK').named).toMatchObject({message_type: 'ACK', ...lease})
    const informed = sent(makeRequest('INFORM', {}, {ciaddr: ADDRESS}), 'INFORM')
    expect(informed.named).toMatchObject({message_type: 'ACK', server_identifier: SERVER})
    expect(informed).toMatchObject({yiaddr: '0.0.0.0', ciaddr: ADDRESS})
    for (const name of ['lease_time', 'renewal_time', 'rebinding_time']) expect(informed.named).not.toHaveProperty(name)
  })

  it('W13 a NAK has no lease, no names and no addresses', () => {
    const packet = nak(selecting({...CLIENTS.uefiRom}))
    expect(packet).toMatchObject({yiaddr: '0.0.0.0', siaddr: '0.0.0.0', ciaddr: '0.0.0.0', file: '', sname: ''})
    expect(describeOptions(packet.options)).toEqual({message_type: 'NAK', server_identifier: SERVER, message: 'no'})
  })

  it('W14 W27 carries no request-only option, and each option once', () => {
    const everything = Array.from({length: 254}, (_, index) => index + 1)
    const asks = {...CLIENTS.uefiRom, parameter_request_list: [...everything, ...everything], maximum_message_size: 1472}
    const {bytes, options} = sent(makeRequest('DISCOVER', {...asks, requested_address: ADDRESS}))
    for (const code of [50, 55, 57]) expect(options.has(code)).toBe(false)
    const codes: number[] = []
    for (let at = 240; bytes[at] !== 255; at += 2 + bytes[at + 1]!) codes.push(bytes[at]!)
    expect(new Set(codes).size).toBe(codes.length)
  })

  it('W15 echoes the client identifier if and only if it was sent, in a NAK too', () => {
    const client_identifier = Buffer.from('ff00770011', 'hex')
    expect(sent(makeRequest('DISCOVER', {client_identifier})).options.get(61)).toEqual(client_identifier)
    expect(nak(makeRequest('REQUEST', {client_identifier})).options.get(61)).toEqual(client_identifier)
    expect(sent(makeRequest('DISCOVER')).options.has(61)).toBe(false)
  })

  it('W19 an ACK says what its OFFER said', () => {
    for (const client of Object.values(CLIENTS)) {
      const {message_type: _offer, ...offered} = sent(makeRequest('DISCOVER', client)).named
      const {message_type: _ack, ...acknowledged} = sent(selecting(client), 'ACK').named
      expect(acknowledged).toEqual(offered)
    }
  })

  it('W26 an infinite lease has neither T1 nor T2', () => {
    const {named} = sent(makeRequest('DISCOVER'), 'OFFER', {lease_s: 0xffffffff})
    expect(named.lease_time).toBe(0xffffffff)
    expect(named).not.toHaveProperty('renewal_time')
    expect(named).not.toHaveProperty('rebinding_time')
  })

  it('gives every client its mask, router and DNS, asked or not', () => {
    expect(sent(makeRequest('DISCOVER')).named).toMatchObject({
      subnet_mask: '255.255.252.0',
      routers: ['10.77.0.1'],
      dns_servers: ['10.77.0.2'],
      broadcast_address: '10.77.3.255',
    })
    const bare = sent(makeRequest('DISCOVER'), 'OFFER', {gateway: null, dns: []}).named
    expect(bare).not.toHaveProperty('routers')
    expect(bare).not.toHaveProperty('dns_servers')
  })

  it('gives name, domain, MTU and time servers to those who ask', () => {
    const prefix = {domain: 'lab.example', mtu: 9000, ntp: ['10.77.0.5' as Ipv4]}
    const asking = makeRequest('DISCOVER', {parameter_request_list: [12, 15, 26, 42]})
    expect(sent(asking, 'OFFER', prefix).named).toMatchObject({
      host_name: HOST.hostname,
      domain_name: 'lab.example',
      interface_mtu: 9000,
      ntp_servers: ['10.77.0.5'],
    })
    const silent = sent(makeRequest('DISCOVER'), 'OFFER', prefix).named
    for (const name of ['host_name', 'domain_name', 'interface_mtu', 'ntp_servers']) expect(silent).not.toHaveProperty(name)
  })

  it('W33 sends classless routes with the default one, and then no router, to those who ask', () => {
    const routes = [{destination: '10.80.0.0/12' as Cidr, via: '10.77.0.9' as Ipv4}]
    const asking = sent(makeRequest('DISCOVER', {parameter_request_list: [3, 121]}), 'OFFER', {routes}).named
    expect(asking.classless_routes).toEqual([{destination: '0.0.0.0/0', via: '10.77.0.1'}, routes[0]])
    expect(asking).not.toHaveProperty('routers')
    const silent = sent(makeRequest('DISCOVER', {parameter_request_list: [3]}), 'OFFER', {routes}).named
    expect(silent).not.toHaveProperty('classless_routes')
    expect(silent).toHaveProperty('routers')
  })

  it('W34 echoes option 82 whole and last', () => {
    const relay_agent_information = new Map([
      [1, Buffer.from('eth0')],
      [151, Buffer.alloc(20, 7)],
    ])
    const request = makeRequest('DISCOVER', {relay_agent_information, ...CLIENTS.ipxe}, {giaddr: RELAY})
    const {options} = sent(request)
    expect(options.get(82)).toEqual(Buffer.from(request.options.get(82)!))
    expect([...options.keys()].at(-1)).toBe(82)
  })

  it('W41 returns 93, 94 and 97 to a PXE ROM when they are well-formed', () => {
    const pxe = {client_network_interface: Buffer.of(1, 3, 0), client_machine_identifier: Buffer.alloc(17, 3).fill(0, 0, 1)}
    expect(sent(makeRequest('DISCOVER', {...CLIENTS.uefiRom, ...pxe})).named).toMatchObject({
      client_architecture: [7],
      client_network_interface: '01:03:00',
    })
    const {options} = sent(makeRequest('DISCOVER', {...CLIENTS.uefiRom, client_machine_identifier: Buffer.of(0)}))
    expect(options.has(97)).toBe(false)
    expect(options.has(93)).toBe(true)
  })

  it('W43 sends option 150 to those who ask, agreeing with 66 and siaddr', () => {
    const asking = sent(makeRequest('DISCOVER', {...CLIENTS.biosRom, parameter_request_list: [66, 150]}))
    expect(asking.named).toMatchObject({tftp_server_addresses: [SERVER], tftp_server_name: SERVER})
    expect(asking.siaddr).toBe(SERVER)
    expect(sent(makeRequest('DISCOVER', CLIENTS.biosRom)).options.has(OPTIONS.tftp_server_addresses.code)).toBe(false)
  })

  it('W46 is at least 300 octets', () => {
    expect(sent(makeRequest('DISCOVER')).bytes.length).toBeGreaterThanOrEqual(300)
    expect(encodePacket(nak(selecting())).bytes).toHaveLength(300)
  })

  it('W50 answers HTTP boot with HTTPClient and a URL in option 67, asked or not', () => {
    for (const code of [15, 16, 18, 19]) {
      const {named} = sent(makeRequest('DISCOVER', {vendor_class: 'HTTPClient:Arch', client_architecture: [code]}))
      const isBootable = code === 16 || code === 19
      expect(named.vendor_class).toBe(isBootable ? 'HTTPClient' : undefined)
      if (isBootable) expect(named.boot_file_name).toMatch(/^http:\/\/10\.77\.0\.1:8480\/loaders\/.+\.efi$/)
    }
  })

  it('W51 sends a PXE ROM no option 60', () => {
    expect(sent(makeRequest('DISCOVER', CLIENTS.uefiRom)).options.has(60)).toBe(false)
  })

  it('W52 sends iPXE the script and tells it not to wait for a proxy', () => {
    const {named, file} = sent(makeRequest('DISCOVER', CLIENTS.ipxe))
    expect(file).toBe(`${BOOT_URL}/boot.ipxe`)
    expect(named.ipxe).toEqual({176: '01'})
  })

  it('W53 file and option 67 agree; a name too long for file goes in 67 alone', () => {
    const short = sent(makeRequest('DISCOVER', CLIENTS.uefiRom))
    expect(short.named.boot_file_name).toBe(short.file)
    const boot_url = `http://${'long.'.repeat(24)}example:8480`
    const long = sent(makeRequest('DISCOVER', {...CLIENTS.ipxe, parameter_request_list: []}), 'OFFER', {boot_url})
    expect(long.file).toBe('')
    expect(long.named.boot_file_name).toBe(`${boot_url}/boot.ipxe`)
  })

  it('an operating system gets no boot file and no next server', () => {
    expect(sent(makeRequest('DISCOVER', CLIENTS.os))).toMatchObject({file: '', siaddr: '0.0.0.0'})
  })
})

describe('DHCP destination', () => {
  const discover = (header: Parameters<typeof makeRequest>[2]) => makeRequest('DISCOVER', {}, header)
  const travel = (request: Packet) => replyDestination(request, buildReply(request, 'OFFER', grantFor(discover({}))), MAC)

  it('W7 a relayed reply goes to the relay’s server port', () => {
    expect(travel(discover({giaddr: RELAY, ciaddr: ADDRESS}))).toEqual({via: 'relay', to: {address: RELAY, port: 67}})
  })

  it('W8 one to a configured client goes to its address', () => {
    expect(travel(discover({ciaddr: ADDRESS, flags: 0x8000}))).toEqual({via: 'unicast', to: {address: ADDRESS, port: 68}})
  })

  it('W9 one to an unconfigured client is broadcast if it says so, else sent to its link address', () => {
    expect(travel(discover({flags: 0x8000}))).toEqual({via: 'broadcast', to: {address: '255.255.255.255', port: 68}})
    expect(travel(discover({flags: 0x7fff}))).toEqual({via: 'link', mac: MAC, to: {address: ADDRESS, port: 68}})
  })

  it('W10 a NAK is broadcast, or relayed with the broadcast bit', () => {
    const direct = makeRequest('REQUEST', {}, {ciaddr: ADDRESS})
    expect(replyDestination(direct, nak(direct), MAC)).toMatchObject({via: 'broadcast'})
    expect(nak(direct).flags).toBe(0)
    const relayed = makeRequest('REQUEST', {}, {ciaddr: ADDRESS, giaddr: RELAY})
    expect(replyDestination(relayed, nak(relayed), MAC)).toEqual({via: 'relay', to: {address: RELAY, port: 67}})
    expect(nak(relayed).flags).toBe(0x8000)
  })

  it('W36 link selection does not change it', () => {
    const relay_agent_information = new Map([[5, Uint8Array.of(10, 77, 0, 0)]])
    expect(travel(makeRequest('DISCOVER', {relay_agent_information}, {giaddr: RELAY}))).toMatchObject({to: {address: RELAY}})
  })
})

describe('settling a bind', () => {
  const grant = grantFor(makeRequest('DISCOVER'))
  const dynamic: Grant = {...grant, kind: 'dynamic'}

  it('W26 grants what was committed', () => {
    expect(settle(grant, {bound: true}, 0, 120).answer).toEqual({ack: grant})
  })

  it.each(['taken', 'gone'] as const)('refuses an address that is %s', refused => {
    expect(settle(grant, {refused}, 0, 120).answer).toHaveProperty('nak')
  })

  it('F2 with the database away a reservation lives for 120 s and a dynamic lease for its rest', () => {
    expect(settle(grant, 'away', 0, 120).answer).toMatchObject({ack: {lease_s: 120}})
    expect(settle(dynamic, 'away', 33, 120).answer).toMatchObject({ack: {lease_s: 33}})
    expect(settle(dynamic, 'away', 0, 120).answer).toEqual({ignored: 'database_away'})
  })

  it('F2 never grants longer while away than it would have', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(2000), fc.boolean(), (lease_s, remaining_s, isReserved) => {
        const {answer} = settle({...(isReserved ? grant : dynamic), lease_s}, 'away', remaining_s, 120)
        if ('ack' in answer) expect(answer.ack.lease_s).toBeLessThanOrEqual(Math.min(lease_s, isReserved ? 120 : remaining_s))
      }),
    )
  })
})

describe('any request', () => {
  it('gets a reply that respects its limits, whatever it asks', () => {
    const request = fc
      .record({
        type: fc.constantFrom('DISCOVER' as const, 'REQUEST' as const),
        client: fc.constantFrom(...Object.values(CLIENTS)),
        asked: fc.array(fc.nat(255), {maxLength: 60}),
        size: fc.nat(0xffff),
        id: fc.uint8Array({minLength: 1, maxLength: 300}),
        relayId: fc.uint8Array({maxLength: 250}),
      })
      .map(({type, client, asked, size, id, relayId}) =>
        makeRequest(
          type,
          {
            ...client,
            parameter_request_list: asked,
            maximum_message_size: size,
            client_identifier: id,
            relay_agent_information: new Map([[2, relayId]]),
            ...(type === 'REQUEST' ? {requested_address: ADDRESS} : {}),
          },
          {giaddr: RELAY},
        ),
      )
    fc.assert(
      fc.property(request, packet => {
        const {bytes} = encodePacket(buildReply(packet, 'ACK', grantFor(packet)), replyLimit(packet))
        expect(bytes.length).toBeLessThanOrEqual(replyLimit(packet))
        const reply = decodePacket(bytes)
        if ('ignored' in reply) throw new Error(reply.ignored)
        expect(describeOptions(reply.options)).toMatchObject({message_type: 'ACK', server_identifier: SERVER, lease_time: 600})
      }),
      {numRuns: 1000},
    )
  })
})

it('no MAC is special in a destination', () => {
  const mac = '02:00:00:00:00:01' as Mac
  const request = makeRequest('DISCOVER', {}, {mac: MAC})
  expect(replyDestination(request, buildReply(request, 'OFFER', grantFor(request)), mac)).toMatchObject({via: 'link', mac})
})
