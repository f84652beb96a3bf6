/**
 * Which address a dynamic client is offered, from memory: DISCOVER waits for nothing while a block is held.
 *
 * In order (RFC 2131 §4.3.1): what it was offered a moment ago; what it has, or had last; what it asks for, if that is in our blocks; the
 * next of our blocks. What a client had before is offered wherever it lies: the bind tells whether it is still to be had.
 *
 * Addresses come in blocks. When few are left more are claimed in the background, more at a time the more often a client had to wait.
 * An offer that nobody took within a minute goes to the end of the queue; a block in which nothing is left goes back. With nothing to
 * claim single addresses are asked for, one after the other; whoever asks in the second after a "full" hears the same.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {type Clock, sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type Block, type Blocks, OFFER_S} from './blocks.ts'
import type {LeaseMemory} from './lease-memory.ts'
import type {BindRequest, Leases, OfferRequest} from './leases.ts'

export type Offered = Ipv4 | 'full' | 'away'

export type Offers = {
  /** At once where memory suffices, else when storage answered. */
  offer(request: OfferRequest): Offered | Promise<Offered>
  /** For a REQUEST: the address it was offered; else the one it names, if that can still be had. */
  confirm(request: OfferRequest): Offered | Promise<Offered>
  /** What the client was offered that address as, if it was. */
  offeredAs(mac: Mac, address: Ipv4): BindRequest['offered']
  /** The bind came back: the address is the client's now, or somebody else's. */
  settled(mac: Mac): void
  /** The client chose another server: its address is free again. */
  withdraw(mac: Mac): void
  /** Learns what clients have, then keeps the blocks alive. Resolves when the first is done, or cannot be. */
  start(): Promise<void>
  stop(): Promise<void>
}

type HeldBlock = {readonly id: string; readonly prefixId: string; endsMs: number /** Free or out with an offer. */; left: number}
type Offer = {
  readonly address: Ipv4
  readonly prefixId: string
  /** Undefined when it is none of ours: what the client had before. */
  readonly block: HeldBlock | undefined
  /** It never was this client's, as far as is known here. */
  readonly fresh: boolean
  untilMs: number
}
type Waiter = {readonly request: OfferRequest; readonly resolve: (offered: Offered) => void}
type Pool = {
  /** In the order in which they are offered. */
  readonly free: Map<Ipv4, HeldBlock>
  /** How many to have at hand. */
  target: number
  claiming: boolean
  emptyUntilMs: number
  fullUntilMs: number
  readonly waiting: Waiter[]
}

const FIRST_TARGET = 256
const MOST_TARGET = 8192
/** Below this share of the target more are claimed. */
const LOW = 1 / 2
const EMPTY_MS = 1_000
const FULL_MS = 1_000
const MOST_WAITING = 4096
/** Requests for addresses we know nothing of, at once: a flood of them must leave connections to those who bind. */
const MOST_ASKING = 4

export type OffersDeps = {
  readonly blocks: Blocks
  readonly leases: Pick<Leases, 'offerDynamic'>
  readonly memory: LeaseMemory
  readonly clock: Clock
  readonly log: Log
}

export function createOffers({blocks, leases, memory, clock, log}: OffersDeps): Offers {
  const pools = new Map<string, Pool>()
  const held = new Map<string, HeldBlock>()
  /** Oldest first: an offer that is repeated goes to the end. */
  const offers = new Map<Mac, Offer>()
  const offeredTo = new Map<Ipv4, Mac>()
  const stopping = new AbortController()
  let keeping: Promise<void> = Promise.resolve()
  let asking = 0

  function offer(request: OfferRequest): Offered | Promise<Offered> {
    return fromMemory(request) ?? fromBlocks(request)
  }

  function confirm(request: OfferRequest): Offered | Promise<Offered> {
    const known = fromMemory(request)
    if (known !== undefined || request.requested === null) return known ?? fromBlocks(request)
    if (asking >= MOST_ASKING) return 'away'
    asking++
    return leases
      .offerDynamic(request)
      .catch(() => 'away' as const)
      .finally(() => asking--)
  }

  function fromMemory(request: OfferRequest): Ipv4 | undefined {
    const {mac, prefixId, requested} = request
    takeBackLapsed()
    const standing = offers.get(mac)
    if (standing?.prefixId === prefixId) return keep(mac, standing)
    const pool = poolOf(prefixId)
    const before = memory.lookUp(mac)
    if (before?.prefixId === prefixId && !isOfferedElsewhere(before.address, mac)) {
      const block = pool.free.get(before.address)
      pool.free.delete(before.address)
      return keep(mac, {address: before.address, prefixId, block, fresh: false, untilMs: 0})
    }
    const block = requested === null ? undefined : pool.free.get(requested)
    if (requested === null || block === undefined || block.endsMs <= clock.monotonicMs()) return undefined
    pool.free.delete(requested)
    return keep(mac, {address: requested, prefixId, block, fresh: true, untilMs: 0})
  }

  function fromBlocks(request: OfferRequest): Ipv4 | 'full' | Promise<Offered> {
    const pool = poolOf(request.prefixId)
    const address = next(request, pool)
    if (pool.free.size < pool.target * LOW) refill(request.prefixId, pool)
    if (address !== undefined) return address
    if (clock.monotonicMs() < pool.fullUntilMs) return 'full'
    if (pool.waiting.length >= MOST_WAITING) return Promise.resolve('away')
    return new Promise(resolve => {
      pool.waiting.push({request, resolve})
      refill(request.prefixId, pool)
    })
  }

  function next(request: OfferRequest, pool: Pool): Ipv4 | undefined {
    const nowMs = clock.monotonicMs()
    for (const [address, block] of pool.free) {
      pool.free.delete(address)
      if (block.endsMs <= nowMs) block.left--
      else return keep(request.mac, {address, prefixId: request.prefixId, block, fresh: true, untilMs: 0})
    }
    return undefined
  }

  function keep(mac: Mac, given: Offer): Ipv4 {
    const before = offers.get(mac)
    if (before !== undefined && before !== given) putBack(mac, before)
    offers.delete(mac)
    given.untilMs = clock.monotonicMs() + OFFER_S * 1000
    offers.set(mac, given)
    offeredTo.set(given.address, mac)
    return given.address
  }

  function isOfferedElsewhere(address: Ipv4, mac: Mac): boolean {
    const to = offeredTo.get(address)
    return to !== undefined && to !== mac
  }

  function takeBackLapsed(): void {
    const nowMs = clock.monotonicMs()
    for (const [mac, given] of offers) {
      if (given.untilMs > nowMs) return
      putBack(mac, given)
    }
  }

  /** The address may be offered again, if it came from a block of ours and nothing else is known of it. */
  function putBack(mac: Mac, {address, block, prefixId}: Offer): void {
    offers.delete(mac)
    if (offeredTo.get(address) === mac) offeredTo.delete(address)
    if (block === undefined) return
    if (block.endsMs > clock.monotonicMs()) poolOf(prefixId).free.set(address, block)
    else block.left--
  }

  /** The address is gone from its block: bound, or taken by somebody else. */
  function settled(mac: Mac): void {
    const given = offers.get(mac)
    if (given === undefined) return
    offers.delete(mac)
    if (offeredTo.get(given.address) === mac) offeredTo.delete(given.address)
    if (given.block !== undefined) given.block.left--
  }

  function poolOf(prefixId: string): Pool {
    const known = pools.get(prefixId)
    if (known !== undefined) return known
    const pool: Pool = {free: new Map(), target: FIRST_TARGET, claiming: false, emptyUntilMs: 0, fullUntilMs: 0, waiting: []}
    pools.set(prefixId, pool)
    return pool
  }

  /** One claim at a time for each prefix; it serves those who wait, or sends them to ask for single addresses. */
  function refill(prefixId: string, pool: Pool): void {
    if (pool.claiming || stopping.signal.aborted) return
    if (pool.waiting.length === 0 && clock.monotonicMs() < pool.emptyUntilMs) return
    if (pool.waiting.length > 0) pool.target = Math.min(pool.target * 2, MOST_TARGET)
    pool.claiming = true
    void claim(prefixId, pool)
      .catch(error => {
        log.debug({reason: messageOf(error)}, 'no block could be claimed')
        for (const waiter of pool.waiting.splice(0)) waiter.resolve('away')
      })
      .finally(() => {
        pool.claiming = false
        if (pool.waiting.length > 0) refill(prefixId, pool)
      })
  }

  async function claim(prefixId: string, pool: Pool): Promise<void> {
    if (clock.monotonicMs() >= pool.emptyUntilMs) {
      const beganMs = clock.monotonicMs()
      const claimed = await blocks.claim(prefixId, Math.max(1, pool.target - pool.free.size, pool.waiting.length))
      for (const block of claimed) hold(block, pool, beganMs + blocks.lasts_s * 1000)
      if (claimed.length === 0) pool.emptyUntilMs = clock.monotonicMs() + EMPTY_MS
    }
    for (const waiter of pool.waiting.splice(0)) {
      const found = fromMemory(waiter.request) ?? next(waiter.request, pool)
      if (found !== undefined) waiter.resolve(found)
      else if (clock.monotonicMs() < pool.emptyUntilMs) waiter.resolve(await askForOne(waiter.request, pool))
      // The claim brought fewer than wait, and none of them may be waited for in here: the next claim is theirs.
      else pool.waiting.push(waiter)
    }
  }

  function hold(block: Block, pool: Pool, endsMs: number): void {
    const taken: HeldBlock = {id: block.id, prefixId: block.prefixId, endsMs, left: 0}
    for (const address of block.free) {
      if (offeredTo.has(address)) continue
      pool.free.set(address, taken)
      taken.left++
    }
    held.set(block.id, taken)
  }

  async function askForOne(request: OfferRequest, pool: Pool): Promise<Offered> {
    if (clock.monotonicMs() < pool.fullUntilMs) return 'full'
    const offered = await leases.offerDynamic(request).catch(() => 'away' as const)
    if (offered === 'full') pool.fullUntilMs = clock.monotonicMs() + FULL_MS
    return offered
  }

  async function learn(): Promise<void> {
    for await (const page of blocks.known()) for (const lease of page) memory.hint(lease.mac, lease)
  }

  async function keepBlocks(): Promise<void> {
    while (!stopping.signal.aborted) {
      await sleep(blocks.prolongEvery_ms, stopping.signal)
      if (stopping.signal.aborted) return
      try {
        await prolong()
        for (const lease of await blocks.news()) memory.hint(lease.mac, lease)
      } catch (error) {
        log.debug({reason: messageOf(error)}, 'blocks could not be prolonged')
      }
    }
  }

  async function prolong(): Promise<void> {
    takeBackLapsed()
    const nowMs = clock.monotonicMs()
    const empty = [...held.values()].filter(block => block.left === 0)
    for (const block of empty) held.delete(block.id)
    if (empty.length > 0) await blocks.giveBack(empty.map(block => block.id))
    if (held.size === 0) return
    const asked = [...held.values()]
    const ours = new Set(await blocks.prolong(asked.map(block => block.id)))
    for (const block of asked) {
      if (ours.has(block.id)) block.endsMs = nowMs + blocks.lasts_s * 1000
      else {
        block.endsMs = 0
        held.delete(block.id)
      }
    }
  }

  return {
    offer,
    confirm,
    offeredAs: (mac, address) => {
      const given = offers.get(mac)
      return given?.address === address ? (given.fresh ? 'new' : 'before') : undefined
    },
    settled,
    withdraw(mac) {
      const given = offers.get(mac)
      if (given !== undefined) putBack(mac, given)
    },
    async start() {
      await learn().catch(error => log.warn({reason: messageOf(error)}, 'what clients had before could not be read'))
      keeping = keepBlocks()
    },
    async stop() {
      stopping.abort()
      await keeping
      for (const pool of pools.values()) for (const waiter of pool.waiting.splice(0)) waiter.resolve('away')
      // A client may still come with an offer of these: they are left to expire.
      const offering = new Set([...offers.values()].map(given => given.block))
      const idle = [...held.values()].filter(block => !offering.has(block))
      if (idle.length > 0) {
        await blocks
          .giveBack(idle.map(block => block.id))
          .catch(error => log.debug({reason: messageOf(error)}, 'blocks are left to expire'))
      }
    },
  }
}
