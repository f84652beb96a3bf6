/** Addresses of both families as integers, and what of a network may be handed out. Pure. */
import {type Cidr, type Ipv4, type Ipv6, intToIpv4, ipv4ToInt, parseIpv4, parseIpv6, prefixLength} from '../../lib/addresses.ts'

export type IpAddress = Ipv4 | Ipv6
/** Both ends included. */
export type Span = {readonly family: 4 | 6; readonly first: bigint; readonly last: bigint}

export function parseAddress(text: string): IpAddress | undefined {
  return parseIpv4(text) ?? parseIpv6(text)
}

export function familyOf(text: string): 4 | 6 {
  return text.includes(':') ? 6 : 4
}

/** Every address of a network. */
export function wholeSpan(cidr: Cidr): Span {
  const family = familyOf(cidr)
  const first = addressToInt(cidr.slice(0, cidr.lastIndexOf('/')) as IpAddress)
  const hostBits = BigInt((family === 4 ? 32 : 128) - prefixLength(cidr))
  return {family, first, last: first + (1n << hostBits) - 1n}
}

/**
 * What may be handed out: all but network and broadcast of an IPv4 network, all but the subnet-router anycast address (RFC 4291 §2.6.1)
 * of an IPv6 one. Networks of one or two addresses are used whole (RFC 3021, RFC 6164).
 */
export function usableSpan(cidr: Cidr): Span {
  const {family, first, last} = wholeSpan(cidr)
  if (last - first < 2n) return {family, first, last}
  return {family, first: first + 1n, last: family === 4 ? last - 1n : last}
}

export function spanContains(span: Span, address: IpAddress): boolean {
  const value = addressToInt(address)
  return familyOf(address) === span.family && value >= span.first && value <= span.last
}

export function addressToInt(address: IpAddress): bigint {
  if (familyOf(address) === 4) return BigInt(ipv4ToInt(address as Ipv4))
  const [head = '', tail] = expandDottedEnd(address).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n)
}

export function intToAddress(value: bigint, family: 4 | 6): IpAddress {
  if (family === 4) return intToIpv4(Number(value))
  const digits = value.toString(16).padStart(32, '0')
  const address = parseIpv6(digits.replace(/(.{4})(?!$)/g, '$1:'))
  if (!address) throw new Error(`${value} is not an IPv6 address`)
  return address
}

/** `::ffff:10.0.0.1` → `::ffff:a00:1` */
function expandDottedEnd(address: string): string {
  const colon = address.lastIndexOf(':')
  const ipv4 = parseIpv4(address.slice(colon + 1))
  if (!ipv4) return address
  const value = ipv4ToInt(ipv4)
  return `${address.slice(0, colon)}:${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`
}
