/** Reads UDP payloads out of a classic pcap file (Ethernet, IPv4, microseconds or nanoseconds, either byte order). */
import {readdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'

export type Datagram = {
  readonly sourceMac: string
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
  readonly payload: Buffer
}

export const PCAP_FOLDER = join(import.meta.dirname, '../fixtures/pcap')

export function listCaptures(): readonly string[] {
  return readdirSync(PCAP_FOLDER).filter(name => name.endsWith('.pcap'))
}

/** Every UDP datagram of a capture under test/fixtures/pcap that was captured whole and not fragmented. */
export function readDatagrams(name: string): readonly Datagram[] {
  const file = readFileSync(join(PCAP_FOLDER, name))
  const isLittle = [0xd4c3b2a1, 0x4d3cb2a1].includes(file.readUInt32BE(0))
  const uint32 = (at: number) => (isLittle ? file.readUInt32LE(at) : file.readUInt32BE(at))
  if (uint32(20) !== 1) throw new Error(`${name} is not an Ethernet capture`)
  const datagrams: Datagram[] = []
  for (let at = 24; at + 16 <= file.length; at += 16 + uint32(at + 8)) {
    const captured = uint32(at + 8)
    const datagram = readFrame(file.subarray(at + 16, at + 16 + captured))
    if (datagram !== undefined) datagrams.push(datagram)
  }
  return datagrams
}

/** The DHCP datagrams: both ports are 67 or 68. */
export function readDhcp(name: string): readonly Datagram[] {
  return readDatagrams(name).filter(({sourcePort, destinationPort}) => [sourcePort, destinationPort].every(isDhcpPort))
}

function isDhcpPort(port: number): boolean {
  return port === 67 || port === 68
}

function readFrame(frame: Buffer): Datagram | undefined {
  if (frame.length < 42 || frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 17) return undefined
  const udp = 14 + ((frame[14] ?? 0) & 15) * 4
  const isFragment = (frame.readUInt16BE(20) & 0x3fff) !== 0
  const end = udp + frame.readUInt16BE(udp + 4)
  if (isFragment || end > frame.length) return undefined
  return {
    sourceMac: [...frame.subarray(6, 12)].map(byte => byte.toString(16).padStart(2, '0')).join(':'),
    source: frame.subarray(26, 30).join('.'),
    sourcePort: frame.readUInt16BE(udp),
    destination: frame.subarray(30, 34).join('.'),
    destinationPort: frame.readUInt16BE(udp + 2),
    payload: frame.subarray(udp + 8, end),
  }
}
