/** The maths of free blocks: whatever is taken and given back, blocks and prefixes tile the container, and large blocks stay whole. */
import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import type {Cidr} from '../../lib/addresses.ts'
import {buddyOf, contains, doubleOf, freeAround, halvesOf, lowestIn, sizeOf, without} from '../../services/ipam/free-space.ts'

const cidr = (text: string) => text as Cidr

describe('a block', () => {
  test.each([
    ['10.0.0.0/31', ['10.0.0.0/32', '10.0.0.1/32']],
    ['0.0.0.0/0', ['0.0.0.0/1', '128.0.0.0/1']],
    ['2001:db8::/32', ['2001:db8::/33', '2001:db8:8000::/33']],
    ['::/0', ['::/1', '8000::/1']],
  ])('%s has two halves, each the buddy of the other', (whole, halves) => {
    expect(halvesOf(cidr(whole))).toEqual(halves)
    expect(buddyOf(cidr(halves[0]!))).toBe(halves[1])
    expect(buddyOf(cidr(halves[1]!))).toBe(halves[0])
    expect(halves.map(half => doubleOf(cidr(half)))).toEqual([whole, whole])
  })

  test('of one address has no halves, and the whole space no buddy', () => {
    expect(() => halvesOf(cidr('10.0.0.1/32'))).toThrow('no halves')
    expect(buddyOf(cidr('::/0'))).toBeUndefined()
  })

  test('without a network in it is one block of each size between', () => {
    expect(without(cidr('10.0.0.0/24'), cidr('10.0.0.6/31'))).toEqual([
      '10.0.0.0/30',
      '10.0.0.4/31',
      '10.0.0.8/29',
      '10.0.0.16/28',
      '10.0.0.32/27',
      '10.0.0.64/26',
      '10.0.0.128/25',
    ])
    expect(without(cidr('fd00::/62'), cidr('fd00:0:0:2::/64'))).toEqual(['fd00::/63', 'fd00:0:0:3::/64'])
    expect(without(cidr('10.0.0.0/24'), cidr('10.0.0.0/24'))).toEqual([])
    expect(() => without(cidr('10.0.0.0/24'), cidr('10.0.1.0/31'))).toThrow('not in')
  })

  test('is tiled by what is free and what is not, for any children', () => {
    const children = fc.uniqueArray(fc.tuple(fc.integer({min: 0, max: 1023}), fc.integer({min: 23, max: 32})), {maxLength: 12})
    fc.assert(
      fc.property(children, picks => {
        const taken: Cidr[] = []
        for (const [offset, length] of picks) {
          const place = lowestIn(cidr(`10.0.${offset >> 8}.${offset & 255}/32`), 32)
          let network = place
          while (Number(network.split('/')[1]) > length) network = doubleOf(network)
          if (taken.every(other => !contains(other, network) && !contains(network, other))) taken.push(network)
        }
        const free = freeAround(cidr('10.0.0.0/22'), taken)
        const all = [...free, ...taken]
        expect(all.reduce((sum, block) => sum + sizeOf(block), 0)).toBe(1024)
        for (const [index, block] of all.entries())
          for (const other of all.slice(index + 1)) expect(contains(block, other) || contains(other, block)).toBe(false)
        // The largest there are: no two of them make one.
        for (const block of free) expect(free).not.toContain(buddyOf(block))
      }),
      {numRuns: 60},
    )
  })
})
