/**
 * MAC and IP addresses as branded types, behind a strict gate. `ipaddr.js` reads `010.1.1.1` as octal and `10.1` as `10.0.0.1`;
 * here only the canonical dotted quad passes. Set arithmetic over prefixes belongs to PostgreSQL.
 */
import ipaddr from 'ipaddr.js'

declare const brand: unique symbol
type Branded<T, B extends string> = T & {readonly [brand]: B}

/** Lower-case, colon-separated, 6 octets. */
export type Mac = Branded<string, 'Mac'>
/** Canonical dotted quad. */
export type Ipv4 = Branded<string, 'Ipv4'>
/** Canonical RFC 5952 text. */
export type Ipv6 = Branded<string, 'Ipv6'>
/** `address/length` with no host bits set. */
export type Cidr = Branded<string, 'Cidr'>

/** Accepts `:`, `-` or no separators; refuses multicast and all-zero addresses, which identify nobody. */
export function parseMac(text: string): Mac | undefined {
  const match = /^([0-9a-f]{2})([:-]?)([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})$/i.exec(text)
  if (!match) return undefined
  const octets = [match[1], match[3], match[4], match[5], match[6], match[7]].map(octet => (octet ?? '').toLowerCase())
  if (octets.every(octet => octet === '00') || (Number.parseInt(octets[0] ?? '1', 16) & 1) === 1) return undefined
  return octets.join(':') as Mac
}

export function parseIpv4(text: string): Ipv4 | undefined {
  const parts = text.split('.')
  if (parts.length !== 4 || !parts.every(part => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) return undefined
  return text as Ipv4
}

export function parseIpv6(text: string): Ipv6 | undefined {
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  return ipaddr.IPv6.parse(text).toRFC5952String() as Ipv6
}

/** A network in canonical form; undefined when host bits are set or the length is out of range. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.lastIndexOf('/')
  const address = text.slice(0, slash)
  const lengthText = text.slice(slash + 1)
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(lengthText)) return undefined
  const length = Number(lengthText)
  const ipv4 = parseIpv4(address)
  if (ipv4) {
    if (length > 32) return undefined
    const mask = maskBits(length)
    return (ipv4ToInt(ipv4) & mask) >>> 0 === ipv4ToInt(ipv4) ? (`${ipv4}/${length}` as Cidr) : undefined
  }
  const ipv6 = parseIpv6(address)
  if (!ipv6 || length > 128) return undefined
  const network = ipaddr.IPv6.networkAddressFromCIDR(`${ipv6}/${length}`).toRFC5952String()
  return network === ipv6 ? (`${ipv6}/${length}` as Cidr) : undefined
}

/** Unsigned 32-bit value of an address, for comparisons and the wire. */
export function ipv4ToInt(address: Ipv4): number {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0
}

export function intToIpv4(value: number): Ipv4 {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.') as Ipv4
}

/** `"10.0.0.0/22"` → `"255.255.252.0"`. IPv4 only. */
export function netmask(cidr: Cidr): Ipv4 {
  return intToIpv4(maskBits(prefixLength(cidr)))
}

export function prefixLength(cidr: Cidr): number {
  return Number(cidr.slice(cidr.lastIndexOf('/') + 1))
}

/** The last address of an IPv4 network. */
export function broadcastAddress(cidr: Cidr): Ipv4 {
  const network = cidr.slice(0, cidr.lastIndexOf('/')) as Ipv4
  return intToIpv4((ipv4ToInt(network) | ~maskBits(prefixLength(cidr))) >>> 0)
}

export function isIpv4Cidr(cidr: Cidr): boolean {
  return !cidr.includes(':')
}

/** Whether an IPv4 address lies in an IPv4 network; false across families. */
export function cidrContains(cidr: Cidr, address: Ipv4): boolean {
  if (!isIpv4Cidr(cidr)) return false
  const network = ipv4ToInt(cidr.slice(0, cidr.lastIndexOf('/')) as Ipv4)
  return (ipv4ToInt(address) & maskBits(prefixLength(cidr))) >>> 0 === network
}

function maskBits(length: number): number {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
}
