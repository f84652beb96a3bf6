/** Offers out of blocks: what is offered to whom, when more is claimed, and what happens when there is no more. */
import {describe, expect, it} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {silentLog} from '../../lib/log.ts'
import type {Block, KnownLease} from '../../services/dhcpd/blocks.ts'
import {createLeaseMemory} from '../../services/dhcpd/lease-memory.ts'
import {createOffers, type Offered} from '../../services/dhcpd/offers.ts'
import {NOW} from '../support/dhcp-world.ts'

const PREFIX = 'lab'
const mac = (number: number) => `52:54:00:00:00:${number.toString(16).padStart(2, '0')}` as Mac
const ip = (last: number) => `10.0.0.${last}` as Ipv4

/** A range of four blocks of two addresses each, which other processes may hold; single addresses beside them. */
function world(options: {readonly known?: readonly KnownLease[]; readonly blocks?: number; readonly singles?: Ipv4[]} = {}) {
  let nowMs = 0
  const clock = {now: () => NOW, monotonicMs: () => nowMs}
  const memory = createLeaseMemory(clock)
  const singles = options.singles ?? []
  const state = {claims: 0, asked: 0, away: false, prolonged: [] as string[][], given: [] as string[], left: options.blocks ?? 4}
  const guard = () => {
    if (state.away) throw new Error('away')
  }
  const offers = createOffers({
    blocks: {
      lasts_s: 60,
      prolongEvery_ms: 5_000,
      async claim() {
        guard()
        state.claims++
        if (state.left === 0) return []
        const number = (options.blocks ?? 4) - state.left--
        return [{id: `block${number}`, prefixId: PREFIX, free: [ip(2 * number), ip(2 * number + 1)]} satisfies Block]
      },
      async prolong(ids) {
        guard()
        state.prolonged.push([...ids])
        return ids
      },
      async giveBack(ids) {
        state.given.push(...ids)
      },
      async *known() {
        yield options.known ?? []
      },
      news: async () => [],
    },
    leases: {
      async offerDynamic() {
        state.asked++
        guard()
        return singles.shift() ?? 'full'
      },
    },
    memory,
    clock,
    log: silentLog,
  })
  const request = (number: number, requested: Ipv4 | null = null) => ({mac: mac(number), prefixId: PREFIX, requested, now: NOW})
  return {
    offers,
    memory,
    state,
    pass: (seconds: number) => {
      nowMs += seconds * 1000
    },
    offer: (number: number, requested?: Ipv4): Offered | Promise<Offered> => offers.offer(request(number, requested)),
    confirm: (number: number, requested: Ipv4) => offers.confirm(request(number, requested)),
  }
}

describe('an offer', () => {
  it('waits for a block once, and from then on for nothing', async () => {
    const {offer, state} = world()
    expect(await offer(1)).toBe(ip(0))
    expect(offer(2)).toBe(ip(1))
    expect(state.asked).toBe(0)
  })

  it('is for each of many who come at once, however few a claim brings', async () => {
    const {offer} = world()
    const offered = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(number => offer(number)))
    expect(new Set(offered)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7].map(ip)))
  })

  it('is told to be full to those for whom nothing is left, when many come at once', async () => {
    const {offer, state} = world({blocks: 1, singles: [ip(9)]})
    const offered = await Promise.all([1, 2, 3, 4, 5].map(number => offer(number)))
    expect(offered.toSorted()).toEqual([ip(0), ip(1), ip(9), 'full', 'full'])
    expect(state.asked).toBe(2)
  })

  it('is the same until it lapses, and nobody else’s meanwhile', async () => {
    const {offer, pass} = world({blocks: 1})
    expect(await offer(1)).toBe(ip(0))
    pass(50)
    expect(offer(1)).toBe(ip(0))
    expect(offer(2)).toBe(ip(1))
  })

  it('goes to others once it lapsed, and its block is still ours', async () => {
    const {offer, offers, pass, state} = world({blocks: 1})
    await offer(1)
    await offer(2)
    pass(59)
    expect(await offer(3)).toBe('full')
    pass(1)
    state.left = 0
    // The block ended with the minute: nothing may be offered from it.
    expect(await offer(3)).toBe('full')
    expect(offers.offeredAs(mac(1), ip(0))).toBeUndefined()
  })

  it('is free again at once when the client chose another server', async () => {
    const {offer, offers} = world({blocks: 1})
    await offer(1)
    await offer(2)
    offers.withdraw(mac(1))
    expect(offer(3)).toBe(ip(0))
  })

  it('W17 is what the client has, else had, else asks for, else the next', async () => {
    const has = {mac: mac(1), address: ip(99), prefixId: PREFIX, left_s: 300}
    const had = {mac: mac(2), address: ip(98), prefixId: PREFIX, left_s: 0}
    const {offer, offers} = world({known: [has, had]})
    await offers.start()
    expect(offer(1, ip(0))).toBe(ip(99))
    expect(offers.offeredAs(mac(1), ip(99))).toBe('before')
    expect(offer(2, ip(0))).toBe(ip(98))
    expect(offers.offeredAs(mac(2), ip(98))).toBe('before')
    await offer(3)
    expect(offer(4, ip(1))).toBe(ip(1))
    expect(offers.offeredAs(mac(4), ip(1))).toBe('new')
    await offers.stop()
  })

  it('of what a client had before is no other client’s while it lasts', async () => {
    const had = {mac: mac(1), address: ip(0), prefixId: PREFIX, left_s: 0}
    const {offer, offers} = world({known: [had]})
    await offers.start()
    await offer(9)
    expect(offers.withdraw(mac(9))).toBeUndefined()
    expect(offer(1)).toBe(ip(0))
    expect(offer(2)).toBe(ip(1))
    expect(await offer(3)).toBe(ip(2))
    await offers.stop()
  })

  it('is full only when no block and no single address is to be had, and is asked for again a second later', async () => {
    const {offer, pass, state} = world({blocks: 0, singles: [ip(50)]})
    expect(await offer(1)).toBe(ip(50))
    expect(await offer(2)).toBe('full')
    const asked = state.asked
    expect(offer(3)).toBe('full')
    expect(state.asked).toBe(asked)
    pass(1)
    state.left = 1
    expect(await offer(3)).not.toBe('full')
  })

  it('F2 is none while nothing can be claimed, and comes again with the database', async () => {
    const {offer, pass, state} = world()
    state.away = true
    expect(await offer(1)).toBe('away')
    state.away = false
    pass(1)
    expect(await offer(1)).toBe(ip(0))
  })

  it('F2 is none from a block that could not be prolonged in time', async () => {
    const {offer, pass, state} = world({blocks: 1})
    expect(await offer(1)).toBe(ip(0))
    state.away = true
    pass(60)
    expect(await offer(2)).toBe('away')
  })
})

describe('a request', () => {
  it('for what was offered is answered from memory', async () => {
    const {offer, confirm} = world()
    await offer(1)
    expect(confirm(1, ip(0))).toBe(ip(0))
  })

  it('for what nobody here knows of is asked of storage: the offer may be a dead process’s', async () => {
    const {confirm, state} = world({singles: [ip(70)]})
    expect(await confirm(1, ip(70))).toBe(ip(70))
    expect(state.asked).toBe(1)
  })
})

describe('blocks', () => {
  it('whose last address was bound are given back, those with offers out are left to expire', async () => {
    const {offer, offers, state} = world({blocks: 2})
    await offer(1)
    await offer(2)
    await offer(3)
    offers.settled(mac(1))
    offers.settled(mac(2))
    await offers.start()
    await offers.stop()
    expect(state.given).toEqual(['block0'])
  })
})

describe('the memory of leases', () => {
  it('offers by a hint, and renews only what was committed here', () => {
    const {memory} = world()
    memory.hint(mac(1), {address: ip(1), prefixId: PREFIX, left_s: 600})
    expect(memory.lookUp(mac(1))).toMatchObject({address: ip(1), live: true})
    expect(memory.recall(mac(1))).toBeUndefined()
    memory.remember(mac(1), {address: ip(1), prefixId: PREFIX, lease_s: 600})
    expect(memory.recall(mac(1))).toMatchObject({remaining_s: 600})
    memory.end(mac(1))
    expect(memory.recall(mac(1))).toBeUndefined()
    expect(memory.lookUp(mac(1))).toMatchObject({address: ip(1), live: false})
  })

  it('keeps what a client has over what it had', () => {
    const {memory} = world()
    memory.hint(mac(1), {address: ip(1), prefixId: PREFIX, left_s: 600})
    memory.hint(mac(1), {address: ip(2), prefixId: PREFIX, left_s: 0})
    expect(memory.lookUp(mac(1))).toMatchObject({address: ip(1)})
  })
})
