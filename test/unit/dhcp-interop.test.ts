/**
 * Our codec against the one in npm's `dhcp` 0.2.20, on what both can read. Its faults, each shown below: it drops options it does not
 * know (77, 82, 93, 94, 97, 175); it swallows the octet after a pad and may throw for it; it throws on an option that is cut; it keeps
 * the last piece of a split option; it ignores overload; and its packets are shorter than 300 octets.
 */
import {createRequire} from 'node:module'
import {afterAll, beforeAll, describe, expect, it, vi} from 'vitest'
import {decide} from '../../services/dhcpd/decide.ts'
import {describeOptions, MESSAGE_TYPES, OPTIONS} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {buildReply} from '../../services/dhcpd/reply.ts'
import {ARRIVAL, CLIENTS, makeRequest, makeSnapshot, NOW, SERVER} from '../support/dhcp-world.ts'
import {listCaptures, readDhcp} from '../support/pcap.ts'

type PeerPacket = {
  readonly op: number
  readonly xid: number
  readonly secs: number
  readonly flags: number
  readonly ciaddr: string
  readonly yiaddr: string
  readonly siaddr: string
  readonly giaddr: string
  readonly chaddr: string
  readonly sname: string
  readonly file: string
  readonly options: Readonly<Record<number, unknown>>
}
type Peer = {parse(bytes: Buffer): PeerPacket; format(packet: object): {readonly _data: Buffer; readonly _w: number}}

const peer = createRequire(import.meta.url)('dhcp/lib/protocol.js') as Peer

function ours(bytes: Uint8Array): Packet {
  const packet = decodePacket(bytes)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return packet
}

/** Values in the peer's shapes: single numbers, text, lists of addresses. */
function inPeerShape(packet: Packet): Record<number, unknown> {
  const named = describeOptions(packet.options)
  const known = [1, 3, 6, 12, 15, 28, 50, 51, 54, 57, 58, 59, 60, 67]
  return Object.fromEntries(
    Object.values(OPTIONS)
      .filter(({code}) => known.includes(code) && packet.options.has(code))
      .map(({code}) => [code, named[Object.entries(OPTIONS).find(([, row]) => row.code === code)![0]]]),
  )
}

function expectSame(bytes: Buffer): void {
  const theirs = peer.parse(Buffer.from(bytes))
  const mine = ours(bytes)
  for (const field of ['op', 'xid', 'secs', 'flags', 'ciaddr', 'yiaddr', 'siaddr', 'giaddr', 'sname', 'file'] as const) {
    expect(mine[field], field).toBe(theirs[field])
  }
  expect(Buffer.from(mine.chaddr.subarray(0, 6)).toString('hex')).toBe(theirs.chaddr.replaceAll('-', '').toLowerCase())
  const options = inPeerShape(mine)
  expect(theirs.options).toMatchObject(options)
  expect(theirs.options[53]).toBe(mine.options.get(53)?.[0])
  expect(Object.keys(options).length).toBeGreaterThan(0)
}

describe('interop with the npm package dhcp', () => {
  // The peer complains on the console about every option it does not know.
  beforeAll(() => void vi.spyOn(console, 'error').mockImplementation(() => undefined))
  afterAll(() => void vi.restoreAllMocks())

  it.each(listCaptures().filter(name => readDhcp(name).length > 0))('reads %s alike', name => {
    for (const {payload} of readDhcp(name)) expectSame(payload)
  })

  it('is understood by it in every reply', () => {
    for (const client of Object.values(CLIENTS)) {
      const request = makeRequest('DISCOVER', client)
      const {answer} = decide(request, ARRIVAL, makeSnapshot(), {}, NOW)
      if (!('offer' in answer)) throw new Error('no offer')
      expectSame(encodePacket(buildReply(request, 'OFFER', answer.offer)).bytes)
    }
  })

  it('understands what it sends', () => {
    const options = {53: 3, 50: '10.77.0.50', 54: SERVER, 12: 'lab', 55: [1, 3, 6], 57: 1472, 51: 600}
    const header = {op: 1, htype: 1, hlen: 6, hops: 0, xid: 0xfedcba98, secs: 5, flags: 0x8000, sname: '', file: 'undionly.kpxe'}
    const addresses = {ciaddr: '0.0.0.0', yiaddr: '0.0.0.0', siaddr: '10.77.0.1', giaddr: '0.0.0.0', chaddr: '52-54-00-77-00-11'}
    const sent = peer.format({...header, ...addresses, options})
    expect(sent._w).toBeLessThan(300)
    const packet = ours(sent._data.subarray(0, sent._w))
    expect(packet).toMatchObject({xid: 0xfedcba98, secs: 5, flags: 0x8000, file: 'undionly.kpxe', siaddr: '10.77.0.1'})
    expect(describeOptions(packet.options)).toEqual({
      message_type: MESSAGE_TYPES[3],
      requested_address: '10.77.0.50',
      server_identifier: SERVER,
      host_name: 'lab',
      parameter_request_list: [1, 3, 6],
      maximum_message_size: 1472,
      lease_time: 600,
    })
  })

  describe('is free of its faults', () => {
    const base = encodePacket(makeRequest(null)).bytes.subarray(0, 240)
    const framed = (...options: number[]) => Buffer.concat([base, Buffer.from(options)])

    it('loses no option it has no name for', () => {
      const bytes = framed(53, 1, 1, 93, 2, 0, 7, 82, 3, 1, 1, 65, 255)
      expect(Object.keys(peer.parse(bytes).options)).toEqual(['53'])
      expect([...ours(bytes).options.keys()]).toEqual([53, 93, 82])
    })

    it('loses nothing after a pad', () => {
      const bytes = framed(0, 53, 1, 1, 255)
      expect(() => peer.parse(bytes)).toThrow(RangeError)
      expect(ours(bytes).options.has(53)).toBe(true)
    })

    it('does not throw on an option that is cut', () => {
      const bytes = framed(53, 1, 1, 3, 8, 10)
      expect(() => peer.parse(bytes)).toThrow(RangeError)
      expect([...ours(bytes).options.keys()]).toEqual([53])
    })

    it('reads the fields that overload lends', () => {
      const bytes = framed(52, 1, 1, 255)
      bytes.set([12, 1, 65, 255], 108)
      expect(peer.parse(bytes).options).not.toHaveProperty('12')
      expect(describeOptions(ours(bytes).options).host_name).toBe('A')
    })

    it('sends no packet under 300 octets', () => {
      expect(encodePacket(makeRequest('DISCOVER')).bytes.length).toBe(300)
    })

    it('joins a split option', () => {
      const bytes = framed(12, 1, 65, 12, 1, 66, 255)
      expect(peer.parse(bytes).options[12]).toBe('B')
      expect(describeOptions(ours(bytes).options).host_name).toBe('AB')
    })
  })
})
