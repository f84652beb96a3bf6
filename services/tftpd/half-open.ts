/**
 * Who has asked but not answered yet, bounded in all and per client address. Anyone can send a request in another's name, so these
 * cost us a socket each until the client proves that it is there; the oldest make room for the newest, and an honest client is through
 * after one round trip.
 */

export type HalfOpen<T> = {
  /** @returns who must go to make room, if anybody */
  add(address: string, entry: T): T | undefined
  remove(address: string, entry: T): void
  size(): number
}

export function createHalfOpen<T>(limits: {readonly halfOpen: number; readonly halfOpenPerAddress: number}): HalfOpen<T> {
  const all = new Map<T, string>()
  const byAddress = new Map<string, Set<T>>()

  function remove(address: string, entry: T): void {
    if (!all.delete(entry)) return
    const peers = byAddress.get(address)
    peers?.delete(entry)
    if (peers?.size === 0) byAddress.delete(address)
  }

  return {
    add(address, entry) {
      const peers = byAddress.get(address) ?? new Set()
      const crowded = peers.size >= limits.halfOpenPerAddress ? peers : all.size >= limits.halfOpen ? all.keys() : []
      const [oldest] = crowded
      if (oldest !== undefined) remove(all.get(oldest) ?? address, oldest)
      all.set(entry, address)
      byAddress.set(address, (byAddress.get(address) ?? peers).add(entry))
      return oldest
    },
    remove,
    size: () => all.size,
  }
}
