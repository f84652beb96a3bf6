/**
 * The DHCP options Ingot reads or writes, as one table, and the typed values they stand for. Pure.
 * To add an option, add a row. Names follow RFC 2132 and its successors; lengths are checked here and nowhere else.
 */
import {type Cidr, type Ipv4, parseCidr, prefixLength} from '../../lib/addresses.ts'
import {hexColon, printable} from '../../lib/bytes.ts'

/** What each type of the table decodes to. */
type OptionTypes = {
  u8: number
  u16: number
  u32: number
  ip: Ipv4
  ips: readonly Ipv4[]
  text: string
  bytes: Uint8Array
  codes: readonly number[]
  u16s: readonly number[]
  routes: readonly Route[]
  suboptions: ReadonlyMap<number, Uint8Array>
}

/** RFC 3442: packets for `destination` go to `via`. */
export type Route = {readonly destination: Cidr; readonly via: Ipv4}

type OptionRow = {readonly code: number; readonly type: keyof OptionTypes; readonly length?: number}

export const OPTIONS = {
  subnet_mask: {code: 1, type: 'ip'},
  routers: {code: 3, type: 'ips'},
  dns_servers: {code: 6, type: 'ips'},
  host_name: {code: 12, type: 'text'},
  domain_name: {code: 15, type: 'text'},
  interface_mtu: {code: 26, type: 'u16'},
  broadcast_address: {code: 28, type: 'ip'},
  ntp_servers: {code: 42, type: 'ips'},
  vendor_specific: {code: 43, type: 'bytes'},
  requested_address: {code: 50, type: 'ip'},
  lease_time: {code: 51, type: 'u32'},
  overload: {code: 52, type: 'u8'},
  message_type: {code: 53, type: 'u8'},
  server_identifier: {code: 54, type: 'ip'},
  parameter_request_list: {code: 55, type: 'codes'},
  message: {code: 56, type: 'text'},
  maximum_message_size: {code: 57, type: 'u16'},
  renewal_time: {code: 58, type: 'u32'},
  rebinding_time: {code: 59, type: 'u32'},
  vendor_class: {code: 60, type: 'text'},
  client_identifier: {code: 61, type: 'bytes'},
  tftp_server_name: {code: 66, type: 'text'},
  boot_file_name: {code: 67, type: 'text'},
  user_class: {code: 77, type: 'bytes'},
  relay_agent_information: {code: 82, type: 'suboptions'},
  client_architecture: {code: 93, type: 'u16s'},
  client_network_interface: {code: 94, type: 'bytes', length: 3},
  client_machine_identifier: {code: 97, type: 'bytes', length: 17},
  subnet_selection: {code: 118, type: 'ip'},
  classless_routes: {code: 121, type: 'routes'},
  tftp_server_addresses: {code: 150, type: 'ips'},
  ipxe: {code: 175, type: 'suboptions'},
} as const satisfies Record<string, OptionRow>

export type OptionName = keyof typeof OPTIONS
type ValueOf<N extends OptionName> = OptionTypes[(typeof OPTIONS)[N]['type']]
export type Options = ReadonlyMap<number, Uint8Array>

/** Suboptions of option 82 that mean something here (RFC 3046, 3527, 5107). */
export const RELAY_SUBOPTIONS = {circuit_id: 1, remote_id: 2, link_selection: 5, server_identifier_override: 11} as const
/** Suboption of iPXE's option 175 that says "there is no ProxyDHCP; do not wait for one". */
export const IPXE_NO_PROXY = 176

export const MESSAGE_TYPES = ['', 'DISCOVER', 'OFFER', 'REQUEST', 'DECLINE', 'ACK', 'NAK', 'RELEASE', 'INFORM'] as const
export type MessageType = Exclude<(typeof MESSAGE_TYPES)[number], ''>

/** The option's value; undefined when it is absent or its length is not one its type may have. */
export function readOption<N extends OptionName>(options: Options, name: N): ValueOf<N> | undefined {
  const row: OptionRow = OPTIONS[name]
  const bytes = options.get(row.code)
  if (bytes === undefined || (row.length !== undefined && bytes.length !== row.length)) return undefined
  return CODECS[row.type].decode(bytes) as ValueOf<N> | undefined
}

/** Adds an option to a reply in the making; a later value replaces an earlier one. */
export function writeOption<N extends OptionName>(options: Map<number, Uint8Array>, name: N, value: ValueOf<N>): void {
  const row: OptionRow = OPTIONS[name]
  const codec: Codec<unknown> = CODECS[row.type]
  options.set(row.code, codec.encode(value))
}

/** Every option by name, with a value fit for JSON; one that is unknown or malformed shows its bytes. */
export function describeOptions(options: Options): Record<string, unknown> {
  const described: Record<string, unknown> = {}
  for (const [code, bytes] of options) {
    const name = NAMES.get(code)
    const value = name === undefined ? undefined : readOption(options, name)
    described[name ?? `option_${code}`] = value === undefined ? hexColon(bytes) : describeValue(name, value)
  }
  return described
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

type Codec<T> = {decode(bytes: Uint8Array): T | undefined; encode(value: T): Uint8Array}

const CODECS: {readonly [K in keyof OptionTypes]: Codec<OptionTypes[K]>} = {
  u8: unsigned(1),
  u16: unsigned(2),
  u32: unsigned(4),
  ip: {
    decode: bytes => (bytes.length === 4 ? readIpv4(bytes, 0) : undefined),
    encode: address => encodeIps([address]),
  },
  ips: {
    decode: bytes =>
      bytes.length > 0 && bytes.length % 4 === 0
        ? Array.from({length: bytes.length / 4}, (_, index) => readIpv4(bytes, index * 4))
        : undefined,
    encode: encodeIps,
  },
  text: {
    // RFC 2132 §2: a receiver strips trailing NULs; some ROMs add 0xff too.
    decode: bytes => latin1(bytes).replace(/[\0\xff]+$/, ''),
    encode: text => Buffer.from(text, 'latin1'),
  },
  bytes: {decode: bytes => bytes, encode: bytes => bytes},
  codes: {decode: bytes => Array.from(bytes), encode: codes => Uint8Array.from(codes)},
  u16s: {
    decode: bytes =>
      bytes.length > 0 && bytes.length % 2 === 0
        ? Array.from({length: bytes.length / 2}, (_, index) => ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0))
        : undefined,
    encode: values => Uint8Array.from(values.flatMap(value => [value >>> 8, value & 255])),
  },
  routes: {decode: decodeRoutes, encode: encodeRoutes},
  suboptions: {
    decode: readSuboptions,
    encode: map => Uint8Array.from([...map].flatMap(([code, bytes]) => [code, bytes.length, ...bytes])),
  },
}

const NAMES: ReadonlyMap<number, OptionName> = new Map(
  (Object.keys(OPTIONS) as OptionName[]).map(name => [OPTIONS[name].code, name] as const),
)

function unsigned(length: 1 | 2 | 4): Codec<number> {
  return {
    decode: bytes => (bytes.length === length ? bytes.reduce((value, byte) => value * 256 + byte, 0) : undefined),
    encode(value) {
      const bytes = new Uint8Array(length)
      for (let index = length - 1, rest = value; index >= 0; index--, rest = Math.floor(rest / 256)) bytes[index] = rest % 256
      return bytes
    },
  }
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

function describeValue(name: OptionName | undefined, value: unknown): unknown {
  if (name === 'message_type' && typeof value === 'number') return MESSAGE_TYPES[value] || value
  if (value instanceof Uint8Array) return hexColon(value)
  if (value instanceof Map) return Object.fromEntries([...value].map(([code, bytes]) => [code, hexColon(bytes)]))
  return typeof value === 'string' ? printable(value) : value
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}
