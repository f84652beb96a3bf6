import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {attemptToken, type BootStage, parseToken, sessionToken, windowToken} from '../../services/boot/token.ts'

const KEY = Buffer.alloc(32, 3)
const STAGES: readonly BootStage[] = ['inspect', 'clean', 'install', 'first_boot']
const fences = fc.integer({min: 1, max: 2 ** 40})
const stages = fc.constantFrom(...STAGES)
const windows = fc.uuid()
const macs = fc
  .array(fc.integer({min: 0, max: 255}), {minLength: 6, maxLength: 6})
  .map(bytes => bytes.map(byte => byte.toString(16).padStart(2, '0')).join(':'))
const tokens = fc.oneof(
  fc.tuple(fences, stages).map(([fence, stage]) => attemptToken(KEY, fence, stage)),
  fc.tuple(windows, macs).map(([id, mac]) => windowToken(KEY, id, mac)),
)

describe('boot tokens', () => {
  it('say what they were made for', () => {
    fc.assert(
      fc.property(fences, stages, windows, macs, (fence, stage, windowId, mac) => {
        expect(parseToken(KEY, attemptToken(KEY, fence, stage))).toEqual({kind: 'attempt', fence, stage})
        expect(parseToken(KEY, windowToken(KEY, windowId, mac))).toEqual({kind: 'window', windowId, mac})
        expect(parseToken(KEY, sessionToken(fence, 'ab'.repeat(32)))).toEqual({kind: 'session', fence, secret: 'ab'.repeat(32)})
      }),
    )
  })

  it('never parse once a character was changed, dropped or added', () => {
    fc.assert(
      fc.property(
        tokens,
        fc.nat(),
        fc.constantFrom('change', 'drop', 'add'),
        fc.string({minLength: 1, maxLength: 1}),
        (token, where, how, letter) => {
          const at = where % (token.length + (how === 'add' ? 1 : 0))
          const forged = token.slice(0, at) + (how === 'drop' ? '' : letter) + token.slice(how === 'add' ? at : at + 1)
          if (forged !== token) expect(parseToken(KEY, forged)).toBeUndefined()
        },
      ),
      {numRuns: 3_000},
    )
  })

  it('never parse with more parts, another case or another key', () => {
    fc.assert(
      fc.property(tokens, fc.string(), (token, more) => {
        expect(parseToken(KEY, `${token}.${more}`)).toBeUndefined()
        if (token.toUpperCase() !== token) expect(parseToken(KEY, token.toUpperCase())).toBeUndefined()
        expect(parseToken(Buffer.alloc(32, 4), token)).toBeUndefined()
      }),
    )
  })

  it('of one stage are not those of another, nor an attempt’s those of the next', () => {
    fc.assert(
      fc.property(fences, stages, stages, (fence, made, shown) => {
        if (made === shown) return
        const signature = attemptToken(KEY, fence, made).split('.')[3]
        expect(parseToken(KEY, `a.${fence}.${shown}.${signature}`)).toBeUndefined()
        expect(parseToken(KEY, `a.${fence + 1}.${made}.${signature}`)).toBeUndefined()
        expect(parseToken(KEY, `a.0${fence}.${made}.${signature}`)).toBeUndefined()
      }),
    )
  })

  it('take no arbitrary text for a token, and never throw', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.tuple(fc.constantFrom('a', 'w'), fc.string()).map(([kind, rest]) => `${kind}.${rest}`),
        ),
        text => {
          expect(parseToken(KEY, text)).toBeUndefined()
        },
      ),
      {numRuns: 2_000},
    )
  })

  it('hold one session for one text', () => {
    for (const text of [
      `s.01.${'ab'.repeat(32)}`,
      `s.1.${'ab'.repeat(32)}.x`,
      `s.1.${'AB'.repeat(32)}`,
      `s.1.${'ab'.repeat(31)}`,
    ])
      expect(parseToken(KEY, text), text).toBeUndefined()
  })
})
