/**
 * How long the machine waited for its servers, read from a packet capture: from a request's last byte to its answer's first, for every
 * HTTP request and every DHCP message that was answered. The same for Ingot and for its peer, and independent of what either says. Pure.
 */
import {MESSAGE_TYPES, readOption} from '../../services/dhcpd/options.ts'
import {decodePacket} from '../../services/dhcpd/packet.ts'

export type Wait = {
  /** `DISCOVER`, or a request line: `GET /boot.ipxe` */
  readonly request: string
  readonly at_ms: number
  readonly waited_ms: number
}

/** @param pcap as tcpdump writes it on an Ethernet interface of a little-endian host */
export function serverWaits(pcap: Buffer, httpPort: number): Wait[] {
  const waits: Wait[] = []
  const conversations = new Map<string, {request: string; at_ms: number} | null>()
  const asked = new Map<string, {request: string; at_ms: number}>()
  for (const segment of segmentsOf(pcap)) {
    if (segment.protocol === 'udp') seeDhcp(segment, asked, waits)
    else if (segment.payload > 0) seeHttp(segment, httpPort, conversations, waits)
  }
  return waits
}

type Segment = {
  readonly protocol: 'tcp' | 'udp'
  readonly at_ms: number
  readonly from: string
  readonly fromPort: number
  readonly to: string
  readonly toPort: number
  /** bytes on the wire; `bytes` holds as many of them as were captured */
  readonly payload: number
  readonly bytes: Buffer
}

function seeHttp(
  {at_ms, from, fromPort, to, toPort, bytes}: Segment,
  port: number,
  conversations: Map<string, {request: string; at_ms: number} | null>,
  waits: Wait[],
): void {
  if (toPort === port) {
    const key = `${from}:${fromPort}`
    const open = conversations.get(key)
    // Head and body may come apart: what counts is the last of them.
    conversations.set(key, {request: open?.request ?? requestLine(bytes), at_ms})
  } else if (fromPort === port) {
    const key = `${to}:${toPort}`
    const open = conversations.get(key)
    if (!open) return
    waits.push({request: open.request, at_ms: open.at_ms, waited_ms: at_ms - open.at_ms})
    conversations.set(key, null)
  }
}

const ANSWERS: Readonly<Record<string, string>> = {OFFER: 'DISCOVER', ACK: 'REQUEST', NAK: 'REQUEST'}

function seeDhcp({at_ms, bytes}: Segment, asked: Map<string, {request: string; at_ms: number}>, waits: Wait[]): void {
  const packet = decodePacket(bytes)
  if ('ignored' in packet) return
  const message = MESSAGE_TYPES[readOption(packet.options, 'message_type') ?? 0] ?? ''
  const request = packet.op === 1 ? message : ANSWERS[message]
  const key = `${packet.xid} ${request}`
  if (packet.op === 1) {
    // One that was sent again counts from the first time: the machine has waited since.
    if (!asked.has(key)) asked.set(key, {request: message, at_ms})
    return
  }
  const open = asked.get(key)
  if (!open) return
  asked.delete(key)
  waits.push({request: open.request, at_ms: open.at_ms, waited_ms: at_ms - open.at_ms})
}

/** Without the query, in which a machine's serial number stands. */
function requestLine(bytes: Buffer): string {
  return /^([A-Z]+ [^ ?\r\n]+)/.exec(bytes.toString('latin1'))?.[1] ?? '?'
}

const [FILE_HEADER, RECORD_HEADER, ETHERNET] = [24, 16, 14]

function* segmentsOf(pcap: Buffer): Generator<Segment> {
  if (pcap.length < FILE_HEADER) return
  const magic = pcap.readUInt32LE(0)
  const perMs = magic === 0xa1b23c4d ? 1e6 : 1e3
  if (magic !== 0xa1b2c3d4 && magic !== 0xa1b23c4d) throw new Error('not a little-endian pcap file')
  for (let at = FILE_HEADER; at + RECORD_HEADER <= pcap.length; ) {
    const at_ms = pcap.readUInt32LE(at) * 1000 + pcap.readUInt32LE(at + 4) / perMs
    const end = at + RECORD_HEADER + pcap.readUInt32LE(at + 8)
    if (end > pcap.length) return
    const segment = readFrame(pcap.subarray(at + RECORD_HEADER, end), at_ms)
    if (segment) yield segment
    at = end
  }
}

function readFrame(frame: Buffer, at_ms: number): Segment | undefined {
  if (frame.length < ETHERNET + 28 || frame.readUInt16BE(12) !== 0x0800) return undefined
  const ip = frame.subarray(ETHERNET)
  const protocol = ip[9] === 6 ? 'tcp' : ip[9] === 17 ? 'udp' : undefined
  const transport = ip.subarray(((ip[0] ?? 0) & 15) * 4)
  if (!protocol || transport.length < (protocol === 'tcp' ? 20 : 8)) return undefined
  const header = protocol === 'udp' ? 8 : ((transport[12] ?? 0) >> 4) * 4
  return {
    protocol,
    at_ms,
    from: ip.subarray(12, 16).join('.'),
    fromPort: transport.readUInt16BE(0),
    to: ip.subarray(16, 20).join('.'),
    toPort: transport.readUInt16BE(2),
    payload: ip.readUInt16BE(2) - (ip.length - transport.length) - header,
    bytes: transport.subarray(header),
  }
}
