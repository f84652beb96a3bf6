/** `explainDhcp` says what the wire would send, because it asks the same functions. */
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {explainDhcp, explainPacket, IGNORED} from '../../services/dhcpd/index.ts'
import {describeOptions} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, replyLimit} from '../../services/dhcpd/packet.ts'
import {buildReply} from '../../services/dhcpd/reply.ts'
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

const files = (stages: ReturnType<typeof explainDhcp>) =>
  stages.map(({stage, message, reply}) => [stage, message, reply?.type, reply?.file])

describe('explainPacket', () => {
  const place = {now: NOW, seen: [], servers: [SERVER]}

  it('answers a packet as the wire would, and names what it only takes note of', () => {
    const discover = makeRequest('DISCOVER', CLIENTS.ipxe)
    expect(explainPacket(makeSnapshot(), discover, place)).toMatchObject({reply: {type: 'OFFER', yiaddr: ADDRESS}})
    const request = makeRequest('REQUEST', {...CLIENTS.ipxe, server_identifier: SERVER, requested_address: ADDRESS})
    expect(explainPacket(makeSnapshot(), request, place)).toMatchObject({reply: {type: 'ACK', yiaddr: ADDRESS}})
    const release = makeRequest('RELEASE', {server_identifier: SERVER}, {ciaddr: ADDRESS})
    expect(explainPacket(makeSnapshot(), release, place)).toMatchObject({reply: null, ignored: null, taken: 'release'})
    const elsewhere = makeRequest('REQUEST', {server_identifier: '10.77.0.66' as Ipv4, requested_address: ADDRESS})
    expect(explainPacket(makeSnapshot(), elsewhere, place)).toMatchObject({reply: null, ignored: 'other_server'})
  })

  it('finds the link by what was seen beside the packet before it looks where the machine is at home', () => {
    const away = {...PREFIX, id: 'away', cidr: '10.88.0.0/24' as Cidr, gateway: null, boot_url: 'http://10.88.0.1:8480'}
    const {interface: _interface, ...unbound} = away
    const snapshot = {prefixes: [PREFIX, unbound], hosts: new Map([[MAC, HOST]])}
    const discover = makeRequest('DISCOVER', CLIENTS.os)
    expect(explainPacket(snapshot, discover, {now: NOW, seen: []})).toMatchObject({reply: {yiaddr: ADDRESS}})
    expect(explainPacket(snapshot, discover, {now: NOW, seen: ['10.88.0.9' as Ipv4]})).toMatchObject({ignored: 'other_prefix'})
  })
})

describe('explainDhcp', () => {
  it('walks a UEFI machine from ROM to system', () => {
    expect(files(explainDhcp(makeSnapshot(), {mac: MAC, now: NOW}))).toEqual([
      ['rom', 'DISCOVER', 'OFFER', 'snponly.efi'],
      ['rom', 'REQUEST', 'ACK', 'snponly.efi'],
      ['ipxe', 'DISCOVER', 'OFFER', `${BOOT_URL}/boot.ipxe`],
      ['ipxe', 'REQUEST', 'ACK', `${BOOT_URL}/boot.ipxe`],
      ...['ramdisk', 'installer', 'os'].flatMap(stage => [
        [stage, 'DISCOVER', 'OFFER', ''],
        [stage, 'REQUEST', 'ACK', ''],
      ]),
    ])
  })

  it('begins with HTTP boot for an architecture that boots over HTTP', () => {
    const [first] = explainDhcp(makeSnapshot(), {mac: MAC, now: NOW, architecture: 16})
    expect(first).toMatchObject({
      stage: 'http',
      reply: {file: `${BOOT_URL}/loaders/snponly.efi`, options: {vendor_class: 'HTTPClient'}},
    })
  })

  it('says what the wire says, option by option', () => {
    const [explained] = explainDhcp(makeSnapshot(), {mac: MAC, now: NOW, stages: ['ipxe']})
    const asked = [1, 3, 6, 12, 15, 26, 28, 42, 43, 60, 66, 67, 97, 121, 175]
    const request = makeRequest('DISCOVER', {...CLIENTS.ipxe, parameter_request_list: asked})
    const {answer, reasons} = decide(request, ARRIVAL, makeSnapshot(), {}, NOW)
    if (!('offer' in answer)) throw new Error('no offer')
    const wire = decodePacket(encodePacket(buildReply(request, 'OFFER', answer.offer), replyLimit(request)).bytes)
    if ('ignored' in wire) throw new Error(wire.ignored)
    expect(explained?.reply?.options).toEqual(describeOptions(wire.options))
    expect(explained?.reasons).toEqual(reasons)
    expect(explained?.reply).toMatchObject({yiaddr: ADDRESS, destination: {via: 'link', mac: MAC}})
  })

  it('shows a dynamic address to a stranger in a window, and silence without one', () => {
    const inside = explainDhcp(makeSnapshot({window: OPEN_WINDOW}), {mac: STRANGER, now: NOW, stages: ['rom'], architecture: 0})
    expect(inside).toMatchObject([
      {reply: {type: 'OFFER', yiaddr: '10.77.2.10', file: 'undionly.kpxe'}},
      {reply: {type: 'ACK', yiaddr: '10.77.2.10'}},
    ])
    const outside = explainDhcp(makeSnapshot(), {mac: STRANGER, now: NOW, stages: ['rom']})
    expect(outside).toMatchObject([{reply: null, ignored: 'unknown_mac'}])
    expect(outside[0]?.reasons.at(-1)).toMatchObject({because: IGNORED.unknown_mac})
  })

  it('goes through the relay of a prefix that has no interface here', () => {
    const {interface: _interface, ...remote} = PREFIX
    const snapshot = {prefixes: [{...remote, relays: ['10.77.0.254' as Ipv4]}], hosts: new Map([[MAC, HOST]])}
    expect(explainDhcp(snapshot, {mac: MAC, now: NOW, stages: ['os']})).toMatchObject([
      {reply: {destination: {via: 'relay', to: {address: '10.77.0.254', port: 67}}, options: {server_identifier: SERVER}}},
      {reply: {type: 'ACK'}},
    ])
  })

  it('goes through the relay it was told, to silence when that is listed nowhere, and carries the port it names', () => {
    const relay = '192.0.2.1' as Ipv4
    const asked = {mac: MAC, now: NOW, stages: ['os'] as const, relay, circuitId: 'Gi1/0/7'}
    expect(explainDhcp(makeSnapshot(), asked)).toMatchObject([{reply: null, ignored: 'unlisted_relay'}])
    const circuit = Buffer.from('Gi1/0/7')
      .toString('hex')
      .replace(/..(?=.)/g, '$&:')
    expect(explainDhcp(makeSnapshot({relays: [relay]}), asked)[0]).toMatchObject({
      reply: {destination: {via: 'relay', to: {address: relay}}, options: {relay_agent_information: {1: circuit}}},
    })
  })

  it('shows the address that a client already holds, rather than the first of the range', () => {
    const held = '10.77.2.17' as Ipv4
    const expires_at = new Date(NOW.getTime() + 60_000)
    const lease = {address: held, prefixId: 'lab', kind: 'dynamic' as const, machineId: null, expires_at}
    const asked = {mac: STRANGER, now: NOW, stages: ['os'] as const, lease}
    const [offer, ack] = explainDhcp(makeSnapshot({window: OPEN_WINDOW}), asked)
    expect([offer?.reply?.yiaddr, ack?.reply?.yiaddr]).toEqual([held, held])
  })

  it('shows a user class of one’s own', () => {
    const [rom] = explainDhcp(makeSnapshot(), {mac: MAC, now: NOW, stages: ['rom'], userClass: 'iPXE'})
    expect(rom).toMatchObject({reply: {file: `${BOOT_URL}/boot.ipxe`}})
  })

  it('explains nothing but silence where there is no prefix', () => {
    expect(explainDhcp({prefixes: [], hosts: new Map()}, {mac: MAC, now: NOW, stages: ['os']})).toMatchObject([
      {ignored: 'unserved_link', reply: null},
    ])
  })
})
