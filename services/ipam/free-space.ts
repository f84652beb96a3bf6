/**
 * What of a container is free, as its largest aligned blocks: like a buddy allocator. Pure.
 *
 * A block splits into its two halves; two free halves of one block are that block again. A request takes the smallest block that it fits
 * into, so that large blocks stay whole: of a /16 with one /31 out of it, a /17 is still to be had.
 */
import {type Cidr, prefixLength} from '../../lib/addresses.ts'
import {familyOf, intToAddress, type Span, wholeSpan} from './integers.ts'

/** The two halves of a network, lower first. A single address has none. */
export function halvesOf(cidr: Cidr): readonly [Cidr, Cidr] {
  const {family, first, last} = wholeSpan(cidr)
  const length = prefixLength(cidr) + 1
  if (first === last) throw new Error(`${cidr} has no halves`)
  const middle = first + (last - first + 1n) / 2n
  return [toCidr(first, length, family), toCidr(middle, length, family)]
}

/** The block that, together with this one, is the block of twice the size; undefined for the whole address space. */
export function buddyOf(cidr: Cidr): Cidr | undefined {
  const {family, first, last} = wholeSpan(cidr)
  const length = prefixLength(cidr)
  return length === 0 ? undefined : toCidr(first ^ (last - first + 1n), length, family)
}

/** The block around this one, twice its size. */
export function doubleOf(cidr: Cidr): Cidr {
  const {family, first, last} = wholeSpan(cidr)
  const size = (last - first + 1n) * 2n
  return toCidr((first / size) * size, prefixLength(cidr) - 1, family)
}

/** The lowest network of a length in a block. */
export function lowestIn(block: Cidr, length: number): Cidr {
  const {family, first} = wholeSpan(block)
  return toCidr(first, length, family)
}

/** What stays free of a block when a network in it is taken: one block of each size between the two, lowest first. */
export function without(block: Cidr, taken: Cidr): Cidr[] {
  const rest: Cidr[] = []
  let around = block
  while (around !== taken) {
    const [low, high] = halvesOf(around)
    const inLow = contains(low, taken)
    if (!inLow && !contains(high, taken)) throw new Error(`${taken} is not in ${block}`)
    rest.push(inLow ? high : low)
    around = inLow ? low : high
  }
  return rest.toSorted(byAddress)
}

/** The free blocks of a container with these children, none of which overlap; lowest first. */
export function freeAround(container: Cidr, children: readonly Cidr[]): Cidr[] {
  const whole = wholeSpan(container)
  const taken = children.map(wholeSpan).toSorted((a, b) => (a.first < b.first ? -1 : 1))
  const free: Cidr[] = []
  /** @param from, to of `taken`: those that lie in the block */
  const walk = (first: bigint, size: bigint, length: number, from: number, to: number): void => {
    if (from === to) {
      free.push(toCidr(first, length, whole.family))
      return
    }
    const child = taken[from]
    if (child && child.first === first && child.last === first + size - 1n) return
    const half = size / 2n
    let middle = from
    while (middle < to && (taken[middle]?.first ?? 0n) < first + half) middle++
    walk(first, half, length + 1, from, middle)
    walk(first + half, half, length + 1, middle, to)
  }
  walk(whole.first, whole.last - whole.first + 1n, prefixLength(container), 0, taken.length)
  return free
}

export function contains(outer: Cidr, inner: Cidr): boolean {
  if (familyOf(outer) !== familyOf(inner)) return false
  const [a, b] = [wholeSpan(outer), wholeSpan(inner)]
  return a.first <= b.first && b.last <= a.last
}

/** How many addresses, as the nearest double. */
export function sizeOf(cidr: Cidr): number {
  return 2 ** ((familyOf(cidr) === 4 ? 32 : 128) - prefixLength(cidr))
}

function byAddress(a: Cidr, b: Cidr): number {
  return wholeSpan(a).first < wholeSpan(b).first ? -1 : 1
}

function toCidr(first: bigint, length: number, family: Span['family']): Cidr {
  return `${intToAddress(first, family)}/${length}` as Cidr
}
