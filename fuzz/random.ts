/**
 * Random numbers that a seed and an index determine, so that packet 7 345 123 of a run can be made again without the packets before
 * it. The generator is sfc32 (Chris Doty-Humphrey, PractRand): four words of state, quick, and good enough to fuzz with.
 */

export type Random = {
  /** 0 … n − 1 */
  below(n: number): number
  byte(): number
  /** True once in so many. */
  oneIn(n: number): boolean
  pick<T>(items: readonly T[]): T
  bytes(length: number): Buffer
}

const WARM_UP = 12

export function createRandom(seed: number, index: number): Random {
  let a = mix(seed)
  let b = mix(index)
  let c = mix(Math.floor(index / 0x1_0000_0000) ^ (seed + 0x9e3779b9))
  let counter = 1

  function word(): number {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum
    return sum >>> 0
  }

  for (let round = 0; round < WARM_UP; round++) word()
  const below = (n: number) => Math.floor((word() / 0x1_0000_0000) * n)
  return {
    below,
    byte: () => word() & 255,
    oneIn: n => below(n) === 0,
    pick<T>(items: readonly T[]): T {
      if (items.length === 0) throw new RangeError('nothing to pick from')
      return items[below(items.length)] as T
    },
    bytes(length) {
      const bytes = Buffer.allocUnsafe(length)
      for (let at = 0; at < length; at++) bytes[at] = word() & 255
      return bytes
    },
  }
}

/** The finaliser of MurmurHash3: neighbouring numbers come out unlike each other. */
function mix(value: number): number {
  let hash = value | 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
