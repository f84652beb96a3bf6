/** `explainDhcp` says what the wire would send, because it asks the same functions. */
import {describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {explainDhcp, IGNORED} from '../../services/dhcpd/index.ts'
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

describe('explainDhcp', () => {
  it('walks a UEFI machine from ROM to system', () => {
    expect(files(explainDhcp(makeSnapshot(), {mac: MAC, now: NOW}))).toEqual([
      ['rom', 'DISCOVER', 'OFFER', 'snponly.efi'],
      ['rom', 'REQUEST', 'ACK', 'snponly.efi'],
      ['ipxe', 'DISCOVER', 'OFFER', `${BOOT_URL}/boot.ipxe`],
      ['ipxe', 'REQUEST', 'ACK', `${BOOT_URL}/boot.ipxe`],
      ['os', 'DISCOVER', 'OFFER', ''],
      ['os', 'REQUEST', 'ACK', ''],
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
    const asked = [1, 3, 6, 12, 15, 26, 28, 42, 60, 66, 67, 97, 121, 175]
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
