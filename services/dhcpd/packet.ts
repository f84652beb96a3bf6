/**
 * The DHCP message as bytes and as a value. Pure; never throws on what came from a network.
 *
 * Reading: a split option is joined (RFC 3396 §7) across the options field, then `file`, then `sname` when option 52 lends them
 * (RFC 2131 §4.1); pads are skipped; an option that would leave its field ends that field.
 * Writing: options keep their order, values over 255 octets are split, and when they outgrow the client's limit the free `file` and
 * `sname` are lent. Option 82 is last in the options field and never elsewhere (RFC 3046 §2.2).
 */
import type {Ipv4} from '../../lib/addresses.ts'
import {MESSAGE_TYPES, OPTIONS, type Options, readIpv4, readOption, writeIpv4} from './options.ts'

export type Packet = {
  readonly op: number
  readonly htype: number
  readonly hlen: number
  readonly hops: number
  readonly xid: number
  readonly secs: number
  readonly flags: number
  readonly ciaddr: Ipv4
  readonly yiaddr: Ipv4
  readonly siaddr: Ipv4
  readonly giaddr: Ipv4
  /** Always 16 octets. */
  readonly chaddr: Uint8Array
  readonly sname: string
  readonly file: string
  /** By code, in the order of the wire; without 52, whose fields are already merged. */
  readonly options: Options
}

export const BOOTREQUEST = 1
export const BOOTREPLY = 2
export const BROADCAST_FLAG = 0x8000
export const NO_ADDRESS = '0.0.0.0' as Ipv4

const NAK = MESSAGE_TYPES.indexOf('NAK')
const COOKIE = 0x63825363
const OPTIONS_AT = 240
const FILE = {at: 108, octets: 128}
const SNAME = {at: 44, octets: 64}
const LEAST_REPLY_OCTETS = 300
const IP_AND_UDP_OCTETS = 28
/** Option 52 itself. */
const OVERLOAD_OCTETS = 3
const ETHERNET_OCTETS = 1500
const LEAST_MAXIMUM_OCTETS = 576

/**
 * @param leastOctets 240 (the default) takes what every client sends; 300 is RFC 1542 §2.1 to the letter
 * @returns the packet, or why it is none
 */
export function decodePacket(bytes: Uint8Array, leastOctets = OPTIONS_AT): Packet | {readonly ignored: 'too_short' | 'bad_op'} {
  if (bytes.length < Math.max(OPTIONS_AT, leastOctets)) return {ignored: 'too_short'}
  const op = bytes[0] ?? 0
  if (op !== BOOTREQUEST && op !== BOOTREPLY) return {ignored: 'bad_op'}
  const options = new Map<number, Uint8Array>()
  const hasOptions = uint32(bytes, 236) === COOKIE
  if (hasOptions) readField(bytes, OPTIONS_AT, bytes.length, options)
  const lent = hasOptions ? (readOption(options, 'overload') ?? 0) : 0
  options.delete(OPTIONS.overload.code)
  const lendsFile = lent === 1 || lent === 3
  const lendsSname = lent === 2 || lent === 3
  if (lendsFile) readField(bytes, FILE.at, FILE.at + FILE.octets, options)
  if (lendsSname) readField(bytes, SNAME.at, SNAME.at + SNAME.octets, options)
  // A lent field lends nothing itself.
  if (lent !== 0) options.delete(OPTIONS.overload.code)
  return {
    op,
    htype: bytes[1] ?? 0,
    hlen: bytes[2] ?? 0,
    hops: bytes[3] ?? 0,
    xid: uint32(bytes, 4),
    secs: uint16(bytes, 8),
    flags: uint16(bytes, 10),
    ciaddr: readIpv4(bytes, 12),
    yiaddr: readIpv4(bytes, 16),
    siaddr: readIpv4(bytes, 20),
    giaddr: readIpv4(bytes, 24),
    chaddr: bytes.subarray(28, 44),
    sname: lendsSname ? '' : readName(bytes, SNAME),
    file: lendsFile ? '' : readName(bytes, FILE),
    options,
  }
}

/**
 * @param limit_octets largest UDP payload, from `replyLimit`
 * @param mayLend      whether `file` and `sname` may be lent to options: BOOTP knows no option 52
 * @returns the bytes, and the codes of options that found no room
 */
export function encodePacket(
  packet: Packet,
  limit_octets = LEAST_MAXIMUM_OCTETS - IP_AND_UDP_OCTETS,
  mayLend = true,
): {readonly bytes: Buffer; readonly omitted: readonly number[]} {
  const {inOptions, inFile, inSname, relay, omitted} = layOut(packet, limit_octets - OPTIONS_AT - 1, mayLend)
  const lent = (inFile.length > 0 ? 1 : 0) + (inSname.length > 0 ? 2 : 0)
  const length = OPTIONS_AT + sizeOf(inOptions) + (lent > 0 ? 3 : 0) + sizeOf(relay) + 1
  // From the pool, then cleared: a third of what Buffer.alloc costs.
  const bytes = Buffer.allocUnsafe(Math.max(length, LEAST_REPLY_OCTETS)).fill(0)
  writeHeader(packet, bytes)
  let at = writeField(inOptions, bytes, OPTIONS_AT)
  if (lent > 0) at = writeField([{code: OPTIONS.overload.code, value: Uint8Array.of(lent)}], bytes, at)
  bytes[writeField(relay, bytes, at)] = 255
  if (inFile.length > 0) bytes[writeField(inFile, bytes, FILE.at)] = 255
  if (inSname.length > 0) bytes[writeField(inSname, bytes, SNAME.at)] = 255
  return {bytes, omitted}
}

/** The largest UDP payload a client takes: option 57 (at least 576), but never more than one Ethernet frame carries. BOOTP's is fixed. */
export function replyLimit(request: Packet): number {
  if (!request.options.has(OPTIONS.message_type.code)) return LEAST_REPLY_OCTETS
  const asked = readOption(request.options, 'maximum_message_size') ?? LEAST_MAXIMUM_OCTETS
  return Math.min(Math.max(asked, LEAST_MAXIMUM_OCTETS), ETHERNET_OCTETS) - IP_AND_UDP_OCTETS
}

/** Whether a name fits the `file` field with the NUL that ends it. */
export function fitsFile(name: string): boolean {
  return name.length < FILE.octets
}

function readField(bytes: Uint8Array, from: number, to: number, options: Map<number, Uint8Array>): void {
  // Joined once at the end: piece by piece, a datagram full of one option's pieces would cost its length squared.
  let repeated: Map<number, Uint8Array[]> | undefined
  let at = from
  while (at < to) {
    const code = bytes[at] ?? 255
    if (code === 255) break
    if (code === 0) {
      at++
      continue
    }
    const end = at + 2 + (bytes[at + 1] ?? 0)
    if (at + 1 >= to || end > to) break
    const value = bytes.subarray(at + 2, end)
    const before = options.get(code)
    if (before === undefined) options.set(code, value)
    else {
      repeated ??= new Map()
      const pieces = repeated.get(code)
      if (pieces === undefined) repeated.set(code, [before, value])
      else pieces.push(value)
    }
    at = end
  }
  if (repeated !== undefined) for (const [code, pieces] of repeated) options.set(code, Buffer.concat(pieces))
}

/** Up to the first NUL, without the 0xff some ROMs leave behind. */
function readName(bytes: Uint8Array, field: {at: number; octets: number}): string {
  let end = field.at
  while (end < field.at + field.octets && bytes[end] !== 0) end++
  while (end > field.at && bytes[end - 1] === 0xff) end--
  return end === field.at ? '' : String.fromCharCode(...bytes.subarray(field.at, end))
}

type Piece = {readonly code: number; readonly value: Uint8Array}
type Layout = {
  readonly inOptions: readonly Piece[]
  readonly inFile: readonly Piece[]
  readonly inSname: readonly Piece[]
  readonly relay: readonly Piece[]
  readonly omitted: readonly number[]
}

/** Three tries: all in the options field; the free fields lent; the same without option 82. What still has no room is left out. */
function layOut(packet: Packet, room: number, mayLend: boolean): Layout {
  const relayCode = OPTIONS.relay_agent_information.code
  const relayValue = packet.options.get(relayCode)
  const relay = relayValue === undefined ? [] : split(relayCode, relayValue)
  const pieces: Piece[] = []
  for (const [code, value] of packet.options) {
    if (code === relayCode) continue
    if (value.length <= 255) pieces.push({code, value})
    else pieces.push(...split(code, value))
  }
  if (sizeOf(pieces) + sizeOf(relay) <= room) return {inOptions: pieces, inFile: [], inSname: [], relay, omitted: []}
  // RFC 2131 table 3: a NAK uses neither field, so it cannot lend them.
  const lends = mayLend && readOption(packet.options, 'message_type') !== NAK
  const lendable = [lends && packet.file === '' ? FILE.octets - 1 : 0, lends && packet.sname === '' ? SNAME.octets - 1 : 0]
  const lent_octets = lends ? OVERLOAD_OCTETS : 0
  const roomBesideRelay = room - lent_octets - sizeOf(relay)
  const withRelay = place(packet.options, [roomBesideRelay, ...lendable])
  // An option 82 that outgrows the options field by itself leaves no room at all, though the rest may fit elsewhere.
  if (roomBesideRelay >= 0 && withRelay.omitted.length === 0) return {...withRelay, relay}
  if (relay.length === 0) return {...withRelay, relay}
  const without = place(packet.options, [room - lent_octets, ...lendable])
  return {...without, relay: [], omitted: [...without.omitted, relayCode]}
}

/** Puts each option where it first fits; the pieces of one option never go back to an earlier field, for they are joined in order. */
function place(options: Options, room: readonly number[]): Omit<Layout, 'relay'> {
  const left = [...room]
  const placed: [Piece[], Piece[], Piece[]] = [[], [], []]
  const omitted: number[] = []
  for (const [code, value] of options) {
    if (code === OPTIONS.relay_agent_information.code) continue
    const trial = [...left]
    const spots: {field: number; piece: Piece}[] = []
    let field = 0
    for (const piece of split(code, value)) {
      while (field < trial.length && (trial[field] ?? 0) < piece.value.length + 2) field++
      if (field === trial.length) break
      trial[field] = (trial[field] ?? 0) - piece.value.length - 2
      spots.push({field, piece})
    }
    if (field === trial.length) omitted.push(code)
    else {
      left.splice(0, left.length, ...trial)
      for (const spot of spots) placed[spot.field]?.push(spot.piece)
    }
  }
  return {inOptions: placed[0], inFile: placed[1], inSname: placed[2], omitted}
}

function split(code: number, value: Uint8Array): Piece[] {
  if (value.length <= 255) return [{code, value}]
  return Array.from({length: Math.ceil(value.length / 255)}, (_, index) => ({
    code,
    value: value.subarray(index * 255, (index + 1) * 255),
  }))
}

function sizeOf(pieces: readonly Piece[]): number {
  let size = 0
  for (const piece of pieces) size += piece.value.length + 2
  return size
}

function writeField(pieces: readonly Piece[], bytes: Uint8Array, from: number): number {
  let at = from
  for (const {code, value} of pieces) {
    bytes[at] = code
    bytes[at + 1] = value.length
    bytes.set(value, at + 2)
    at += 2 + value.length
  }
  return at
}

function writeHeader(packet: Packet, bytes: Buffer): void {
  bytes[0] = packet.op
  bytes[1] = packet.htype
  bytes[2] = packet.hlen
  bytes[3] = packet.hops
  bytes.writeUInt32BE(packet.xid, 4)
  bytes.writeUInt16BE(packet.secs, 8)
  bytes.writeUInt16BE(packet.flags, 10)
  writeIpv4(bytes, 12, packet.ciaddr)
  writeIpv4(bytes, 16, packet.yiaddr)
  writeIpv4(bytes, 20, packet.siaddr)
  writeIpv4(bytes, 24, packet.giaddr)
  bytes.set(packet.chaddr.subarray(0, 16), 28)
  bytes.write(packet.sname.slice(0, SNAME.octets - 1), SNAME.at, 'latin1')
  bytes.write(packet.file.slice(0, FILE.octets - 1), FILE.at, 'latin1')
  bytes.writeUInt32BE(COOKIE, 236)
}

function uint16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

function uint32(bytes: Uint8Array, at: number): number {
  return (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
}
