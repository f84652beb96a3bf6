/** Captures made up for tests: frames as they are on the wire, written as pcap or pcapng. */
import type {Ipv4} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import {writeIpv4} from '../../services/dhcpd/options.ts'
import {encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {encodeAck, encodeDataHeader, encodeError, encodeOack, encodeRequest} from '../../services/tftpd/packet.ts'
import {MAC} from './dhcp-world.ts'

export type MadeFrame = {readonly at_s: number; readonly bytes: Buffer}

const SERVER_MAC = '0a:00:00:00:00:01'
const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff'

type Ends = {readonly from?: string; readonly to?: string; readonly vlan?: number}

export function ethernet(type: number, body: Buffer, {from = MAC, to = BROADCAST_MAC, vlan}: Ends = {}): Buffer {
  const tag = vlan === undefined ? [] : [0x81, 0x00, vlan >>> 8, vlan & 255]
  return Buffer.concat([parseHex(to)!, parseHex(from)!, Buffer.from([...tag, type >>> 8, type & 255]), body])
}

export function ipv4(protocol: number, source: string, destination: string, body: Buffer, fragment = 0): Buffer {
  const head = Buffer.alloc(20)
  head[0] = 0x45
  head.writeUInt16BE(20 + body.length, 2)
  head.writeUInt16BE(fragment, 6)
  head[8] = 64
  head[9] = protocol
  writeIpv4(head, 12, source as Ipv4)
  writeIpv4(head, 16, destination as Ipv4)
  return Buffer.concat([head, body])
}

/** `10.0.0.1:67` */
type Endpoint = string

export function udp(source: Endpoint, destination: Endpoint, payload: Uint8Array, how: Ends & {fragment?: number} = {}): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt16BE(portOf(source), 0)
  head.writeUInt16BE(portOf(destination), 2)
  head.writeUInt16BE(8 + payload.length, 4)
  const body = Buffer.concat([head, payload])
  return ethernet(0x0800, ipv4(17, hostOf(source), hostOf(destination), body, how.fragment), how)
}

export function tcp(source: Endpoint, destination: Endpoint, flags: number, payload = '', how: Ends = {}): Buffer {
  const head = Buffer.alloc(20)
  head.writeUInt16BE(portOf(source), 0)
  head.writeUInt16BE(portOf(destination), 2)
  head[12] = 0x50
  head[13] = flags
  return ethernet(0x0800, ipv4(6, hostOf(source), hostOf(destination), Buffer.concat([head, Buffer.from(payload)])), how)
}

export const TCP = {syn: 2, synAck: 18, push: 24, reset: 20} as const

export function arp(op: 1 | 2, senderMac: string, sender: string, target: string): Buffer {
  const body = Buffer.alloc(28)
  body.set([0, 1, 8, 0, 6, 4, 0, op])
  body.set(parseHex(senderMac)!, 8)
  writeIpv4(body, 14, sender as Ipv4)
  writeIpv4(body, 24, target as Ipv4)
  return ethernet(0x0806, body, {from: senderMac})
}

export function icmpv6(type: number, from: string = MAC): Buffer {
  const body = Buffer.alloc(56)
  body[0] = 0x60
  body[6] = 58
  body[40] = type
  return ethernet(0x86dd, body, {from})
}

/** From the client: broadcast, or relayed when the packet has a giaddr. */
export function dhcpRequest(packet: Packet, from?: string): Buffer {
  const {bytes} = encodePacket(packet, 1472)
  const ends = from === undefined ? {} : {from}
  return packet.giaddr === '0.0.0.0'
    ? udp('0.0.0.0:68', '255.255.255.255:67', bytes, ends)
    : udp(`${packet.giaddr}:67`, '10.77.0.1:67', bytes, ends)
}

export function dhcpReply(packet: Packet, server = '10.77.0.1', fragment = 0): Buffer {
  const {bytes} = encodePacket(packet, 9000)
  return udp(`${server}:67`, `${packet.yiaddr}:68`, bytes, {from: SERVER_MAC, to: MAC, fragment})
}

/** One TFTP conversation between a client's port and a server's. */
export function tftp(client: Endpoint, server = '10.77.0.1') {
  const tid = `${server}:40000`
  const back = {from: SERVER_MAC, to: MAC}
  return {
    read: (name: string, options: readonly (readonly [string, string])[] = []) =>
      udp(client, `${server}:69`, encodeRequest('rrq', name, 'octet', options)),
    oack: (options: readonly (readonly [string, string])[]) => udp(tid, client, encodeOack(options), back),
    data: (block: number, octets: number, fragment = 0) =>
      udp(tid, client, Buffer.concat([encodeDataHeader(block), Buffer.alloc(octets)]), {...back, fragment}),
    ack: (block: number) => udp(client, tid, encodeAck(block)),
    error: (code: number, message: string) => udp(tid, client, encodeError(code, message), back),
  }
}

/** Frames a tenth of a second apart; a number between them is seconds that pass. */
export function sequence(...items: readonly (Buffer | number)[]): MadeFrame[] {
  let at_s = 1_700_000_000
  return items.flatMap(item => {
    if (typeof item === 'number') {
      at_s += item
      return []
    }
    at_s += 0.1
    return [{at_s, bytes: item}]
  })
}

export function writePcap(frames: readonly MadeFrame[], {cutAt = 262_144, network = 1} = {}): Buffer {
  const head = Buffer.alloc(24)
  head.writeUInt32LE(0xa1b2c3d4, 0)
  head.writeUInt16LE(2, 4)
  head.writeUInt16LE(4, 6)
  head.writeUInt32LE(262_144, 16)
  head.writeUInt32LE(network, 20)
  const records = frames.map(({at_s, bytes}) => {
    const captured = bytes.subarray(0, cutAt)
    const record = Buffer.alloc(16)
    record.writeUInt32LE(Math.floor(at_s), 0)
    record.writeUInt32LE(Math.round((at_s % 1) * 1e6) % 1e6, 4)
    record.writeUInt32LE(captured.length, 8)
    record.writeUInt32LE(bytes.length, 12)
    return Buffer.concat([record, captured])
  })
  return Buffer.concat([head, ...records])
}

/** Big-endian, nanoseconds, with an unknown block in between: what pcap never is. */
export function writePcapng(frames: readonly MadeFrame[]): Buffer {
  const section = block(0x0a0d0d0a, Buffer.from([0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]))
  const description = block(1, Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]))
  const packets = frames.map(({at_s, bytes}) => {
    const head = Buffer.alloc(20)
    head.writeBigUInt64BE(BigInt(Math.round(at_s * 1e6)) * 1000n, 4)
    head.writeUInt32BE(bytes.length, 12)
    head.writeUInt32BE(bytes.length, 16)
    return block(6, Buffer.concat([head, bytes]))
  })
  return Buffer.concat([section, description, block(0x0bad, Buffer.alloc(8)), ...packets])
}

function block(type: number, body: Buffer): Buffer {
  const padding = Buffer.alloc((4 - (body.length % 4)) % 4)
  const length = 12 + body.length + padding.length
  const ends = Buffer.alloc(8)
  ends.writeUInt32BE(type, 0)
  ends.writeUInt32BE(length, 4)
  return Buffer.concat([ends, body, padding, ends.subarray(4)])
}

function hostOf(endpoint: Endpoint): string {
  return endpoint.slice(0, endpoint.indexOf(':'))
}

function portOf(endpoint: Endpoint): number {
  return Number(endpoint.slice(endpoint.indexOf(':') + 1))
}
