/**
 * The types DHCP options have: how each is written as octets, and how a value that a person wrote is read. Pure.
 *
 * `decode` returns undefined for octets that its type cannot have; `parse` returns the value, or a sentence that completes "it …".
 */
import {type Cidr, type Ipv4, parseCidr, parseIpv4, prefixLength} from '../../lib/addresses.ts'
import {hexColon, parseHex, printable} from '../../lib/bytes.ts'
import {decodeDomains, encodeDomains, parseDomain} from './domain-names.ts'

/** RFC 3442: packets for `destination` go to `via`. */
export type Route = {readonly destination: Cidr; readonly via: Ipv4}
/** A network or address and its router or mask (options 21 and 33). */
export type IpPair = readonly [Ipv4, Ipv4]

/** What each type decodes to. */
export type OptionTypes = {
  flag: boolean
  u8: number
  u16: number
  u32: number
  i32: number
  u8s: readonly number[]
  u16s: readonly number[]
  ip: Ipv4
  ips: readonly Ipv4[]
  ip_pairs: readonly IpPair[]
  text: string
  domains: readonly string[]
  bytes: Uint8Array
  routes: readonly Route[]
  suboptions: ReadonlyMap<number, Uint8Array>
}

export type OptionType = keyof OptionTypes
type Complaint = {readonly complaint: string}

export type Codec<T> = {
  /** An example of how people write it. */
  readonly example: string
  decode(bytes: Uint8Array): T | undefined
  encode(value: T): Uint8Array
  /** From JSON, or from the text of a command line. */
  parse(given: unknown): {readonly value: T} | Complaint
  /** Fit for JSON, and read again by `parse`. */
  describe(value: T): unknown
}

export function readIpv4(bytes: Uint8Array, at: number): Ipv4 {
  return `${bytes[at] ?? 0}.${bytes[at + 1] ?? 0}.${bytes[at + 2] ?? 0}.${bytes[at + 3] ?? 0}` as Ipv4
}

export function writeIpv4(bytes: Uint8Array, at: number, address: Ipv4): void {
  let octet = 0
  let to = at
  for (let index = 0; index < address.length; index++) {
    const digit = address.charCodeAt(index)
    if (digit === 0x2e) {
      bytes[to++] = octet
      octet = 0
    } else octet = octet * 10 + digit - 0x30
  }
  bytes[to] = octet
}

/** The length-checked pairs of code and value in an option's body; undefined when one leaves its field. */
export function readSuboptions(bytes: Uint8Array): Map<number, Uint8Array> | undefined {
  const found = new Map<number, Uint8Array>()
  let at = 0
  while (at < bytes.length) {
    const code = bytes[at] ?? 0
    if (code === 255) break
    const end = at + 2 + (bytes[at + 1] ?? 0)
    if (at + 1 >= bytes.length || end > bytes.length) return undefined
    found.set(code, bytes.subarray(at + 2, end))
    at = end
  }
  return found
}

export const CODECS: {readonly [K in OptionType]: Codec<OptionTypes[K]>} = {
  flag: {
    example: 'true',
    decode: bytes => (bytes.length === 1 && (bytes[0] ?? 2) < 2 ? bytes[0] === 1 : undefined),
    encode: value => Uint8Array.of(value ? 1 : 0),
    parse: given =>
      given === true || given === 'true'
        ? {value: true}
        : given === false || given === 'false'
          ? {value: false}
          : {complaint: 'is true or false'},
    describe: value => value,
  },
  u8: integer(1, false),
  u16: integer(2, false),
  u32: integer(4, false),
  i32: integer(4, true),
  u8s: integers(1),
  u16s: integers(2),
  ip: {
    example: '10.0.0.1',
    decode: bytes => (bytes.length === 4 ? readIpv4(bytes, 0) : undefined),
    encode: address => encodeIps([address]),
    parse(given) {
      const value = typeof given === 'string' ? parseIpv4(given.trim()) : undefined
      return value === undefined ? {complaint: 'is an IPv4 address such as 10.0.0.1'} : {value}
    },
    describe: value => value,
  },
  ips: {
    example: '10.0.0.1,10.0.0.2',
    decode: bytes =>
      bytes.length > 0 && bytes.length % 4 === 0
        ? Array.from({length: bytes.length / 4}, (_, index) => readIpv4(bytes, index * 4))
        : undefined,
    encode: encodeIps,
    parse: given => parseList(given, 'IPv4 addresses', word => parseIpv4(word)),
    describe: value => value,
  },
  ip_pairs: {
    example: '10.1.0.0 10.0.0.1,10.2.0.0 10.0.0.2',
    decode: bytes =>
      bytes.length > 0 && bytes.length % 8 === 0
        ? Array.from(
            {length: bytes.length / 8},
            (_, index): IpPair => [readIpv4(bytes, index * 8), readIpv4(bytes, index * 8 + 4)],
          )
        : undefined,
    encode: pairs => encodeIps(pairs.flat()),
    parse: given =>
      parseList(given, 'pairs of IPv4 addresses with a space between the two', word => {
        const [first, second, more] = word.split(/\s+/).map(parseIpv4)
        return first !== undefined && second !== undefined && more === undefined && !/\S+\s+\S+\s+\S/.test(word)
          ? ([first, second] as const)
          : undefined
      }),
    describe: pairs => pairs.map(pair => pair.join(' ')),
  },
  text: {
    example: 'example.org',
    // RFC 2132 §2: a receiver strips trailing NULs; some ROMs add 0xff too.
    decode: bytes => latin1(bytes).replace(/[\0\xff]+$/, ''),
    encode: text => Buffer.from(text, 'latin1'),
    parse: given =>
      typeof given === 'string' && /^[\x20-\x7e]+$/.test(given)
        ? {value: given}
        : {complaint: 'is a text of printable ASCII characters (RFC 2132 §2: NVT ASCII), not empty'},
    describe: value => value,
  },
  domains: {
    example: 'example.org,lab.example.org',
    decode: decodeDomains,
    encode: encodeDomains,
    parse: given => parseList(given, 'domain names (RFC 1035 §2.3.1)', parseDomain),
    describe: value => value,
  },
  bytes: {
    example: '01:ab:ff',
    decode: bytes => bytes,
    encode: bytes => bytes,
    parse(given) {
      const value = typeof given === 'string' && given !== '' ? parseHex(given) : undefined
      return value === undefined ? {complaint: 'is octets in hexadecimal, such as 01:ab:ff'} : {value}
    },
    describe: hexColon,
  },
  routes: {
    example: '10.8.0.0/16 via 10.0.0.1,192.168.0.0/24 via 10.0.0.2',
    decode: decodeRoutes,
    encode: encodeRoutes,
    parse: given => parseList(given, 'routes such as `10.8.0.0/16 via 10.0.0.1`', parseRoute),
    describe: routes => routes.map(({destination, via}) => `${destination} via ${via}`),
  },
  suboptions: {
    example: '{"1:ips": "10.0.0.1", "2:text": "lab", "3": "ab:cd"}',
    decode: readSuboptions,
    encode: map => Uint8Array.from([...map].flatMap(([code, bytes]) => [code, bytes.length, ...bytes])),
    parse: parseSuboptions,
    describe: map => Object.fromEntries([...map].map(([code, bytes]) => [String(code), hexColon(bytes)])),
  },
}

function integer(length: 1 | 2 | 4, signed: boolean): Codec<number> {
  const span = 256 ** length
  const least = signed ? -span / 2 : 0
  const most = signed ? span / 2 - 1 : span - 1
  return {
    example: signed ? '-3600' : '1',
    decode(bytes) {
      if (bytes.length !== length) return undefined
      const value = bytes.reduce((sum, byte) => sum * 256 + byte, 0)
      return value > most ? value - span : value
    },
    encode(value) {
      const bytes = new Uint8Array(length)
      for (let index = length - 1, rest = value < 0 ? value + span : value; index >= 0; index--, rest = Math.floor(rest / 256))
        bytes[index] = rest % 256
      return bytes
    },
    parse(given) {
      const value = toInteger(given)
      return value !== undefined && value >= least && value <= most
        ? {value}
        : {complaint: `is a whole number from ${least} to ${most}`}
    },
    describe: value => value,
  }
}

function integers(length: 1 | 2): Codec<readonly number[]> {
  const one = integer(length, false)
  return {
    example: '1,2,3',
    decode: bytes =>
      bytes.length > 0 && bytes.length % length === 0
        ? Array.from({length: bytes.length / length}, (_, index) =>
            length === 1 ? (bytes[index] ?? 0) : ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0),
          )
        : undefined,
    encode: values => Uint8Array.from(values.flatMap(value => [...one.encode(value)])),
    parse: given =>
      parseList(given, `whole numbers from 0 to ${256 ** length - 1}`, word => {
        const parsed = one.parse(word)
        return 'value' in parsed ? parsed.value : undefined
      }),
    describe: value => value,
  }
}

function toInteger(given: unknown): number | undefined {
  const value = typeof given === 'string' && /^-?(0|[1-9]\d{0,9})$/.test(given.trim()) ? Number(given) : given
  return Number.isInteger(value) ? (value as number) : undefined
}

/** A JSON list, or one text with commas between its items. */
function parseList<T>(given: unknown, what: string, parse: (word: string) => T | undefined): {value: readonly T[]} | Complaint {
  const words = typeof given === 'string' ? given.split(',') : Array.isArray(given) ? given : []
  const items = words.map(word => (typeof word === 'string' || typeof word === 'number' ? parse(String(word).trim()) : undefined))
  const wrong = items.indexOf(undefined)
  if (wrong >= 0) return {complaint: `is a list of ${what}; ${printable(JSON.stringify(words[wrong]) ?? 'nothing', 60)} is none`}
  return items.length === 0 ? {complaint: `is a list of ${what}, not empty`} : {value: items as T[]}
}

function encodeIps(addresses: readonly Ipv4[]): Uint8Array {
  const bytes = new Uint8Array(addresses.length * 4)
  for (const [index, address] of addresses.entries()) writeIpv4(bytes, index * 4, address)
  return bytes
}

/** RFC 3442: prefix length, then only the significant octets of the network, then the router. */
function encodeRoutes(routes: readonly Route[]): Uint8Array {
  return Uint8Array.from(
    routes.flatMap(({destination, via}) => {
      const length = prefixLength(destination)
      const network = encodeIps([destination.slice(0, destination.indexOf('/')) as Ipv4])
      return [length, ...network.subarray(0, Math.ceil(length / 8)), ...encodeIps([via])]
    }),
  )
}

function decodeRoutes(bytes: Uint8Array): readonly Route[] | undefined {
  const routes: Route[] = []
  let at = 0
  while (at < bytes.length) {
    const length = bytes[at] ?? 0
    const significant = Math.ceil(length / 8)
    const end = at + 1 + significant + 4
    if (length > 32 || end > bytes.length) return undefined
    const network = new Uint8Array(4)
    network.set(bytes.subarray(at + 1, at + 1 + significant))
    const destination = parseCidr(`${readIpv4(network, 0)}/${length}`)
    if (destination === undefined) return undefined
    routes.push({destination, via: readIpv4(bytes, at + 1 + significant)})
    at = end
  }
  return routes.length > 0 ? routes : undefined
}

function parseRoute(text: string): Route | undefined {
  const match = /^(\S+)\s+via\s+(\S+)$/.exec(text)
  const destination = parseCidr(match?.[1] ?? '')
  const via = parseIpv4(match?.[2] ?? '')
  return destination === undefined || via === undefined || destination.includes(':') ? undefined : {destination, via}
}

/** A JSON object (or its text) by code or `code:type`, without a type in hexadecimal; or the whole body in hexadecimal. */
function parseSuboptions(given: unknown): {value: ReadonlyMap<number, Uint8Array>} | Complaint {
  const form = {complaint: 'is suboptions such as {"1:ips": "10.0.0.1", "2:text": "lab"}, or their octets in hexadecimal'}
  if (typeof given === 'string' && !given.trim().startsWith('{')) {
    const bytes = given === '' ? undefined : parseHex(given.trim())
    const value = bytes && readSuboptions(bytes)
    return value === undefined || value.size === 0 ? form : {value}
  }
  const object = typeof given === 'string' ? parseJson(given) : given
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return form
  const value = new Map<number, Uint8Array>()
  for (const [key, wanted] of Object.entries(object)) {
    const match = /^([1-9]\d{0,2})(?::(\w+))?$/.exec(key)
    const code = Number(match?.[1])
    const type = match?.[2] ?? 'bytes'
    if (match === null || code > 254 || !isOptionType(type))
      return {complaint: `has a suboption '${printable(key, 40)}', which is no code, nor code:type`}
    const encoded = encodeValue(type, wanted)
    if ('complaint' in encoded) return {complaint: `has a suboption ${code}, which ${encoded.complaint}`}
    if (encoded.bytes.length > 255) return {complaint: `has a suboption ${code} of more than 255 octets`}
    value.set(code, encoded.bytes)
  }
  return value.size === 0 ? form : {value}
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function isOptionType(word: string): word is OptionType {
  return Object.hasOwn(CODECS, word)
}

/** What a person wrote, as octets and in its canonical form. */
export function encodeValue(type: OptionType, given: unknown): {readonly bytes: Uint8Array; readonly value: unknown} | Complaint {
  const codec: Codec<unknown> = CODECS[type]
  const parsed = codec.parse(given)
  return 'complaint' in parsed ? parsed : {bytes: codec.encode(parsed.value), value: codec.describe(parsed.value)}
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}
