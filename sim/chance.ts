/** Chance for a whole rack: one seed gives the same machines, the same faults and the same deaths again. Pure. */
import {createRandom} from './random.ts'

export type Chance = {
  /** from 0 to below 1 */
  next(): number
  /** true with this probability */
  chance(share: number): boolean
  /** an integer from `least` to below `below` */
  integer(least: number, below: number): number
  pick<T>(from: readonly T[]): T
  /** A stream of its own, which what is drawn elsewhere does not shift. */
  fork(...labels: readonly (string | number)[]): Chance
}

export function createChance(seed: number): Chance {
  const next = createRandom(seed)
  return {
    next,
    chance: share => next() < share,
    integer: (least, below) => least + Math.floor(next() * (below - least)),
    pick(from) {
      const [chosen] = from.slice(Math.floor(next() * from.length))
      if (chosen === undefined) throw new Error('nothing to pick from')
      return chosen
    },
    fork: (...labels) => createChance(hash(`${seed}/${labels.join('/')}`)),
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193) >>> 0
  return value
}
