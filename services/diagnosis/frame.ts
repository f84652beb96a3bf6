/**
 * One captured frame as what it carries: UDP, TCP, ARP, or a name for what is only counted. Pure; never throws on what a network sent.
 * Ethernet with any number of VLAN tags, Linux "cooked" captures, raw IP; IPv4 with options; IPv6 only as far as its kinds matter here.
 */
import type {Ipv4} from '../../lib/addresses.ts'
import {hexColon} from '../../lib/bytes.ts'
import type {Frame} from './capture-file.ts'

export type Carried =
  | (Datagram & {readonly kind: 'udp'})
  | (Datagram & {readonly kind: 'tcp'; readonly syn: boolean; readonly ack: boolean; readonly rst: boolean})
  | {
      readonly kind: 'arp'
      readonly op: 'request' | 'reply'
      readonly senderMac: string
      readonly sender: Ipv4
      readonly target: Ipv4
    }
  | {readonly kind: 'unreachable'; readonly what: string; readonly source: Ipv4; readonly destination: Ipv4}
  | {readonly kind: 'ipv6'; readonly what: 'router_solicitation' | 'router_advertisement' | 'dhcpv6' | 'other'}
  | {readonly kind: 'fragment'; readonly source: Ipv4; readonly destination: Ipv4}
  | {readonly kind: 'other'; readonly what: string}

export type Datagram = {
  readonly source: Ipv4
  readonly sourcePort: number
  readonly destination: Ipv4
  readonly destinationPort: number
  readonly payload: Uint8Array
  /** Of payload, on the wire. */
  readonly octets: number
  /** Less of it was captured than was sent. */
  readonly cut: boolean
  /** The first of several IP fragments: it was more than a frame carries. */
  readonly fragmented: boolean
}

export type Seen = Carried & {
  readonly number: number
  readonly at_us: number
  /** Link addresses; null where the capture has none. */
  readonly from: string | null
  readonly to: string | null
  /** The innermost VLAN tag. */
  readonly vlan: number | null
}

const IPV4 = 0x0800
const ARP = 0x0806
const IPV6 = 0x86dd
const VLAN_TAGS = [0x8100, 0x88a8, 0x9100]
const TAGS_AT_MOST = 4

export function readFrame({number, at_us, link, bytes}: Frame): Seen {
  const layer = readLink(link, bytes)
  const head = {number, at_us, from: layer.from, to: layer.to, vlan: layer.vlan}
  return {...head, ...readNetwork(layer.type, bytes.subarray(layer.at))}
}

type Layer = {
  readonly type: number
  readonly at: number
  readonly from: string | null
  readonly to: string | null
  readonly vlan: number | null
}

function readLink(link: Frame['link'], bytes: Uint8Array): Layer {
  if (link === 'ip') return {type: (bytes[0] ?? 0) >>> 4 === 6 ? IPV6 : IPV4, at: 0, from: null, to: null, vlan: null}
  if (link === 'linux_cooked')
    return {type: uint16(bytes, 14), at: 16, from: macOrNull(bytes, 6, uint16(bytes, 4)), to: null, vlan: null}
  if (link === 'linux_cooked_v2')
    return {type: uint16(bytes, 0), at: 20, from: macOrNull(bytes, 12, bytes[11] ?? 0), to: null, vlan: null}
  let at = 12
  let vlan: number | null = null
  for (let tags = 0; tags < TAGS_AT_MOST && VLAN_TAGS.includes(uint16(bytes, at)); tags++) {
    vlan = uint16(bytes, at + 2) & 0x0fff
    at += 4
  }
  return {type: uint16(bytes, at), at: at + 2, from: macOrNull(bytes, 6, 6), to: macOrNull(bytes, 0, 6), vlan}
}

function readNetwork(type: number, bytes: Uint8Array): Carried {
  if (type === IPV4) return readIpv4(bytes)
  if (type === ARP) return readArp(bytes)
  if (type === IPV6) return {kind: 'ipv6', what: readIpv6(bytes)}
  return {kind: 'other', what: `EtherType 0x${type.toString(16).padStart(4, '0')}`}
}

function readIpv4(bytes: Uint8Array): Carried {
  const headOctets = ((bytes[0] ?? 0) & 15) * 4
  if ((bytes[0] ?? 0) >>> 4 !== 4 || headOctets < 20 || bytes.length < headOctets)
    return {kind: 'other', what: 'a broken IPv4 header'}
  const source = addressAt(bytes, 12)
  const destination = addressAt(bytes, 16)
  const fragment = uint16(bytes, 6)
  if ((fragment & 0x1fff) !== 0) return {kind: 'fragment', source, destination}
  // Frames are padded to 60 octets: the datagram's own length counts.
  const length = Math.max(uint16(bytes, 2), headOctets)
  const body = bytes.subarray(headOctets, Math.min(length, bytes.length))
  const between = {source, destination, cut: bytes.length < length, fragmented: (fragment & 0x2000) !== 0}
  const protocol = bytes[9]
  if (protocol === 17) return readUdp(body, between)
  if (protocol === 6) return readTcp(body, between)
  if (protocol === 1) return readIcmp(body, source, destination)
  return {kind: 'other', what: `IP protocol ${protocol}`}
}

type Between = Pick<Datagram, 'source' | 'destination' | 'cut' | 'fragmented'>

function readUdp(body: Uint8Array, between: Between): Carried {
  if (body.length < 8) return {kind: 'other', what: 'a broken UDP header'}
  const end = Math.max(uint16(body, 4), 8)
  const ports = {sourcePort: uint16(body, 0), destinationPort: uint16(body, 2)}
  return {
    kind: 'udp',
    ...between,
    ...ports,
    payload: body.subarray(8, end),
    octets: end - 8,
    cut: between.cut || body.length < end,
  }
}

function readTcp(body: Uint8Array, between: Between): Carried {
  const headOctets = ((body[12] ?? 0) >>> 4) * 4
  if (body.length < 20 || headOctets < 20) return {kind: 'other', what: 'a broken TCP header'}
  const flags = body[13] ?? 0
  return {
    kind: 'tcp',
    ...between,
    sourcePort: uint16(body, 0),
    destinationPort: uint16(body, 2),
    payload: body.subarray(Math.min(headOctets, body.length)),
    octets: Math.max(body.length - headOctets, 0),
    syn: (flags & 2) !== 0,
    ack: (flags & 16) !== 0,
    rst: (flags & 4) !== 0,
  }
}

/** RFC 792 type 3; RFC 1191 §4 names the frame size that would have passed. */
function readIcmp(body: Uint8Array, source: Ipv4, destination: Ipv4): Carried {
  const code = body[1] ?? 0
  if (body[0] !== 3) return {kind: 'other', what: `ICMP type ${body[0] ?? 0}`}
  const names: Readonly<Record<number, string>> = {
    0: 'network',
    1: 'host',
    3: 'port',
    4: `frame too big, at most ${uint16(body, 6)}`,
  }
  return {kind: 'unreachable', what: names[code] ?? `code ${code}`, source, destination}
}

function readArp(bytes: Uint8Array): Carried {
  const op = uint16(bytes, 6)
  if (bytes.length < 28 || uint16(bytes, 2) !== IPV4 || (op !== 1 && op !== 2))
    return {kind: 'other', what: 'ARP of another kind'}
  const sender = {senderMac: hexColon(bytes.subarray(8, 14)), sender: addressAt(bytes, 14)}
  return {kind: 'arp', op: op === 1 ? 'request' : 'reply', ...sender, target: addressAt(bytes, 24)}
}

function readIpv6(bytes: Uint8Array): 'router_solicitation' | 'router_advertisement' | 'dhcpv6' | 'other' {
  const next = bytes[6]
  if (next === 58 && bytes[40] === 133) return 'router_solicitation'
  if (next === 58 && bytes[40] === 134) return 'router_advertisement'
  return next === 17 && [546, 547].includes(uint16(bytes, 42)) ? 'dhcpv6' : 'other'
}

function macOrNull(bytes: Uint8Array, at: number, length: number): string | null {
  return length === 6 && bytes.length >= at + 6 ? hexColon(bytes.subarray(at, at + 6)) : null
}

function addressAt(bytes: Uint8Array, at: number): Ipv4 {
  return `${bytes[at] ?? 0}.${bytes[at + 1] ?? 0}.${bytes[at + 2] ?? 0}.${bytes[at + 3] ?? 0}` as Ipv4
}

function uint16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}
