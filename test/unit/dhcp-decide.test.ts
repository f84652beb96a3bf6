/** Decisions: who gets which address, who is told no, and who hears nothing; each with its reasons. */
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {indexClientKeys} from '../../services/dhcpd/client-keys.ts'
import {decide, type LeaseView} from '../../services/dhcpd/decide.ts'
import type {DhcpAnswer, Grant} from '../../services/dhcpd/decision.ts'
import type {StoredLease} from '../../services/dhcpd/leases.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import type {MessageType} from '../../services/dhcpd/options.ts'
import type {Packet} from '../../services/dhcpd/packet.ts'
import type {DhcpHost, DhcpSnapshot} from '../../services/dhcpd/snapshot.ts'
import {
  ADDRESS,
  ARRIVAL,
  BOOT_URL,
  CLIENTS,
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

const KNOWN = makeSnapshot()
const OPEN = makeSnapshot({window: OPEN_WINDOW})
const DYNAMIC = '10.77.2.10' as Ipv4
const ELSEWHERE = '10.99.0.4' as Ipv4
const RELAY = '10.77.0.254' as Ipv4

function answerTo(packet: Packet, snapshot: DhcpSnapshot = KNOWN, view: LeaseView = {}, arrival: Arrival = ARRIVAL): DhcpAnswer {
  return decide(packet, arrival, snapshot, view, NOW).answer
}

function granted(packet: Packet, snapshot: DhcpSnapshot = KNOWN, view: LeaseView = {}, arrival: Arrival = ARRIVAL): Grant {
  const answer = answerTo(packet, snapshot, view, arrival)
  if ('offer' in answer) return answer.offer
  if ('ack' in answer) return answer.ack
  throw new Error(`no grant: ${JSON.stringify(answer)}`)
}

function stored(address: Ipv4, expires_at = new Date(NOW.getTime() + 60_000)): StoredLease {
  return {address, prefixId: 'lab', kind: 'dynamic', machineId: null, expires_at}
}

const selecting = (address: Ipv4, server: Ipv4 = SERVER, mac: Mac = MAC) =>
  makeRequest('REQUEST', {requested_address: address, server_identifier: server}, {mac})
const rebooting = (address: Ipv4, mac: Mac = MAC) => makeRequest('REQUEST', {requested_address: address}, {mac})
const renewing = (ciaddr: Ipv4, mac: Mac = MAC) => makeRequest('REQUEST', {}, {ciaddr, mac})

describe('a known machine', () => {
  it('is offered its address from the snapshot alone', () => {
    expect(answerTo(makeRequest('DISCOVER'))).toMatchObject({
      offer: {address: ADDRESS, kind: 'reserved', lease_s: 600, server: SERVER},
    })
  })

  it('W17 is offered its own address whatever it asks for', () => {
    expect(granted(makeRequest('DISCOVER', {requested_address: '10.77.0.99' as Ipv4})).address).toBe(ADDRESS)
  })

  it.each<[string, Buffer | undefined]>([
    ['none', undefined],
    ['01+MAC', Buffer.from('01525400770011', 'hex')],
    ['a DUID', Buffer.from('ff00770011000200000ab11122334455667788', 'hex')],
  ])('W38 gets one address with client identifier %s', (_what, client_identifier) => {
    const options = client_identifier === undefined ? {} : {client_identifier}
    expect(granted(makeRequest('DISCOVER', options)).address).toBe(ADDRESS)
    expect(granted(makeRequest('REQUEST', {...options, requested_address: ADDRESS, server_identifier: SERVER})).address).toBe(
      ADDRESS,
    )
  })

  it('W80 is not confused with a machine that has the same GUID', () => {
    const other = {...HOST, machineId: 'm2', address: '10.77.0.51' as Ipv4}
    const snapshot = makeSnapshot({}, [
      [MAC, HOST],
      [STRANGER, other],
    ])
    const client_machine_identifier = Buffer.alloc(17, 0x11).fill(0, 0, 1)
    expect(granted(makeRequest('DISCOVER', {client_machine_identifier}), snapshot).address).toBe(ADDRESS)
    expect(granted(makeRequest('DISCOVER', {client_machine_identifier}, {mac: STRANGER}), snapshot).address).toBe(other.address)
  })

  it('W80 is known by its UUID in both byte orders when nobody declared its MAC; one that is all zero or of two machines tells nothing', () => {
    const uuid = '00112233-4455-6677-8899-aabbccddeeff'
    const host = {...HOST, uuid}
    const offerTo = (guid: string, hosts: readonly DhcpHost[] = [host], snapshot = KNOWN) => {
      const client_machine_identifier = Buffer.from(`00${guid}`, 'hex')
      const request = makeRequest('DISCOVER', {...CLIENTS.uefiRom, client_machine_identifier}, {mac: STRANGER})
      return answerTo(request, {...snapshot, keys: indexClientKeys(hosts, [])})
    }
    expect(offerTo('00112233445566778899aabbccddeeff')).toMatchObject({offer: {address: ADDRESS, machineId: 'm1'}})
    expect(offerTo('33221100554477668899aabbccddeeff')).toMatchObject({offer: {address: ADDRESS, machineId: 'm1'}})
    expect(offerTo('99112233445566778899aabbccddeeff')).toEqual({ignored: 'unknown_mac'})
    const twin = {...HOST, machineId: 'm2', address: '10.77.0.51' as Ipv4, uuid: uuid.toUpperCase()}
    expect(offerTo('00112233445566778899aabbccddeeff', [host, twin])).toEqual({ignored: 'unknown_mac'})
    // The other's UUID, read in the other byte order, is this one's.
    const swapped = {...twin, uuid: '33221100-5544-7766-8899-aabbccddeeff'}
    expect(offerTo('00112233445566778899aabbccddeeff', [host, swapped])).toEqual({ignored: 'unknown_mac'})
    for (const filler of [
      '0'.repeat(32),
      'f'.repeat(32),
      '03000200040005000006000700080009',
      '123456781234567890abcddeefaabbcc',
    ]) {
      const recorded = {...HOST, uuid: filler.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')}
      expect(offerTo(filler, [recorded])).toEqual({ignored: 'unknown_mac'})
    }
  })

  it('W38 chaddr comes first; client identifier, UUID and circuit identify only a MAC that nobody declared, in that order', () => {
    const byId = {...HOST, machineId: 'by-id', address: '10.77.0.61' as Ipv4}
    const byUuid = {...HOST, machineId: 'by-uuid', address: '10.77.0.62' as Ipv4, uuid: '00112233-4455-6677-8899-aabbccddeeff'}
    const byCircuit = {...HOST, machineId: 'by-circuit', address: '10.77.0.63' as Ipv4}
    const keys = indexClientKeys(
      [byId, byUuid, byCircuit],
      [
        {machineId: 'by-id', kind: 'client_id', value: 'ff:01', relay: null},
        {machineId: 'by-circuit', kind: 'circuit_id', value: '65:74:68:31', relay: RELAY},
        {machineId: 'gone', kind: 'client_id', value: 'ff:02', relay: null},
      ],
    )
    const snapshot = {...makeSnapshot({relays: [RELAY]}), keys}
    const all = {
      client_identifier: Buffer.from('ff01', 'hex'),
      client_machine_identifier: Buffer.from('0000112233445566778899aabbccddeeff', 'hex'),
      relay_agent_information: new Map([[1, Buffer.from('eth1')]]),
    }
    const {client_identifier: _id, ...withoutId} = all
    const {client_machine_identifier: _uuid, ...onlyCircuit} = withoutId
    const relayed = (options: object, giaddr = RELAY) => makeRequest('DISCOVER', options, {mac: STRANGER, giaddr})
    expect(granted(makeRequest('DISCOVER', all, {giaddr: RELAY}), snapshot).address).toBe(ADDRESS)
    expect(granted(relayed(all), snapshot).address).toBe(byId.address)
    expect(granted(relayed(withoutId), snapshot).address).toBe(byUuid.address)
    expect(granted(relayed(onlyCircuit), snapshot).address).toBe(byCircuit.address)
    // Circuits have the same names on every switch: the key was declared for one relay.
    const elsewhere = {...makeSnapshot({relays: [RELAY, '10.77.0.253' as Ipv4]}), keys}
    expect(answerTo(relayed(onlyCircuit, '10.77.0.253' as Ipv4), elsewhere)).toEqual({ignored: 'unknown_mac'})
    expect(answerTo(relayed({client_identifier: Buffer.from('ff02', 'hex')}), snapshot)).toEqual({ignored: 'unknown_mac'})
    const {reasons} = decide(relayed(onlyCircuit), ARRIVAL, snapshot, {}, NOW)
    expect(reasons.find(({rule}) => rule === 'identity')?.because).toContain(
      'the circuit 65:74:68:31 it is on is that of server0001',
    )
  })

  it('W80 is said to differ only when its GUID matches in neither byte order', () => {
    const guid = Buffer.concat([Buffer.of(0), Buffer.from('00112233445566778899aabbccddeeff', 'hex')])
    const ruleFor = (uuid: string) => {
      const {reasons} = decide(
        makeRequest('DISCOVER', {client_machine_identifier: guid}),
        ARRIVAL,
        makeSnapshot({}, [[MAC, {...HOST, uuid}]]),
        {},
        NOW,
      )
      return reasons.some(({rule}) => rule === 'uuid')
    }
    expect(ruleFor('00112233-4455-6677-8899-AABBCCDDEEFF')).toBe(false)
    expect(ruleFor('33221100-5544-7766-8899-aabbccddeeff')).toBe(false)
    expect(ruleFor('99999999-4455-6677-8899-aabbccddeeff')).toBe(true)
  })

  it('W20 SELECTING with our server-id and its address is acknowledged', () => {
    expect(answerTo(selecting(ADDRESS))).toMatchObject({ack: {address: ADDRESS}})
  })

  it('W16 may name any of our addresses as its server', () => {
    expect(answerTo(selecting(ADDRESS, '192.0.2.9' as Ipv4))).toMatchObject({ack: {address: ADDRESS}})
  })

  it('W20 that chose another server hears nothing', () => {
    expect(answerTo(selecting(ADDRESS, '10.77.0.9' as Ipv4))).toEqual({ignored: 'other_server'})
  })

  it('W20 SELECTING without an address is malformed', () => {
    expect(answerTo(makeRequest('REQUEST', {server_identifier: SERVER}))).toEqual({ignored: 'malformed_request'})
  })

  it('W21 INIT-REBOOT with a wrong address, or one of another net, is refused', () => {
    expect(answerTo(rebooting(ADDRESS))).toMatchObject({ack: {address: ADDRESS}})
    expect(answerTo(rebooting('10.77.0.99' as Ipv4))).toMatchObject({nak: {message: 'the address of server0001 is 10.77.0.50'}})
    expect(answerTo(rebooting(ELSEWHERE))).toHaveProperty('nak')
  })

  it('W22 RENEWING is answered by ciaddr, and a wrong one costs one look before the refusal', () => {
    expect(answerTo(renewing(ADDRESS))).toMatchObject({ack: {address: ADDRESS, kind: 'reserved'}})
    expect(answerTo(renewing(DYNAMIC))).toEqual({ask: 'lease'})
    expect(answerTo(renewing(DYNAMIC), KNOWN, {found: null})).toHaveProperty('nak')
    expect(answerTo(renewing(DYNAMIC), KNOWN, {found: stored(DYNAMIC)})).toMatchObject({ack: {address: DYNAMIC, kind: 'dynamic'}})
    expect(answerTo(renewing(DYNAMIC), KNOWN, {found: stored('10.77.2.19' as Ipv4)})).toHaveProperty('nak')
    expect(answerTo(renewing(DYNAMIC), KNOWN, {found: 'away'})).toEqual({ignored: 'database_away'})
  })

  it('W6 is never identified by ciaddr: another MAC with its address is another client', () => {
    expect(answerTo(renewing(ADDRESS, STRANGER))).toEqual({ask: 'lease'})
    expect(answerTo(renewing(ADDRESS, STRANGER), KNOWN, {found: null})).toEqual({ignored: 'unknown_lease'})
  })

  it('hears nothing on a link that is not its own, unless a window is open there', () => {
    const snapshot: DhcpSnapshot = {
      prefixes: [
        {...PREFIX, interface: 'br1'},
        {...PREFIX, id: 'other', cidr: '10.88.0.0/24' as Cidr},
      ],
      hosts: KNOWN.hosts,
    }
    const open = {...snapshot, prefixes: snapshot.prefixes.map(prefix => ({...prefix, window: OPEN_WINDOW}))}
    expect(answerTo(makeRequest('DISCOVER'), snapshot)).toEqual({ignored: 'other_prefix'})
    expect(answerTo(rebooting(ADDRESS), snapshot)).toHaveProperty('nak')
    expect(answerTo(makeRequest('DISCOVER'), open)).toMatchObject({ask: 'offer', request: {prefixId: 'other'}})
    expect(granted(makeRequest('DISCOVER'), open, {offered: DYNAMIC})).toMatchObject({kind: 'dynamic', machineId: 'm1'})
  })

  it('W12 is informed without a lease, at the address it has', () => {
    expect(answerTo(makeRequest('INFORM', {}, {ciaddr: ADDRESS}))).toMatchObject({inform: {address: ADDRESS}})
    expect(answerTo(makeRequest('INFORM'))).toEqual({ignored: 'malformed_request'})
  })

  it('W23 and W24 give back and decline the address they name', () => {
    expect(answerTo(makeRequest('RELEASE', {server_identifier: SERVER}, {ciaddr: ADDRESS}))).toMatchObject({
      release: {mac: MAC, machineId: 'm1', prefixId: 'lab', address: ADDRESS},
    })
    expect(answerTo(makeRequest('DECLINE', {server_identifier: SERVER, requested_address: ADDRESS}))).toMatchObject({
      decline: {mac: MAC, address: ADDRESS},
    })
    expect(answerTo(makeRequest('DECLINE', {server_identifier: '10.77.0.9' as Ipv4, requested_address: ADDRESS}))).toEqual({
      ignored: 'other_server',
    })
  })

  it('W24 cannot give back what it does not have', () => {
    const foreign = makeRequest('RELEASE', {}, {ciaddr: '10.77.0.77' as Ipv4})
    expect(answerTo(foreign)).toEqual({ask: 'lease'})
    expect(answerTo(foreign, KNOWN, {found: null})).toEqual({ignored: 'unknown_lease'})
  })
})

describe('an unknown MAC', () => {
  it.each<[MessageType, Partial<Packet>]>([
    ['DISCOVER', {}],
    ['INFORM', {ciaddr: DYNAMIC}],
  ])('hears nothing to %s while no window is open', (type, header) => {
    expect(answerTo(makeRequest(type, {}, {mac: STRANGER, ...header}))).toEqual({ignored: 'unknown_mac'})
    const closed = makeSnapshot({window: {id: 'w', until: NOW}})
    expect(answerTo(makeRequest(type, {}, {mac: STRANGER, ...header}), closed)).toEqual({ignored: 'unknown_mac'})
  })

  it('W21 INIT-REBOOT by it is met with silence, for an address of ours and of others', () => {
    expect(answerTo(rebooting(ELSEWHERE, STRANGER))).toEqual({ignored: 'unknown_mac'})
    expect(answerTo(rebooting(DYNAMIC, STRANGER), KNOWN, {found: null})).toEqual({ignored: 'unknown_lease'})
  })

  it('gets a dynamic address and the boot script inside a window', () => {
    const discover = makeRequest('DISCOVER', {...CLIENTS.ipxe, requested_address: DYNAMIC}, {mac: STRANGER})
    expect(answerTo(discover, OPEN)).toEqual({
      ask: 'offer',
      request: {mac: STRANGER, prefixId: 'lab', requested: DYNAMIC, now: NOW},
    })
    expect(granted(discover, OPEN, {offered: DYNAMIC})).toMatchObject({
      kind: 'dynamic',
      address: DYNAMIC,
      machineId: null,
      boot: {by: 'script', file: `${BOOT_URL}/boot.ipxe`},
    })
  })

  it('hears nothing when the range is full or the database away', () => {
    const discover = makeRequest('DISCOVER', {}, {mac: STRANGER})
    expect(answerTo(discover, OPEN, {offered: 'full'})).toEqual({ignored: 'range_full'})
    expect(answerTo(discover, OPEN, {offered: 'away'})).toEqual({ignored: 'database_away'})
  })

  it('W19 is acknowledged only the address that is offered to it', () => {
    expect(answerTo(selecting(DYNAMIC, SERVER, STRANGER), OPEN)).toMatchObject({ask: 'offer'})
    expect(answerTo(selecting(DYNAMIC, SERVER, STRANGER), OPEN, {offered: DYNAMIC})).toMatchObject({ack: {address: DYNAMIC}})
    expect(answerTo(selecting('10.77.0.1' as Ipv4, SERVER, STRANGER), OPEN, {offered: DYNAMIC})).toHaveProperty('nak')
    expect(answerTo(selecting(DYNAMIC, SERVER, STRANGER), OPEN, {offered: 'away'})).toEqual({ignored: 'database_away'})
  })

  it('keeps a committed lease after the window closed, and loses one that ended', () => {
    const ended = stored(DYNAMIC, NOW)
    expect(answerTo(renewing(DYNAMIC, STRANGER))).toEqual({ask: 'lease'})
    expect(answerTo(renewing(DYNAMIC, STRANGER), KNOWN, {found: stored(DYNAMIC)})).toMatchObject({ack: {kind: 'dynamic'}})
    expect(answerTo(renewing(DYNAMIC, STRANGER), KNOWN, {found: ended})).toEqual({ignored: 'lease_ended'})
    expect(answerTo(renewing(DYNAMIC, STRANGER), OPEN, {found: ended})).toMatchObject({ack: {address: DYNAMIC}})
  })

  it('is recognised by a lease that only the database knows, as the machine it is', () => {
    const found: StoredLease = {...stored('10.77.0.60' as Ipv4), kind: 'reserved', machineId: 'm9'}
    expect(granted(renewing('10.77.0.60' as Ipv4, STRANGER), KNOWN, {found})).toMatchObject({machineId: 'm9', kind: 'reserved'})
  })

  it('costs no look into the database when this process remembers its lease', () => {
    const remembered = {address: DYNAMIC, prefixId: 'lab', remaining_s: 42}
    expect(answerTo(renewing(DYNAMIC, STRANGER), KNOWN, {remembered})).toMatchObject({ack: {address: DYNAMIC, lease_s: 600}})
    expect(answerTo(makeRequest('DISCOVER', {}, {mac: STRANGER}), OPEN, {remembered, offered: 'away'})).toMatchObject({
      offer: {address: DYNAMIC, lease_s: 42},
    })
  })
})

describe('what is no request of ours', () => {
  it.each<[string, Packet]>([
    ['not_a_request', makeRequest('DISCOVER', {}, {op: 2})],
    ['bootp', makeRequest(null)],
    ['unknown_message_type', makeRequest('OFFER')],
    ['unknown_message_type', makeRequest(null, {message_type: 9})],
    ['unknown_message_type', makeRequest(null, {message_type: 0})],
    ['hardware_type', makeRequest('DISCOVER', {}, {htype: 32})],
  ])('W44 W4 is ignored as %s', (ignored, packet) => {
    const {answer, reasons} = decide(packet, ARRIVAL, KNOWN, {}, NOW)
    expect(answer).toEqual({ignored})
    expect(reasons.at(-1)).toMatchObject({rule: 'ignored', source: ignored})
  })

  it('is ignored on an interface without a prefix, or without an address of ours', () => {
    expect(answerTo(makeRequest('DISCOVER'), KNOWN, {}, {...ARRIVAL, interface: 'br9'})).toEqual({ignored: 'unserved_link'})
    expect(answerTo(makeRequest('DISCOVER'), KNOWN, {}, {...ARRIVAL, addresses: []})).toEqual({ignored: 'no_server_address'})
  })

  it('W1 no source address is asked about: a request from anywhere is served', () => {
    expect(answerTo(makeRequest('DISCOVER', {}, {ciaddr: ADDRESS}))).toHaveProperty('offer')
  })
})

describe('links', () => {
  const relayed = makeSnapshot({relays: [RELAY]})
  const remote: Arrival = {interface: 'uplink', addresses: ['203.0.113.1' as Ipv4], ownAddresses: ['203.0.113.1' as Ipv4]}
  const through = (options: Parameters<typeof makeRequest>[1] = {}, giaddr = RELAY) => makeRequest('DISCOVER', options, {giaddr})

  it('a prefix without an interface is found by our address on the link', () => {
    const {interface: _interface, ...unbound} = PREFIX
    const snapshot: DhcpSnapshot = {prefixes: [unbound], hosts: KNOWN.hosts}
    expect(granted(makeRequest('DISCOVER'), snapshot, {}, {...ARRIVAL, interface: 'any'}).address).toBe(ADDRESS)
    expect(answerTo(makeRequest('DISCOVER'), snapshot, {}, remote)).toEqual({ignored: 'unserved_link'})
  })

  it('F11 a relay that no prefix lists is dropped, whatever it says about itself', () => {
    expect(answerTo(through(), KNOWN)).toEqual({ignored: 'unlisted_relay'})
    expect(answerTo(through({}, '10.77.0.253' as Ipv4), relayed)).toEqual({ignored: 'unlisted_relay'})
    const spoofed = new Map([[5, Uint8Array.of(10, 77, 0, 0)]])
    expect(answerTo(through({relay_agent_information: spoofed}, '10.9.9.9' as Ipv4), relayed)).toEqual({
      ignored: 'unlisted_relay',
    })
  })

  it('W16 a relayed client is told the address the relay reached us by', () => {
    expect(granted(through(), relayed, {}, remote)).toMatchObject({address: ADDRESS, server: '203.0.113.1'})
    const named = makeSnapshot({relays: [RELAY], serverAddress: '198.51.100.7' as Ipv4})
    expect(granted(through(), named, {}, remote).server).toBe('198.51.100.7')
  })

  it('W36 W39 link selection, else subnet selection, chooses among the prefixes of that relay only', () => {
    const second = {...PREFIX, id: 'second', cidr: '10.78.0.0/24' as Cidr, relays: [RELAY], window: OPEN_WINDOW}
    const foreign = {...PREFIX, id: 'foreign', cidr: '10.79.0.0/24' as Cidr, relays: ['10.1.1.1' as Ipv4], window: OPEN_WINDOW}
    const snapshot: DhcpSnapshot = {prefixes: [{...PREFIX, relays: [RELAY]}, second, foreign], hosts: new Map()}
    const link = (...address: number[]) => ({relay_agent_information: new Map([[5, Uint8Array.from(address)]])})
    const asked = (packet: Packet) => answerTo(packet, snapshot, {}, remote)
    expect(asked(through(link(10, 78, 0, 1)))).toMatchObject({request: {prefixId: 'second'}})
    expect(asked(through({subnet_selection: '10.78.0.0' as Ipv4}))).toMatchObject({request: {prefixId: 'second'}})
    expect(asked(through({...link(10, 78, 0, 1), subnet_selection: '10.77.0.0' as Ipv4}))).toMatchObject({
      request: {prefixId: 'second'},
    })
    expect(asked(through(link(10, 79, 0, 1)))).toEqual({ignored: 'unserved_link'})
  })

  it('W39 prefixes that list the same relay share its link', () => {
    const second = {...PREFIX, id: 'second', cidr: '10.78.0.0/24' as Cidr, relays: [RELAY]}
    const host = {...HOST, address: '10.78.0.9' as Ipv4, prefixId: 'second'}
    const snapshot: DhcpSnapshot = {prefixes: [{...PREFIX, relays: [RELAY]}, second], hosts: new Map([[MAC, host]])}
    expect(granted(through(), snapshot, {}, remote)).toMatchObject({address: '10.78.0.9', prefix: {id: 'second'}})
  })

  it('W37 a listed relay may override the server identifier; a client may not', () => {
    const override = {relay_agent_information: new Map([[11, Uint8Array.of(10, 77, 0, 253)]])}
    expect(granted(through(override), relayed, {}, remote).server).toBe('10.77.0.253')
    const request = makeRequest(
      'REQUEST',
      {...override, server_identifier: '10.77.0.253' as Ipv4, requested_address: ADDRESS},
      {giaddr: RELAY},
    )
    expect(granted(request, relayed, {}, remote).address).toBe(ADDRESS)
    expect(granted(makeRequest('DISCOVER', override)).server).toBe(SERVER)
  })

  it('W35 option 82 is opaque, accepted without a relay, and never required', () => {
    const relay_agent_information = new Map([
      [1, Uint8Array.of(0, 255, 0)],
      [2, Buffer.from('switch-7')],
    ])
    const decision = decide(through({relay_agent_information}), remote, relayed, {}, NOW)
    expect(decision.link?.relay).toMatchObject({giaddr: RELAY, circuitId: '00:ff:00', remoteId: '73:77:69:74:63:68:2d:37'})
    expect(answerTo(makeRequest('DISCOVER', {relay_agent_information}))).toHaveProperty('offer')
    expect(answerTo(through(), relayed, {}, remote)).toHaveProperty('offer')
    const broken = through()
    const options = new Map([...broken.options, [82, Uint8Array.of(1, 200)]])
    expect(answerTo({...broken, options}, relayed, {}, remote)).toHaveProperty('offer')
  })

  it('a client behind a relay renews by unicast, without its relay', () => {
    expect(granted(renewing(ADDRESS), makeSnapshot({relays: [RELAY], interface: 'elsewhere'}), {}, remote).address).toBe(ADDRESS)
  })
})

describe('boot files', () => {
  const bootOf = (options: Parameters<typeof makeRequest>[1]) => granted(makeRequest('DISCOVER', options)).boot

  it.each([
    ['biosRom', 'tftp', 'undionly.kpxe'],
    ['uefiRom', 'tftp', 'snponly.efi'],
    ['uefiHttp', 'http', `${BOOT_URL}/loaders/snponly.efi`],
    ['ipxe', 'script', `${BOOT_URL}/boot.ipxe`],
  ] as const)('W50 W51 W52 %s is sent by %s to %s', (client, by, file) => {
    expect(bootOf(CLIENTS[client])).toEqual({by, file, nextServer: SERVER})
  })

  it('W51 no architecture makes a URL reach PXEClient or a name reach HTTPClient', () => {
    for (let code = 0; code < 64; code++) {
      const rom = bootOf({vendor_class: 'PXEClient', client_architecture: [code]})
      const http = bootOf({vendor_class: 'HTTPClient', client_architecture: [code]})
      if (rom.by !== 'none') expect(rom.file).not.toContain('://')
      if (http.by !== 'none') expect(http.file).toMatch(/^http:\/\//)
    }
  })

  it('W52 iPXE is never handed a loader again, whatever it calls itself', () => {
    const user_class = Buffer.from('iPXE')
    for (const client of [CLIENTS.biosRom, CLIENTS.uefiRom, CLIENTS.uefiHttp]) {
      expect(bootOf({...client, user_class})).toMatchObject({by: 'script'})
    }
  })

  it('says why there is none', () => {
    expect(bootOf({vendor_class: 'PXEClient', client_architecture: [6]})).toEqual({
      by: 'none',
      because: 'there is no loader for x86 UEFI',
    })
    expect(bootOf({vendor_class: 'PXEClient'})).toHaveProperty('because')
    expect(bootOf(CLIENTS.os)).toHaveProperty('because')
  })

  it('takes the names of loaders from the snapshot where it has them', () => {
    const snapshot = {...KNOWN, loaders: {'uefi-x64': 'shimx64.efi'}}
    expect(granted(makeRequest('DISCOVER', CLIENTS.uefiRom), snapshot).boot).toMatchObject({file: 'shimx64.efi'})
    expect(granted(makeRequest('DISCOVER', CLIENTS.biosRom), snapshot).boot).toMatchObject({file: 'undionly.kpxe'})
  })

  it('takes the next server from the boot URL, or is it itself when that has a name', () => {
    expect(
      granted(makeRequest('DISCOVER', CLIENTS.uefiRom), makeSnapshot({boot_url: 'http://10.77.0.3:8480'})).boot,
    ).toMatchObject({
      nextServer: '10.77.0.3',
    })
    expect(
      granted(makeRequest('DISCOVER', CLIENTS.uefiRom), makeSnapshot({boot_url: 'https://boot.example'})).boot,
    ).toMatchObject({
      nextServer: SERVER,
    })
  })
})
