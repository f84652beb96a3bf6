/**
 * Refuses answers that were already seen in this session: a window of 32 sequence numbers behind the highest (IPMI 2.0 §6.12), so
 * that nobody on the BMC network can play an old "is off" again. Numbers ahead are taken whatever the gap: losses are ordinary.
 */

export type ReplayWindow = {accept(sequence: number): boolean}

const WINDOW = 32

export function createReplayWindow(): ReplayWindow {
  let highest = 0
  let seen = 0
  return {
    accept(sequence) {
      if (sequence === 0) return false
      const ahead = sequence - highest
      if (ahead > 0) {
        seen = ahead >= WINDOW ? 1 : ((seen << ahead) | 1) >>> 0
        highest = sequence
        return true
      }
      const bit = -ahead
      if (bit >= WINDOW || (seen >>> bit) & 1) return false
      seen = (seen | (1 << bit)) >>> 0
      return true
    },
  }
}
