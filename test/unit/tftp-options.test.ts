/** Option negotiation: RFC 2347, 2348, 2349, 7440. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {negotiateOptions} from '../../services/tftpd/options.ts'
import type {TftpOption} from '../../services/tftpd/packet.ts'

const WIDE = {blockBytes: 65464, windowBlocks: 65535}
const SIZE = 173_792

function negotiate(options: TftpOption[], limits = WIDE) {
  return negotiateOptions(options, SIZE, limits)
}

describe('TFTP options', () => {
  it('W69 the OACK holds only what was asked; unknown options are left out', () => {
    const answer = negotiate([
      ['multicast', ''],
      ['tsize', '0'],
      ['x-vendor', '1'],
    ])
    expect(answer.accepted).toEqual([['tsize', String(SIZE)]])
    expect(negotiate([]).accepted).toEqual([])
    expect(negotiate([['__proto__', '1']]).accepted).toEqual([])
  })

  it('W70 options come in any case and order, and are echoed as they were spelt', () => {
    const answer = negotiate([
      ['WindowSize', '4'],
      ['TSIZE', '0'],
      ['BlkSize', '1024'],
    ])
    expect(answer).toMatchObject({blockBytes: 1024, windowBlocks: 4})
    expect(answer.accepted).toEqual([
      ['WindowSize', '4'],
      ['TSIZE', String(SIZE)],
      ['BlkSize', '1024'],
    ])
  })

  it('of a repeated option the first counts', () => {
    const answer = negotiate([
      ['blksize', '600'],
      ['BLKSIZE', '700'],
    ])
    expect(answer.accepted).toEqual([['blksize', '600']])
  })

  it('W72 blksize is 8 to 65464 and the reply is never more than asked', () => {
    expect(negotiate([['blksize', '8']]).blockBytes).toBe(8)
    expect(negotiate([['blksize', '65464']]).blockBytes).toBe(65464)
    for (const refused of ['7', '0', '65465', '-8', '1e3', '0x200', '', ' 512', '99999999999999999999']) {
      const answer = negotiate([['blksize', refused]])
      expect(answer, refused).toMatchObject({blockBytes: 512, accepted: []})
    }
    expect(negotiate([['blksize', '8192']], {blockBytes: 1468, windowBlocks: 64}).accepted).toEqual([['blksize', '1468']])
  })

  it('W73 timeout 1 to 255 is echoed and tsize becomes the real size', () => {
    expect(negotiate([['timeout', '1']])).toMatchObject({timeoutMs: 1000, accepted: [['timeout', '1']]})
    expect(negotiate([['timeout', '255']])).toMatchObject({timeoutMs: 255_000})
    for (const refused of ['0', '256', 'x'])
      expect(negotiate([['timeout', refused]])).toMatchObject({timeoutMs: undefined, accepted: []})
    expect(negotiate([['tsize', '0']]).accepted).toEqual([['tsize', '173792']])
  })

  it('W74 windowsize is 1 to 65535 and the reply is never more than asked', () => {
    expect(negotiate([['windowsize', '65535']]).windowBlocks).toBe(65535)
    expect(negotiate([['windowsize', '1']]).windowBlocks).toBe(1)
    for (const refused of ['0', '65536'])
      expect(negotiate([['windowsize', refused]])).toMatchObject({windowBlocks: 1, accepted: []})
    expect(negotiate([['windowsize', '1000']], {blockBytes: 1468, windowBlocks: 64}).accepted).toEqual([['windowsize', '64']])
  })

  it('W69 W72 W74 hold for any options and any limits', () => {
    const name = fc.constantFrom('blksize', 'BLKSIZE', 'timeout', 'tsize', 'windowsize', 'WindowSize', 'rollover', '')
    const value = fc.oneof(fc.integer({min: -5, max: 70_000}).map(String), fc.string({maxLength: 6}))
    const limits = fc.record({blockBytes: fc.integer({min: 8, max: 65464}), windowBlocks: fc.integer({min: 1, max: 65535})})
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), {maxLength: 12}), limits, (options, bounds) => {
        const answer = negotiateOptions(options, SIZE, bounds)
        expect(answer.blockBytes).toBeGreaterThanOrEqual(8)
        expect(answer.windowBlocks).toBeGreaterThanOrEqual(1)
        for (const [spelling, said] of answer.accepted) {
          const asked = options.find(([option]) => option === spelling)
          expect(asked).toBeDefined()
          if (!spelling.toLowerCase().startsWith('t')) {
            const highest = Math.max(
              ...options
                .filter(([option]) => option.toLowerCase() === spelling.toLowerCase())
                .map(([, text]) => Number(text) || 0),
            )
            expect(Number(said)).toBeLessThanOrEqual(highest)
          }
        }
      }),
      {seed: 6005, numRuns: 2_000},
    )
  })
})
