/**
 * Capture files as tcpdump, Wireshark and switches write them, both pcap and pcapng, into frames. Pure.
 *
 * Nothing a file says of itself is believed: every length is held against what is there before a byte is taken. A file that ends in the
 * middle of a packet is read up to there, and says so; what is no capture is refused with what is wrong and where.
 * Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
 */
import {IngotError} from '../../lib/errors.ts'

export type LinkType = 'ethernet' | 'linux_cooked' | 'linux_cooked_v2' | 'ip'

export type Frame = {
  /** From 1, as Wireshark counts. */
  readonly number: number
  /** Microseconds since 1970. */
  readonly at_us: number
  readonly link: LinkType
  readonly bytes: Uint8Array
  /** What it had on the wire: more than `bytes` where the capture was cut (`tcpdump -s`). */
  readonly wire_octets: number
}

export type CaptureFile = {
  readonly format: 'pcap' | 'pcapng'
  readonly frames: readonly Frame[]
  /** What about the file itself keeps something from being seen. */
  readonly notes: readonly string[]
}

export const CAPTURE_BYTES_AT_MOST = 8 * 1024 * 1024
export const FRAMES_AT_MOST = 20_000
/** libpcap's own greatest snapshot length. */
const FRAME_OCTETS_AT_MOST = 262_144

/** https://www.tcpdump.org/linktypes.html */
const LINK_TYPES: Readonly<Record<number, LinkType>> = {
  1: 'ethernet',
  12: 'ip',
  14: 'ip',
  101: 'ip',
  113: 'linux_cooked',
  228: 'ip',
  276: 'linux_cooked_v2',
}

/** @throws IngotError INVALID_INPUT when it is no capture that can be read */
export function readCapture(bytes: Uint8Array): CaptureFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 24) throw refuse(`${bytes.length} bytes are too few for a capture`)
  const magic = view.getUint32(0)
  if (magic === SECTION) return readPcapng(view)
  const order = PCAP_MAGIC[magic]
  if (order) return readPcap(view, order)
  if (magic >>> 16 === 0x1f8b) throw refuse('it is compressed with gzip: unpack it first')
  if (magic === 0x28b52ffd) throw refuse('it is compressed with zstd: unpack it first')
  throw refuse(`it begins with 0x${magic.toString(16).padStart(8, '0')}, and is neither pcap nor pcapng`)
}

type PcapOrder = {readonly little: boolean; readonly perSecond: number}

const PCAP_MAGIC: Readonly<Record<number, PcapOrder>> = {
  2712847316: {little: false, perSecond: 1e6},
  3569595041: {little: true, perSecond: 1e6},
  2712812621: {little: false, perSecond: 1e9},
  1295823521: {little: true, perSecond: 1e9},
}

function readPcap(view: DataView, {little, perSecond}: PcapOrder): CaptureFile {
  const network = view.getUint32(20, little) & 0x0fffffff
  const link = LINK_TYPES[network]
  if (link === undefined) throw refuse(`its link type is ${network}: Ethernet, Linux cooked and raw IP are read`)
  const out = startFrames()
  let at = 24
  while (at < view.byteLength && out.hasRoom()) {
    if (at + 16 > view.byteLength) {
      out.note(`the file ends in the header of packet ${out.next()}`)
      break
    }
    const captured = view.getUint32(at + 8, little)
    checkLength(captured, out.next(), at)
    if (at + 16 + captured > view.byteLength) {
      out.note(`the file ends in the middle of packet ${out.next()}`)
      break
    }
    const at_us = view.getUint32(at, little) * 1e6 + (view.getUint32(at + 4, little) * 1e6) / perSecond
    out.add(at_us, link, slice(view, at + 16, captured), view.getUint32(at + 12, little))
    at += 16 + captured
  }
  return {format: 'pcap', ...out.end(at < view.byteLength)}
}

const SECTION = 0x0a0d0d0a
const INTERFACE = 1
const OLD_PACKET = 2
const SIMPLE_PACKET = 3
const ENHANCED_PACKET = 6
const BYTE_ORDER = 0x1a2b3c4d
const RESOLUTION_OPTION = 9
const INTERFACES_AT_MOST = 1024

type Interface = {
  readonly link: LinkType | undefined
  readonly network: number
  readonly snapped: number
  readonly perSecond: number
}

/** Blocks of one type and length each, in sections that have a byte order and interfaces of their own. */
function readPcapng(view: DataView): CaptureFile {
  const out = startFrames()
  let little = false
  let interfaces: Interface[] = []
  let at = 0
  while (at < view.byteLength && out.hasRoom()) {
    if (at + 12 > view.byteLength) {
      out.note(`the file ends in the header of a block, after packet ${out.next() - 1}`)
      break
    }
    const isSection = view.getUint32(at) === SECTION
    if (isSection) {
      little = readByteOrder(view, at + 8)
      interfaces = []
    }
    const type = view.getUint32(at, little)
    const length = view.getUint32(at + 4, little)
    if (length < 12 || length % 4 !== 0) throw refuse(`the block at byte ${at} says it has ${length} bytes`)
    if (at + length > view.byteLength) {
      out.note(`the file ends in the middle of a block, after packet ${out.next() - 1}`)
      break
    }
    const block = new DataView(view.buffer, view.byteOffset + at + 8, length - 12)
    if (type === INTERFACE && block.byteLength >= 8 && interfaces.length < INTERFACES_AT_MOST) {
      interfaces.push(readInterface(block, little))
    } else if (type === ENHANCED_PACKET || type === OLD_PACKET) addPacket(out, block, interfaces, little, type, at)
    else if (type === SIMPLE_PACKET) addSimple(out, block, interfaces[0], little, at)
    at += length
  }
  return {format: 'pcapng', ...out.end(at < view.byteLength)}
}

function readByteOrder(view: DataView, at: number): boolean {
  if (view.getUint32(at) === BYTE_ORDER) return false
  if (view.getUint32(at, true) === BYTE_ORDER) return true
  throw refuse(`the section at byte ${at - 8} has no byte order`)
}

function readInterface(block: DataView, little: boolean): Interface {
  const network = block.getUint16(0, little)
  let perSecond = 1e6
  let at = 8
  while (at + 4 <= block.byteLength) {
    const code = block.getUint16(at, little)
    const length = block.getUint16(at + 2, little)
    if (code === 0 || at + 4 + length > block.byteLength) break
    if (code === RESOLUTION_OPTION && length === 1) perSecond = resolution(block.getUint8(at + 4))
    at += 4 + length + ((4 - (length % 4)) % 4)
  }
  return {link: LINK_TYPES[network], network, snapped: block.getUint32(4, little), perSecond}
}

/** The high bit chooses between a power of two and a power of ten. */
function resolution(value: number): number {
  return (value & 0x80) === 0 ? 10 ** Math.min(value, 12) : 2 ** Math.min(value & 0x7f, 40)
}

function addPacket(
  out: Frames,
  block: DataView,
  interfaces: readonly Interface[],
  little: boolean,
  type: number,
  at: number,
): void {
  if (block.byteLength < 20) throw refuse(`the packet block at byte ${at} is too short`)
  const index = type === OLD_PACKET ? block.getUint16(0, little) : block.getUint32(0, little)
  const from = interfaces[index]
  if (from === undefined) throw refuse(`packet ${out.next()} names interface ${index}, which the file does not describe`)
  const captured = block.getUint32(12, little)
  checkLength(captured, out.next(), at)
  if (20 + captured > block.byteLength) throw refuse(`packet ${out.next()} says it has ${captured} bytes, more than its block`)
  const ticks = block.getUint32(4, little) * 2 ** 32 + block.getUint32(8, little)
  const wire_octets = block.getUint32(16, little)
  out.add((ticks * 1e6) / from.perSecond, from.link, slice(block, 20, captured), wire_octets, from.network)
}

/** Has neither a time nor a captured length: that is the wire's, cut to the interface's snapshot length. */
function addSimple(out: Frames, block: DataView, from: Interface | undefined, little: boolean, at: number): void {
  if (block.byteLength < 4 || from === undefined) throw refuse(`the packet block at byte ${at} belongs to no interface`)
  const wire_octets = block.getUint32(0, little)
  const captured = Math.min(wire_octets, from.snapped === 0 ? wire_octets : from.snapped, block.byteLength - 4)
  checkLength(captured, out.next(), at)
  out.add(0, from.link, slice(block, 4, captured), wire_octets, from.network)
}

type Frames = ReturnType<typeof startFrames>

function startFrames() {
  const frames: Frame[] = []
  const notes: string[] = []
  const skipped = new Map<number, number>()
  let number = 0
  return {
    next: () => number + 1,
    hasRoom: () => number < FRAMES_AT_MOST,
    note: (text: string) => void notes.push(text),
    add(at_us: number, link: LinkType | undefined, bytes: Uint8Array, wire_octets: number, network = 0) {
      number++
      if (link === undefined) skipped.set(network, (skipped.get(network) ?? 0) + 1)
      else frames.push({number, at_us: Math.round(at_us), link, bytes, wire_octets: Math.max(wire_octets, bytes.length)})
    },
    end(hasMore: boolean): {frames: readonly Frame[]; notes: readonly string[]} {
      if (hasMore && number >= FRAMES_AT_MOST) notes.push(`only the first ${FRAMES_AT_MOST} packets were read`)
      for (const [network, count] of skipped) notes.push(`${count} packets of link type ${network} were left out`)
      const cut = frames.filter(frame => frame.bytes.length < frame.wire_octets).length
      if (cut > 0) notes.push(`${cut} packets were cut when they were captured; take whole ones with \`tcpdump -s 0\``)
      return {frames, notes}
    },
  }
}

function checkLength(captured: number, number: number, at: number): void {
  if (captured > FRAME_OCTETS_AT_MOST) throw refuse(`packet ${number}, at byte ${at}, says it has ${captured} bytes`)
}

function slice(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length)
}

function refuse(what: string): IngotError {
  return new IngotError('INVALID_INPUT', `the capture cannot be read: ${what}`, {
    errors: [{field: 'capture', code: 'capture', message: what}],
    mend: 'Take one with `tcpdump -i <interface> -s 0 -w boot.pcap` and send that file.',
  })
}
