/**
 * Blocks: how any number of dhcpd processes serve one dynamic range without asking anybody for each offer.
 *
 * A range is cut into blocks as they are needed. A process claims some, and until they expire only it offers their addresses; it prolongs
 * them while it lives and gives back those in which nothing is left. A block whose owner died is anybody's once it has been expired for
 * as long as an offer lasts, for until then a client may come with one. Order: what was never cut, then the block idle longest.
 *
 * A block is a courtesy between processes, so that they do not offer one address to two clients. That no address is *bound* twice is kept
 * by the bind, which takes the address under `one_holder_per_address` whatever anybody believes of blocks.
 *
 * With nothing to claim a process takes single addresses (`offerDynamic`), also out of the blocks of others: only when that finds none
 * either is a range full.
 */
import {type Ipv4, intToIpv4, ipv4ToInt, type Mac, parseMac} from '../../lib/addresses.ts'
import {type Db, withTx} from '../../lib/db.ts'
import * as store from './store/blocks.ts'

/** As long as an offer lasts (RFC 2131 leaves it open; clients answer within seconds). */
export const OFFER_S = 60
/** As long as a dead process keeps its blocks, OFFER_S apart. */
export const BLOCK_S = 60

/** Few enough to waste little, many enough that claiming costs nothing by comparison. */
const BLOCK_SIZE = 64
/** A small range has at least so many blocks, for several processes to have one each. */
const LEAST_BLOCKS = 16
/** Of a range, in one claim. */
const CLAIM_SHARE = 4

export type Block = {
  readonly id: string
  readonly prefixId: string
  /** Grows with each owner. */
  readonly epoch: number
  /** Free and cooled down when it was claimed; lowest first. */
  readonly free: readonly Ipv4[]
}

export type BlockClaim = {
  readonly prefixId: string
  /** Who claims: one process, from its start to its end. */
  readonly owner: string
  /** How many addresses it would like. It may get more or fewer. */
  readonly addresses: number
  readonly now: Date
}

/** @returns empty when nothing can be claimed */
export function claimBlocks(db: Db, claim: BlockClaim): Promise<Block[]> {
  const {prefixId, owner, now} = claim
  const until = after(now, BLOCK_S)
  return withTx(db, async tx => {
    const ranges = await store.lockBlocks(tx, prefixId)
    const size = blockSize(ranges)
    const share = Math.max(1, Math.floor(blockCount(ranges, size) / CLAIM_SHARE))
    const wanted = Math.min(Math.ceil(claim.addresses / size), share)
    const claimed: store.BlockRow[] = []
    for (const range of ranges) {
      const spans = cut(range, size, wanted - claimed.length)
      if (spans.length > 0) claimed.push(...(await store.insertBlocks(tx, range.id, spans, owner, until)))
    }
    if (claimed.length < wanted) {
      const ids = ranges.map(range => range.id)
      const times = {now, until, deadSince: after(now, -OFFER_S)}
      claimed.push(...(await store.takeOverBlocks(tx, ids, wanted - claimed.length, owner, times)))
    }
    if (claimed.length === 0) return []
    const notFree = new Set(await store.selectNotFree(tx, prefixId, claimed, now))
    return claimed.map(({id, epoch, first, last}) => ({
      id,
      prefixId,
      epoch,
      free: addressesOf(first, last).filter(address => !notFree.has(address)),
    }))
  })
}

/** @returns those that are still this owner's */
export function prolongBlocks(db: Db, ids: readonly string[], owner: string, now: Date): Promise<string[]> {
  return store.prolongBlocks(db, ids, owner, after(now, BLOCK_S))
}

/** For anybody to claim at once: the owner has no offer out in them. */
export function giveBackBlocks(db: Db, ids: readonly string[], owner: string, now: Date): Promise<void> {
  return store.disownBlocks(db, ids, owner, now)
}

/** What a dynamic client holds, or held last when `left_s` is 0. */
export type KnownLease = {readonly mac: Mac; readonly address: Ipv4; readonly prefixId: string; readonly left_s: number}

const PAGE = 2_000

/** Every dynamic client there is, so that one who returns is offered what it had. */
export async function* knownLeases(db: Db): AsyncGenerator<KnownLease[]> {
  for (let last = 0; ; ) {
    const rows = await store.selectDynamicLeases(db, last, PAGE)
    if (rows.length > 0) yield rows.flatMap(toKnown)
    if (rows.length < PAGE) return
    last = rows.at(-1)?.address_id ?? last
  }
}

/** Those that other processes bound of late. */
export async function leasesOfOthers(db: Db, owner: string, since: Date): Promise<KnownLease[]> {
  return (await store.selectLeasesOfOthers(db, owner, since)).flatMap(toKnown)
}

function toKnown(row: store.HeldLease): KnownLease[] {
  const mac = parseMac(row.mac)
  return mac === undefined ? [] : [{mac, address: row.address, prefixId: row.prefix_id, left_s: row.left_s}]
}

/** As many blocks of what was never cut, up to `most`. */
function cut(range: store.CutRange, size: number, most: number): {first: Ipv4; last: Ipv4}[] {
  const end = ipv4ToInt(range.last)
  const spans: {first: Ipv4; last: Ipv4}[] = []
  let from = Math.max(ipv4ToInt(range.first), range.cut === null ? 0 : ipv4ToInt(range.cut) + 1)
  for (; from <= end && spans.length < most; from += size) {
    spans.push({first: intToIpv4(from), last: intToIpv4(Math.min(from + size - 1, end))})
  }
  return spans
}

function blockSize(ranges: readonly store.CutRange[]): number {
  const addresses = ranges.reduce((sum, range) => sum + spanOf(range), 0)
  return Math.max(1, Math.min(BLOCK_SIZE, Math.floor(addresses / LEAST_BLOCKS)))
}

function blockCount(ranges: readonly store.CutRange[], size: number): number {
  return ranges.reduce((sum, range) => sum + Math.ceil(spanOf(range) / size), 0)
}

function spanOf({first, last}: {readonly first: Ipv4; readonly last: Ipv4}): number {
  return ipv4ToInt(last) - ipv4ToInt(first) + 1
}

function addressesOf(first: Ipv4, last: Ipv4): Ipv4[] {
  return Array.from({length: spanOf({first, last})}, (_, index) => intToIpv4(ipv4ToInt(first) + index))
}

function after(now: Date, seconds: number): Date {
  return new Date(now.getTime() + seconds * 1000)
}
