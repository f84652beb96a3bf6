/**
 * Where a webhook may go. Pure. A URL is what somebody typed, and its name resolves to whatever its owner says today: so the address is
 * judged, not the name, and the connection goes to the very address that was judged.
 *
 * Link-local addresses never: that is where clouds keep credentials. Loopback and private networks only where the operator's list has
 * them. IPv6 addresses that carry an IPv4 address (mapped, NAT64, 6to4) are judged by that one too.
 */
import {BlockList, isIP} from 'node:net'

export type Judgement = {readonly allowed: true} | {readonly blocked: string}

/** Ranges of RFC 6890 and its successors that nothing outside this network answers on. */
const NEVER: readonly (readonly [range: string, what: string])[] = [
  ['169.254.0.0/16', 'link-local'],
  ['fe80::/10', 'link-local'],
  ['0.0.0.0/8', 'unspecified'],
  ['::/128', 'unspecified'],
  ['224.0.0.0/4', 'multicast'],
  ['ff00::/8', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['2001::/32', 'a tunnel (Teredo)'],
]
const ONLY_LISTED: readonly (readonly [range: string, what: string])[] = [
  ['127.0.0.0/8', 'loopback'],
  ['::1/128', 'loopback'],
  ['10.0.0.0/8', 'private'],
  ['172.16.0.0/12', 'private'],
  ['192.168.0.0/16', 'private'],
  ['100.64.0.0/10', 'shared (RFC 6598)'],
  ['192.0.0.0/24', 'special (RFC 6890)'],
  ['198.18.0.0/15', 'for benchmarks'],
  ['fc00::/7', 'private'],
  ['fec0::/10', 'site-local'],
]

/** @param allowed ranges of the operator's list */
export function judgeAddress(address: string, allowed: readonly string[]): Judgement {
  const plain = address.replace(/%.*$/, '')
  if (isIP(plain) === 0) return {blocked: `${address} is no address`}
  for (const one of [plain, ...carried(plain)]) {
    const never = NEVER.find(([range]) => isIn(one, range))
    if (never) return {blocked: `${address} is ${never[1]}`}
    const listed = ONLY_LISTED.find(([range]) => isIn(one, range))
    if (listed && !allowed.some(range => isIn(one, range)))
      return {blocked: `${address} is ${listed[1]}, and not in the list of allowed networks`}
  }
  return {allowed: true}
}

/** Lines of ranges; `#` begins a comment. @returns the first line that is none, under `wrong` */
export function parseAllowed(text: string): {readonly ranges: readonly string[]} | {readonly wrong: string} {
  const lines = text
    .split('\n')
    .map(line => line.replace(/#.*$/, '').trim())
    .filter(Boolean)
  const wrong = lines.find(line => !isRange(line))
  return wrong === undefined ? {ranges: lines} : {wrong}
}

function isRange(text: string): boolean {
  const [network = '', bits = '', ...rest] = text.split('/')
  const family = isIP(network)
  return family !== 0 && rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)
}

function isIn(address: string, range: string): boolean {
  const [network = '', bits = ''] = range.split('/')
  const family = isIP(network)
  if (family !== isIP(address)) return false
  const list = new BlockList()
  list.addSubnet(network, Number(bits), family === 4 ? 'ipv4' : 'ipv6')
  return list.check(address, family === 4 ? 'ipv4' : 'ipv6')
}

/** The IPv4 address inside an IPv6 one: ::ffff:0:0/96 and ::/96, 64:ff9b::/96, 2002::/16. */
function carried(address: string): string[] {
  if (isIP(address) !== 6) return []
  const words = wordsOf(address)
  const dotted = (high = 0, low = 0) => `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
  const zeros = (from: number, until: number) => words.slice(from, until).every(word => word === 0)
  if (zeros(0, 5) && (words[5] === 0xffff || words[5] === 0) && !(zeros(5, 7) && (words[7] ?? 0) <= 1)) {
    return [dotted(words[6], words[7])]
  }
  if (words[0] === 0x64 && words[1] === 0xff9b) return [dotted(words[6], words[7])]
  return words[0] === 0x2002 ? [dotted(words[1], words[2])] : []
}

function wordsOf(address: string): number[] {
  const text = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, a, b, c, d) => {
    const word = (high: string, low: string) => ((Number(high) << 8) | Number(low)).toString(16)
    return `${word(a, b)}:${word(c, d)}`
  })
  const [head = '', tail] = text.split('::')
  const parse = (part: string) => (part === '' ? [] : part.split(':').map(word => Number.parseInt(word, 16)))
  const [left, right] = [parse(head), parse(tail ?? '')]
  return tail === undefined ? left : [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right]
}
