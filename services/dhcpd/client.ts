/**
 * Who is asking, and at which stage of booting. Pure.
 *
 * One machine shows several client identifiers on its way from firmware to installed system (none, 01+MAC, a DUID) and must keep one
 * address; so the identity is `chaddr`, the administrator's override that RFC 4361 §6.3 allows, and option 61 is only recorded and echoed.
 */
import type {Mac} from '../../lib/addresses.ts'
import {type Architecture, chooseArchitecture} from './architectures.ts'
import {OPTIONS, readOption} from './options.ts'
import type {Packet} from './packet.ts'

/** `rom`: PXE firmware, BIOS or UEFI. `http`: UEFI HTTP boot. `ipxe`: iPXE, ROM or chained. `os`: everything else. */
export type DhcpStage = 'rom' | 'http' | 'ipxe' | 'os'

export type Client = {
  readonly mac: Mac
  readonly stage: DhcpStage
  /** Which part of the packet told the stage, for reasons. */
  readonly told: string
  readonly architecture: Architecture | null
  /** Options 60 and 61 as they came. */
  readonly vendorClass: string
  readonly clientId: Uint8Array | null
  /** The 16 octets of option 97; null when absent, malformed or a filler that identifies nothing. */
  readonly guid: Uint8Array | null
  /** The codes of option 55. */
  readonly asked: Uint8Array
}

const ETHERNET = 1
const HEX = Array.from({length: 256}, (_, byte) => byte.toString(16).padStart(2, '0'))
const MOST_CLIENT_ID_OCTETS = 255
const NO_CODES = new Uint8Array()

export function identifyClient(packet: Packet): Client | {readonly ignored: 'hardware_type' | 'bad_mac'} {
  if (packet.htype !== ETHERNET || packet.hlen !== 6) return {ignored: 'hardware_type'}
  const mac = readMac(packet.chaddr)
  if (mac === undefined) return {ignored: 'bad_mac'}
  const vendor = packet.options.has(OPTIONS.vendor_class.code) ? (readOption(packet.options, 'vendor_class') ?? '') : ''
  const codes = readOption(packet.options, 'client_architecture') ?? architectureInVendorClass(vendor)
  return {
    mac,
    ...classify(packet, vendor),
    architecture: chooseArchitecture(codes) ?? null,
    vendorClass: vendor,
    clientId: packet.options.get(OPTIONS.client_identifier.code) ?? null,
    guid: readGuid(packet),
    asked: packet.options.get(OPTIONS.parameter_request_list.code) ?? NO_CODES,
  }
}

/** iPXE first: it goes on calling itself PXEClient, and handing it its own loader again would chain for ever. */
function classify(packet: Packet, vendorClass: string): {stage: DhcpStage; told: string} {
  if (isIpxeUserClass(packet.options.get(OPTIONS.user_class.code))) return {stage: 'ipxe', told: 'user class (77) is iPXE'}
  if (packet.options.has(OPTIONS.ipxe.code)) return {stage: 'ipxe', told: 'it sends option 175'}
  if (vendorClass.startsWith('HTTPClient')) return {stage: 'http', told: 'vendor class (60) begins with HTTPClient'}
  if (vendorClass.startsWith('PXEClient')) return {stage: 'rom', told: 'vendor class (60) begins with PXEClient'}
  return {stage: 'os', told: 'no boot class in options 60, 77 or 175'}
}

/** iPXE sends the bare word; RFC 3004 wants a length before it, and some relays rewrite it so. */
function isIpxeUserClass(bytes: Uint8Array | undefined): boolean {
  if (bytes === undefined) return false
  const from = bytes.length === 5 && bytes[0] === 4 ? 1 : 0
  return bytes.length - from === 4 && IPXE.every((byte, index) => bytes[from + index] === byte)
}

const IPXE = Buffer.from('iPXE')

/** A ROM without option 93 still names its architecture: `PXEClient:Arch:00007:UNDI:003000`. */
function architectureInVendorClass(vendorClass: string): readonly number[] {
  const match = /^(?:PXE|HTTP)Client:Arch:(\d{5})/.exec(vendorClass)
  return match === null ? [] : [Number(match[1])]
}

/** RFC 4578 §2.3: type 0 and 16 octets. All zeroes, all ones or a maker's sample is a board that nobody numbered. */
function readGuid(packet: Packet): Client['guid'] {
  const option = readOption(packet.options, 'client_machine_identifier')
  if (option === undefined || option[0] !== 0) return null
  const guid = option.subarray(1)
  if (guid.every(byte => byte === 0) || guid.every(byte => byte === 0xff)) return null
  return FILLERS.some(filler => filler.equals(guid)) ? null : guid
}

/** What firmware vendors' reference code holds, and thousands of boards still do, as it comes in either byte order. */
const FILLERS = [
  '03000200040005000006000700080009',
  '00020003000400050006000700080009',
  '123456781234567890abcddeefaabbcc',
  '785634123412785690abcddeefaabbcc',
].map(hex => Buffer.from(hex, 'hex'))

/** As `parseMac` does, without text: undefined for all-zero and group addresses. */
export function readMac(chaddr: Uint8Array): Mac | undefined {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = chaddr
  if ((a & 1) === 1 || (a | b | c | d | e | f) === 0) return undefined
  return `${HEX[a]}:${HEX[b]}:${HEX[c]}:${HEX[d]}:${HEX[e]}:${HEX[f]}` as Mac
}

/** `01:52:54…`, for records and logs; what is longer than one option holds is cut, for a datagram may carry 64 KiB of it. */
export function clientIdText(clientId: Uint8Array | null): string | null {
  if (clientId === null) return null
  let text = ''
  for (const byte of clientId.subarray(0, MOST_CLIENT_ID_OCTETS)) text += text === '' ? HEX[byte] : `:${HEX[byte]}`
  return clientId.length > MOST_CLIENT_ID_OCTETS ? `${text}…` : text
}
