/** Beside another DHCP server: who is told a boot file on ports 67 and 4011, what those replies hold, and who hears nothing. */
import {describe, expect, it} from 'vitest'
import {collectSeeds} from '../../fuzz/dhcp/seeds.ts'
import {makePacket} from '../../fuzz/dhcp/stretch.ts'
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import {indexClientKeys} from '../../services/dhcpd/client-keys.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import type {ProxyGrant} from '../../services/dhcpd/decision.ts'
import {proxyDestination, replyDestination} from '../../services/dhcpd/destination.ts'
import {describeOptions, MESSAGE_TYPES, OPTIONS, readOption} from '../../services/dhcpd/options.ts'
import {BOOTREQUEST, decodePacket, encodePacket, type Packet, replyLimit} from '../../services/dhcpd/packet.ts'
import {decodePxeVendor, encodePxeVendor} from '../../services/dhcpd/pxe-vendor.ts'
import {buildBootpReply, buildProxyReply} from '../../services/dhcpd/reply.ts'
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
import {readDhcp} from '../support/pcap.ts'

const OTHER_SERVER = '10.77.0.3' as Ipv4
const FROM = {address: ADDRESS, port: 4011}
const ON_4011 = {...ARRIVAL, proxyFrom: FROM}
const PROXIED = makeSnapshot({mode: 'proxy'})

const answerTo = (packet: Packet, snapshot = PROXIED, arrival: typeof ARRIVAL = ARRIVAL) =>
  decide(packet, arrival, snapshot, {}, NOW).answer

function told(packet: Packet, snapshot = PROXIED, arrival: typeof ARRIVAL = ARRIVAL): ProxyGrant {
  const answer = answerTo(packet, snapshot, arrival)
  if ('proxy' in answer) return answer.proxy
  throw new Error(`no proxy answer: ${JSON.stringify(answer)}`)
}

/** The reply as a client would read it. */
function sent(request: Packet, snapshot = PROXIED, arrival: typeof ARRIVAL = ARRIVAL) {
  const reply = buildProxyReply(request, told(request, snapshot, arrival))
  const packet = decodePacket(encodePacket(reply, replyLimit(request)).bytes)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return {
    ...packet,
    reply,
    named: describeOptions(packet.options),
    vendor: decodePxeVendor(packet.options.get(43) ?? Buffer.alloc(0)),
  }
}

const asking4011 = (options: Parameters<typeof makeRequest>[1] = {}, header: Parameters<typeof makeRequest>[2] = {}) =>
  makeRequest('REQUEST', {...CLIENTS.biosRom, ...options}, {ciaddr: ADDRESS, ...header})

describe('a proxyDHCP offer', () => {
  it.each([
    ['biosRom', 'undionly.kpxe', 'PXEClient'],
    ['uefiRom', 'snponly.efi', 'PXEClient'],
    ['uefiHttp', `${BOOT_URL}/loaders/snponly.efi`, 'HTTPClient'],
    ['ipxe', `${BOOT_URL}/boot.ipxe`, 'PXEClient'],
  ] as const)('W47 W51 to %s names %s, gives no address and no lease, and is marked %s', (client, file, vendorClass) => {
    const offer = sent(makeRequest('DISCOVER', CLIENTS[client]))
    expect(offer).toMatchObject({yiaddr: '0.0.0.0', ciaddr: '0.0.0.0', siaddr: SERVER, file})
    expect(offer.named).toMatchObject({message_type: 'OFFER', server_identifier: SERVER, vendor_class: vendorClass})
    for (const name of ['lease_time', 'renewal_time', 'subnet_mask', 'routers', 'dns_servers', 'requested_address'])
      expect(offer.named).not.toHaveProperty(name)
    expect(replyDestination(makeRequest('DISCOVER'), offer.reply, MAC)).toMatchObject({via: 'broadcast'})
  })

  it('W47 answers the DISCOVER of every netboot client on record', () => {
    const files = new Set<string>()
    for (const name of [
      'bios-ipxe-rom-virtio',
      'uefi-x64-edk2-pxev4-then-ipxe',
      'uefi-x64-edk2-httpv4-then-ipxe',
      'uefi-x64-ipxe-rom',
    ])
      for (const {payload} of readDhcp(`${name}.pcap`)) {
        const packet = decodePacket(payload)
        if ('ignored' in packet || packet.op !== BOOTREQUEST) continue
        const isDiscover = readOption(packet.options, 'message_type') === MESSAGE_TYPES.indexOf('DISCOVER')
        const answer = answerTo(packet, makeSnapshot({mode: 'proxy', window: OPEN_WINDOW}))
        if (!isDiscover) expect(answer).toEqual({ignored: 'proxied'})
        else if ('proxy' in answer) files.add(buildProxyReply(packet, answer.proxy).file)
        else throw new Error(`${name}: ${JSON.stringify(answer)}`)
      }
    expect([...files].sort()).toEqual([`${BOOT_URL}/boot.ipxe`, `${BOOT_URL}/loaders/snponly.efi`, 'snponly.efi'])
  })

  it('W47 never goes to an operating system, nor to a stranger outside a window', () => {
    expect(answerTo(makeRequest('DISCOVER', CLIENTS.os))).toEqual({ignored: 'proxied'})
    expect(answerTo(makeRequest('DISCOVER', CLIENTS.biosRom, {mac: STRANGER}))).toEqual({ignored: 'unknown_mac'})
    const open = makeSnapshot({mode: 'proxy', window: OPEN_WINDOW})
    expect(told(makeRequest('DISCOVER', CLIENTS.biosRom, {mac: STRANGER}), open)).toMatchObject({type: 'OFFER', host: null})
  })

  it('W47 leaves every lease on the link to the other server', () => {
    const taking = {requested_address: ADDRESS, server_identifier: OTHER_SERVER}
    expect(answerTo(makeRequest('REQUEST', taking))).toEqual({ignored: 'proxied'})
    expect(answerTo(makeRequest('REQUEST', {requested_address: ADDRESS}))).toEqual({ignored: 'proxied'})
    expect(answerTo(makeRequest('REQUEST', {}, {ciaddr: ADDRESS}))).toEqual({ignored: 'proxied'})
    for (const message of ['INFORM', 'RELEASE', 'DECLINE'] as const)
      expect(answerTo(makeRequest(message, {requested_address: ADDRESS}, {ciaddr: ADDRESS}))).toEqual({ignored: 'proxied'})
  })

  it('is not made where no loader is known for the architecture', () => {
    expect(answerTo(makeRequest('DISCOVER', {...CLIENTS.uefiRom, client_architecture: [6]}))).toEqual({ignored: 'no_loader'})
  })

  it('serves a machine whose own address is in another prefix', () => {
    const elsewhere = {...PREFIX, id: 'away', cidr: '10.99.0.0/24' as Cidr, interface: 'br9'}
    const snapshot = makeSnapshot({mode: 'proxy'})
    const [[mac, host] = []] = [...snapshot.hosts]
    const moved = {prefixes: [...snapshot.prefixes, elsewhere], hosts: new Map([[mac!, {...host!, prefixId: 'away'}]])}
    expect(told(makeRequest('DISCOVER', CLIENTS.biosRom), moved)).toMatchObject({type: 'OFFER', boot: {file: 'undionly.kpxe'}})
  })

  it('W41 W49 carries 43.6 so that the client takes this file and asks no boot server, and 97 as it came', () => {
    const client_machine_identifier = Buffer.alloc(17, 0x22).fill(0, 0, 1)
    const offer = sent(makeRequest('DISCOVER', {...CLIENTS.biosRom, client_machine_identifier}))
    expect(offer.vendor).toEqual({discoveryControl: 8})
    expect(offer.options.get(43)?.at(-1)).toBe(255)
    expect(Buffer.from(offer.options.get(97)!)).toEqual(client_machine_identifier)
  })

  it('W50 an HTTP client gets no PXE options', () => {
    expect(sent(makeRequest('DISCOVER', CLIENTS.uefiHttp)).options.has(43)).toBe(false)
  })
})

describe('port 4011', () => {
  it('W48 answers a PXE client by unicast, to the port that asked', () => {
    const ack = sent(asking4011(), PROXIED, ON_4011)
    expect(ack).toMatchObject({yiaddr: '0.0.0.0', ciaddr: ADDRESS, siaddr: SERVER, file: 'undionly.kpxe'})
    expect(ack.named).toMatchObject({message_type: 'ACK', server_identifier: SERVER, vendor_class: 'PXEClient'})
    expect(proxyDestination(asking4011(), FROM)).toEqual({via: 'unicast', to: FROM})
    expect(proxyDestination(asking4011(), {address: ADDRESS, port: 68})).toEqual({
      via: 'unicast',
      to: {address: ADDRESS, port: 68},
    })
    expect(proxyDestination(makeRequest('REQUEST'), FROM)).toEqual({via: 'unicast', to: FROM})
  })

  it('W48 answers whichever server the client names, and beside an Ingot that gives the addresses too', () => {
    expect(told(asking4011({server_identifier: OTHER_SERVER}), PROXIED, ON_4011).type).toBe('ACK')
    expect(told(asking4011(), makeSnapshot(), ON_4011).type).toBe('ACK')
  })

  it('W48 ignores what is not PXE, not a REQUEST, or from nowhere', () => {
    expect(answerTo(makeRequest('REQUEST', CLIENTS.os, {ciaddr: ADDRESS}), PROXIED, ON_4011)).toEqual({ignored: 'not_netboot'})
    expect(answerTo(makeRequest('DISCOVER', CLIENTS.biosRom, {ciaddr: ADDRESS}), PROXIED, ON_4011)).toEqual({
      ignored: 'not_netboot',
    })
    expect(answerTo(makeRequest(null, CLIENTS.biosRom, {ciaddr: ADDRESS}), PROXIED, ON_4011)).toEqual({ignored: 'not_netboot'})
    const relay = '10.77.3.254' as Ipv4
    const elsewhere = asking4011({}, {giaddr: relay, ciaddr: '192.0.2.200' as Ipv4})
    expect(answerTo(elsewhere, makeSnapshot({mode: 'proxy', relays: [relay]}), ON_4011)).toEqual({ignored: 'not_netboot'})
    const nowhere = {...ARRIVAL, proxyFrom: {address: '0.0.0.0' as Ipv4, port: 68}}
    expect(answerTo(asking4011({}, {ciaddr: '0.0.0.0' as Ipv4}), PROXIED, nowhere)).toEqual({ignored: 'malformed_request'})
    expect(answerTo(asking4011({}, {mac: STRANGER}), PROXIED, ON_4011)).toEqual({ignored: 'unknown_mac'})
  })

  it('W49 gives back the menu item that the client chose (43.71)', () => {
    const chosen = {item: {type: 7, layer: 0}}
    expect(sent(asking4011(), PROXIED, ON_4011).vendor).toEqual({discoveryControl: 8})
    const request = asking4011()
    const withItem = {...request, options: new Map(request.options).set(OPTIONS.vendor_specific.code, encodePxeVendor(chosen))}
    expect(sent(withItem, PROXIED, ON_4011).vendor).toEqual({discoveryControl: 8, ...chosen})
  })
})

describe('every way of serving at once', () => {
  it('F12 neither fails nor binds over 3000 mutated packets on both ports of a link with BOOTP and another server', () => {
    const seeds = collectSeeds()
    const declared = [{machineId: 'm1', kind: 'client_id', value: '01:52:54:00:77:00:10', relay: null}] as const
    const [prefix] = makeSnapshot({mode: 'proxy', bootp: 'static', window: OPEN_WINDOW}).prefixes
    const own = {...PREFIX, id: 'own', bootp: 'static' as const, relays: ['10.77.0.254' as Ipv4], interface: 'br1'}
    const host = {...HOST, uuid: '00112233-4455-6677-8899-aabbccddeeff'}
    const snapshot = {prefixes: [prefix!, own], hosts: new Map([[MAC, host]]), keys: indexClientKeys([host], declared)}
    const met = new Set<string>()
    for (let index = 0; index < 3000; index++) {
      const {bytes} = makePacket(20_261, index, seeds)
      const packet = decodePacket(bytes)
      if ('ignored' in packet) continue
      for (const arrival of [ARRIVAL, ON_4011, {...ARRIVAL, interface: 'br1'}]) {
        const {answer, reasons} = decide(packet, arrival, snapshot, {found: null, offered: 'full'}, NOW)
        expect(reasons.length).toBeGreaterThan(0)
        met.add('ignored' in answer ? answer.ignored : (Object.keys(answer)[0] ?? ''))
        const reply =
          'proxy' in answer
            ? buildProxyReply(packet, answer.proxy)
            : 'bootp' in answer
              ? buildBootpReply(packet, answer.bootp)
              : null
        if (reply === null) continue
        const sentBytes = encodePacket(reply, replyLimit(packet), 'proxy' in answer).bytes
        const again = decodePacket(sentBytes)
        expect(again).toMatchObject({op: 2, xid: packet.xid, yiaddr: reply.yiaddr})
        expect(sentBytes.length).toBeLessThanOrEqual(replyLimit(packet))
      }
    }
    expect([...met]).toEqual(expect.arrayContaining(['proxy', 'bootp', 'proxied', 'not_netboot', 'no_loader']))
  })
})

describe('PXE’s vendor options', () => {
  it('W49 carry discovery control, boot servers, a menu with its prompt, and the chosen item', () => {
    const vendor = {
      discoveryControl: 3,
      bootServers: [{type: 1, addresses: ['10.0.0.1', '10.0.0.2'] as Ipv4[]}],
      menu: [
        {type: 0, text: 'Local disk'},
        {type: 1, text: 'Install'},
      ],
      prompt: {timeout_s: 10, text: 'Press F8'},
      item: {type: 1, layer: 0},
    }
    const bytes = encodePxeVendor(vendor)
    expect(Buffer.from(bytes).toString('hex')).toBe(
      `060103080b0001020a0000010a000002${'0917'}00000a${Buffer.from('Local disk').toString('hex')}000107${Buffer.from('Install').toString('hex')}${'0a09'}0a${Buffer.from('Press F8').toString('hex')}470400010000ff`,
    )
    expect(decodePxeVendor(bytes)).toEqual(vendor)
  })

  it('W49 that are cut off anywhere are read as far as they are whole, or not at all', () => {
    const bytes = encodePxeVendor({bootServers: [{type: 1, addresses: ['10.0.0.1' as Ipv4]}], menu: [{type: 1, text: 'x'}]})
    for (let length = 0; length < bytes.length; length++) expect(() => decodePxeVendor(bytes.subarray(0, length))).not.toThrow()
    expect(decodePxeVendor(Uint8Array.of(8, 3, 0, 1, 9))).toEqual({})
    expect(decodePxeVendor(Uint8Array.of(8, 200, 1))).toBeUndefined()
  })
})
