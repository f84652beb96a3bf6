/**
 * Our codec against the one in npm's `dhcp` 0.2.20: on captures, on our own replies, on what it sends, and on mutated packets. Where the
 * two differ, one of the faults in `test/support/dhcp-peer.ts` must excuse it; each of those is shown to be there still.
 */
import {isDeepStrictEqual} from 'node:util'
import {afterAll, beforeAll, describe, expect, it, vi} from 'vitest'
import {collectSeeds} from '../../fuzz/dhcp/seeds.ts'
import {makePacket} from '../../fuzz/dhcp/stretch.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {describeOptions, MESSAGE_TYPES, OPTIONS, type OptionName, readOption} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {buildReply} from '../../services/dhcpd/reply.ts'
import {ALL, isOutOfStep, PEER_FAULTS, type PeerPacket, peer, peerType} from '../support/dhcp-peer.ts'
import {ARRIVAL, CLIENTS, makeRequest, makeSnapshot, NOW, SERVER} from '../support/dhcp-world.ts'
import {listCaptures, readDhcp} from '../support/pcap.ts'

function ours(bytes: Uint8Array): Packet {
  const packet = decodePacket(bytes)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return packet
}

/** What the two read differently in a datagram: names of fields, `option 61` …, or `throws`. */
function differences(bytes: Buffer): string[] {
  const mine = decodePacket(bytes)
  let theirs: PeerPacket
  try {
    theirs = peer.parse(Buffer.from(bytes))
  } catch {
    return ['throws']
  }
  if ('ignored' in mine) return ['ignored']
  const chaddr = Buffer.from(mine.chaddr.subarray(0, 6)).toString('hex').toUpperCase()
  const codes = new Set([...mine.options.keys(), ...Object.keys(theirs.options).map(Number)])
  return [
    ...FIELDS.filter(field => mine[field] !== theirs[field]),
    ...(chaddr === theirs.chaddr.replaceAll('-', '') ? [] : ['chaddr']),
    ...[...codes].filter(code => !isDeepStrictEqual(inPeerShape(mine, code), theirs.options[code])).map(code => `option ${code}`),
  ]
}

function notExcused(found: readonly string[], excused: readonly string[]): string[] {
  return excused.includes(ALL) ? [] : found.filter(name => !excused.includes(name))
}

/** An option as we understand it, in the peer's shape; one that we have no type for by the peer's type. */
function inPeerShape(packet: Packet, code: number): unknown {
  const bytes = packet.options.get(code)
  if (bytes === undefined) return undefined
  const name = NAMES.get(code)
  const isOpaque = name === undefined || OPAQUE.includes(OPTIONS[name].type) || code === OPTIONS.vendor_specific.code
  const value = isOpaque ? bytes : readOption(packet.options, name)
  if (!(value instanceof Uint8Array)) return value
  const type = peerType(code)
  return type === undefined || isOutOfStep(type, Buffer.from(bytes)) ? bytes : PEER_SHAPES[type]?.(Buffer.from(bytes))
}

const FIELDS = ['op', 'xid', 'secs', 'flags', 'ciaddr', 'yiaddr', 'siaddr', 'giaddr', 'sname', 'file'] as const
const NAMES = new Map((Object.keys(OPTIONS) as OptionName[]).map(name => [OPTIONS[name].code as number, name]))
/** Types that the peer has no shape for; and option 43, which only its vendor can read, is a list of octets to it. */
const OPAQUE: readonly string[] = ['flag', 'i32', 'ip_pairs', 'domains']
const address = (bytes: Buffer) => bytes.join('.')
const PEER_SHAPES: Readonly<Record<string, (bytes: Buffer) => unknown>> = {
  IP: address,
  IPs: bytes => Array.from({length: bytes.length / 4}, (_, index) => address(bytes.subarray(index * 4, index * 4 + 4))),
  UInt8: bytes => bytes.readUInt8(),
  UInt16: bytes => bytes.readUInt16BE(),
  UInt32: bytes => bytes.readUInt32BE(),
  Int32: bytes => bytes.readInt32BE(),
  UInt8s: bytes => [...bytes],
  UInt16s: bytes => Array.from({length: bytes.length / 2}, (_, index) => bytes.readUInt16BE(index * 2)),
  ASCII: bytes => bytes.toString('latin1'),
  Bool: () => true,
}

describe('interop with the npm package dhcp', () => {
  // The peer complains on the console about every option it does not know.
  beforeAll(() => void vi.spyOn(console, 'error').mockImplementation(() => undefined))
  afterAll(() => void vi.restoreAllMocks())

  it.each(listCaptures().filter(name => readDhcp(name).length > 0))('reads %s alike', name => {
    for (const {payload} of readDhcp(name)) {
      const excused = PEER_FAULTS.flatMap(({excuses}) => excuses(payload))
      expect(excused).not.toContain(ALL)
      expect(notExcused(differences(payload), excused)).toEqual([])
    }
  })

  it('is understood by it in every reply', () => {
    for (const client of Object.values(CLIENTS)) {
      const request = makeRequest('DISCOVER', client)
      const {answer} = decide(request, ARRIVAL, makeSnapshot(), {}, NOW)
      if (!('offer' in answer)) throw new Error('no offer')
      const {bytes} = encodePacket(buildReply(request, 'OFFER', answer.offer))
      expect(
        notExcused(
          differences(bytes),
          PEER_FAULTS.flatMap(({excuses}) => excuses(bytes)),
        ),
      ).toEqual([])
      expect(peer.parse(bytes).options).toMatchObject({1: '255.255.252.0', 51: 600, 53: 2, 54: SERVER})
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

  it.each(PEER_FAULTS)('finds that it still $fault, and does not do so itself', ({example, shows, excuses}) => {
    if (shows === 'throws') expect(() => peer.parse(Buffer.from(example))).toThrow()
    else expect(shows(peer.parse(Buffer.from(example)))).toBe(true)
    const found = differences(example)
    expect(found.length).toBeGreaterThan(0)
    expect(notExcused(found, excuses(example))).toEqual([])
  })

  it('differs from it over 6000 mutated packets only where a known fault of its shows', () => {
    const seeds = collectSeeds()
    const shown = new Set<string>()
    let compared = 0
    for (let index = 0; index < 6000; index++) {
      const {bytes} = makePacket(118, index, seeds)
      const excused = PEER_FAULTS.flatMap(({excuses}) => excuses(bytes))
      expect(notExcused(differences(bytes), excused), bytes.toString('hex')).toEqual([])
      for (const {fault, excuses} of PEER_FAULTS) if (excuses(bytes).length > 0) shown.add(fault)
      if (!excused.includes(ALL)) compared++
    }
    expect(compared).toBeGreaterThan(1000)
    expect(PEER_FAULTS.map(({fault}) => fault).filter(fault => !shown.has(fault))).toEqual([])
  })

  it('sends no packet under 300 octets, as it would', () => {
    expect(encodePacket(makeRequest('DISCOVER')).bytes.length).toBe(300)
  })
})
