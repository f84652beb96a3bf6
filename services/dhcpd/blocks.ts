/**
 * The port through which dhcpd gets addresses to offer: blocks of dynamic ranges that are this process's alone until they expire.
 * Every function rejects when nothing can be committed; with no block at hand each offer is asked for (`Leases.offerDynamic`).
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'

export type Block = {
  readonly id: string
  readonly prefixId: string
  /** Nobody's, and cooled down, when the block was claimed. In the order in which to offer them. */
  readonly free: readonly Ipv4[]
}

/** What a client holds, or held last when `left_s` is 0. */
export type KnownLease = {readonly mac: Mac; readonly address: Ipv4; readonly prefixId: string; readonly left_s: number}

export type Blocks = {
  /** How long a block is ours from when it was claimed or prolonged. */
  readonly lasts_s: number
  /** How often to prolong them: well before they end. */
  readonly prolongEvery_ms: number
  /** @param addresses how many would be welcome; @returns empty when there is nothing to claim */
  claim(prefixId: string, addresses: number): Promise<readonly Block[]>
  /** @returns those that are still ours */
  prolong(ids: readonly string[]): Promise<readonly string[]>
  giveBack(ids: readonly string[]): Promise<void>
  /** Every dynamic client there is, a page at a time. */
  known(): AsyncIterable<readonly KnownLease[]>
  /** Those that other processes bound since it was last asked. */
  news(): Promise<readonly KnownLease[]>
}

/** How long an offer is kept for its client. */
export const OFFER_S = 60
