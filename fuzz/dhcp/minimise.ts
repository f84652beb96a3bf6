/** Makes a failing packet smaller while it still fails in the same way: cuts its end, takes pieces out, zeroes the rest. */
import type {FuzzPacket} from './mutations.ts'
import {type StretchOptions, tryAlone} from './stretch.ts'

const MOST_TRIES = 3000

/**
 * @returns the smaller packet, or undefined when the packet alone does not fail: it needs what came before it
 */
export async function minimise(packet: FuzzPacket, what: string, create?: StretchOptions['create']): Promise<Buffer | undefined> {
  const kind = kindOf(what)
  let tries = 0
  const fails = async (bytes: Buffer) => {
    tries++
    return (await tryAlone({...packet, bytes}, create)).some(found => kindOf(found) === kind)
  }
  let best = packet.bytes
  if (!(await fails(best))) return undefined

  async function attempt(bytes: Buffer): Promise<boolean> {
    if (tries >= MOST_TRIES || bytes.equals(best) || !(await fails(bytes))) return false
    best = bytes
    return true
  }

  for (let size = best.length >> 1; size >= 1; size >>= 1) {
    for (let at = best.length - size; at >= 0; at -= size) {
      await attempt(Buffer.concat([best.subarray(0, at), best.subarray(at + size)]))
    }
  }
  for (let size = 64; size >= 1; size >>= 2) {
    for (let at = 0; at < best.length; at += size) {
      const zeroed = Buffer.from(best)
      zeroed.fill(0, at, Math.min(at + size, best.length))
      await attempt(zeroed)
    }
  }
  return best
}

/** What a failure is, without the figures of this one: `W34 option 82 comes back whole …`. */
export function kindOf(what: string): string {
  return what.split(/[:[]/, 1)[0]?.replace(/\d+/g, '#') ?? what
}
