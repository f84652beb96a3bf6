/**
 * The codec of npm's `dhcp` 0.2.20, and its known faults as data: an example of each, where it shows, and what the peer makes of it. A
 * difference between the two codecs that none of these rows excuses is ours to explain.
 */
import {createRequire} from 'node:module'
import {walkField} from '../../fuzz/dhcp/frame.ts'
import {encodePacket} from '../../services/dhcpd/packet.ts'
import {makeRequest} from './dhcp-world.ts'

export type PeerPacket = {
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
type PeerOption = {readonly type: string; readonly enum?: object}

const require = createRequire(import.meta.url)
export const peer = require('dhcp/lib/protocol.js') as Peer
const OPTIONS = (require('dhcp/lib/options.js') as {readonly opts: Readonly<Record<number, PeerOption>>}).opts

export function peerType(code: number): string | undefined {
  return OPTIONS[code]?.type
}

/** The octets that each of the peer's types takes, whatever the option says. Lists take what the option says, rounded up. */
const FIXED: Readonly<Record<string, number>> = {IP: 4, UInt8: 1, Int8: 1, UInt16: 2, UInt32: 4, Int32: 4, Bool: 0}
const UNITS: Readonly<Record<string, number>> = {IPs: 4, UInt16s: 2}

export type PeerFault = {
  readonly fault: string
  readonly example: Buffer
  /** `throws`, or what the example shows in the peer's packet. */
  readonly shows: 'throws' | ((packet: PeerPacket) => boolean)
  /** What may differ in a datagram because of it: `file`, `option 61` …; `ALL` where it loses its way. */
  excuses(bytes: Buffer): readonly string[]
}

export const ALL = 'all'

const BASE = encodePacket(makeRequest(null)).bytes.subarray(0, 240)

function example(options: readonly number[], change: (bytes: Buffer) => void = () => undefined): Buffer {
  const bytes = Buffer.concat([BASE, Buffer.from(options)])
  change(bytes)
  return bytes
}

const fieldOf = (bytes: Buffer) => walkField(bytes.subarray(240))
const allIf = (applies: boolean) => (applies ? [ALL] : [])

function optionsWhere(bytes: Buffer, check: (type: string | undefined, value: Buffer, code: number) => boolean): string[] {
  const {codes, values} = fieldOf(bytes)
  return codes.filter((code, index) => check(peerType(code), values[index] as Buffer, code)).map(code => `option ${code}`)
}

export const PEER_FAULTS: readonly PeerFault[] = [
  {
    fault: 'drops every option it has no name for: 77, 82, 93, 94, 97, 150, 175 among them',
    example: example([53, 1, 1, 93, 2, 0, 7, 82, 3, 1, 1, 65, 255]),
    shows: ({options}) => Object.keys(options).join() === '53',
    excuses: bytes => optionsWhere(bytes, type => type === undefined),
  },
  {
    fault: 'swallows the octet after a pad, and may then read past the end',
    example: example([0, 53, 1, 1, 255]),
    shows: 'throws',
    excuses: bytes => allIf(hasPad(bytes.subarray(240))),
  },
  {
    fault: 'throws on an option that is cut',
    example: example([53, 1, 1, 3, 8, 10]),
    shows: 'throws',
    excuses: bytes => allIf(fieldOf(bytes).endsAt === null),
  },
  {
    fault: 'keeps the last piece of an option that is split (RFC 3396)',
    example: example([12, 1, 65, 12, 1, 66, 255]),
    shows: ({options}) => options[12] === 'B',
    excuses: bytes =>
      fieldOf(bytes)
        .codes.filter((code, index, codes) => codes.indexOf(code) !== index)
        .map(code => `option ${code}`),
  },
  {
    fault: 'does not read the fields that option 52 lends',
    example: example([52, 1, 1, 255], bytes => bytes.set([12, 1, 65, 255], 108)),
    shows: ({options}) => !(12 in options),
    excuses: bytes => allIf(fieldOf(bytes).codes.includes(52)),
  },
  {
    fault: 'believes its table rather than the length of an option, and is out of step from there on',
    example: example([51, 2, 1, 1, 12, 0, 255]),
    shows: ({options}) => options[51] === 0x01010c00,
    excuses: bytes => allIf(optionsWhere(bytes, isOutOfStep).length > 0),
  },
  {
    fault: 'takes a list without an entry for a list',
    example: example([53, 1, 1, 6, 0, 255]),
    shows: ({options}) => Array.isArray(options[6]),
    excuses: bytes => optionsWhere(bytes, (type = '', value) => type in UNITS && value.length === 0),
  },
  {
    fault: 'reads client identifiers and texts as ASCII, without their highest bits, and to their first NUL',
    example: example([61, 4, 255, 0, 119, 1, 255]),
    shows: ({options}) => options[61] === '\x7f',
    excuses: bytes => optionsWhere(bytes, (type, value) => type === 'ASCII' && value.some(byte => byte > 127 || byte === 0)),
  },
  {
    fault: 'reads classless routes (121) as a list of addresses',
    example: example([121, 8, 24, 10, 1, 2, 10, 77, 0, 1, 255]),
    shows: ({options}) => Array.isArray(options[121]),
    excuses: bytes => optionsWhere(bytes, (_type, _value, code) => code === 121),
  },
  {
    fault: 'reads `file` and `sname` as UTF-8, with the 0xff that some ROMs leave there',
    example: example([53, 1, 1, 255], bytes => bytes.set([65, 255], 108)),
    shows: ({file}) => file === 'A\ufffd',
    excuses: bytes =>
      ['file', 'sname'].filter(name =>
        (name === 'file' ? bytes.subarray(108, 236) : bytes.subarray(44, 108)).some(byte => byte > 127),
      ),
  },
  {
    fault: 'throws for hardware that is not Ethernet',
    example: example([53, 1, 1, 255], bytes => bytes.set([32, 8], 1)),
    shows: 'throws',
    excuses: bytes => allIf(bytes[1] !== 1 || bytes[2] !== 6),
  },
  {
    fault: 'reads options where the magic cookie is missing',
    example: example([53, 1, 1, 255], bytes => bytes.fill(0, 236, 240)),
    shows: ({options}) => options[53] === 1,
    excuses: bytes => allIf(bytes.subarray(236, 240).toString('hex') !== '63825363'),
  },
  {
    fault: 'takes a message that is neither request nor reply',
    example: example([53, 1, 1, 255], bytes => bytes.fill(7, 0, 1)),
    shows: ({op}) => op === 7,
    excuses: bytes => allIf(bytes[0] !== 1 && bytes[0] !== 2),
  },
  {
    fault: 'throws on what is shorter than a DHCP message, wherever it happens to run out',
    example: BASE.subarray(0, 239),
    shows: 'throws',
    excuses: bytes => allIf(bytes.length < 240),
  },
]

export function isOutOfStep(type = '', value: Buffer): boolean {
  return (FIXED[type] ?? value.length) !== value.length || value.length % (UNITS[type] ?? 1) !== 0
}

function hasPad(field: Buffer): boolean {
  for (let at = 0; at < field.length && field[at] !== 255; at += 2 + (field[at + 1] ?? 0)) if (field[at] === 0) return true
  return false
}
