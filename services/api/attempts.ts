/**
 * Limits guessing: after a number of wrong tokens from one place in a minute it is locked out for a minute. A token that has been right
 * before goes on working meanwhile, so that one guesser on a shared host does not shut out those who know theirs. Bounded in memory.
 */
import {parseIpv6} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'

export const FAILURES_AT_MOST = 10
const WINDOW_MS = 60_000
const PLACES_AT_MOST = 10_000
const KNOWN_AT_MOST = 1_000

export type Attempts = {
  /** @returns seconds to wait, 0 when it may try */
  lockedFor(place: string, tokenHash: string): number
  failed(place: string, tokenHash: string): void
  succeeded(tokenHash: string): void
}

export function createAttempts(clock: Clock): Attempts {
  const failures = new Map<string, {count: number; since: number}>()
  const known = new Set<string>()
  return {
    lockedFor(place, tokenHash) {
      if (known.has(tokenHash)) return 0
      const seen = failures.get(place)
      if (!seen) return 0
      const left = seen.since + WINDOW_MS - clock.monotonicMs()
      if (left <= 0) failures.delete(place)
      return left > 0 && seen.count >= FAILURES_AT_MOST ? Math.ceil(left / 1000) : 0
    },
    failed(place, tokenHash) {
      // Once right, now revoked or expired: it has no privilege any more.
      known.delete(tokenHash)
      const now = clock.monotonicMs()
      const seen = failures.get(place)
      if (seen && now - seen.since < WINDOW_MS) {
        seen.count++
        // The lock-out runs from its last straw.
        if (seen.count >= FAILURES_AT_MOST) seen.since = now
        return
      }
      if (failures.size >= PLACES_AT_MOST) failures.delete(failures.keys().next().value ?? '')
      failures.delete(place)
      failures.set(place, {count: 1, since: now})
    },
    succeeded(tokenHash) {
      if (known.has(tokenHash)) return
      if (known.size >= KNOWN_AT_MOST) known.delete(known.keys().next().value ?? '')
      known.add(tokenHash)
    },
  }
}

/** Whom failures are counted against: an IPv4 address, an IPv6 /64 (one customer has all of it), or everybody on the Unix socket. */
export function placeOf(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined || remoteAddress === '') return 'unix'
  const mapped = /^::ffff:([0-9.]+)$/.exec(remoteAddress)?.[1]
  if (mapped) return mapped
  const ipv6 = parseIpv6(remoteAddress.split('%')[0] ?? '')
  return ipv6 ? `${first64(ipv6)}::/64` : remoteAddress
}

function first64(address: string): string {
  const [head = '', tail] = address.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill('0'), ...right]
  return groups.slice(0, 4).join(':')
}
