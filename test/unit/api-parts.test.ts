import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {z} from 'zod'
import type {Clock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {createAttempts, FAILURES_AT_MOST, placeOf} from '../../services/api/attempts.ts'
import {checkInput} from '../../services/api/input.ts'
import {pageOfWholeGroups} from '../../services/api/page.ts'
import {rawProblem} from '../../services/api/problems.ts'

function handClock(): Clock & {ms: number} {
  const clock = {ms: 0, now: () => new Date(0), monotonicMs: () => clock.ms}
  return clock
}

describe('attempts', () => {
  it('F25 locks a place after the last failure it has, for a minute from that one', () => {
    const clock = handClock()
    const attempts = createAttempts(clock)
    for (let n = 0; n < FAILURES_AT_MOST; n++) {
      expect(attempts.lockedFor('a', `t${n}`)).toBe(0)
      attempts.failed('a', `t${n}`)
      clock.ms += 1_000
    }
    expect(attempts.lockedFor('a', 'x')).toBe(59)
    expect(attempts.lockedFor('b', 'x')).toBe(0)
    clock.ms += 58_000
    expect(attempts.lockedFor('a', 'x')).toBe(1)
    clock.ms += 1_000
    expect(attempts.lockedFor('a', 'x')).toBe(0)
  })

  it('F25 forgets failures that lie a minute back', () => {
    const clock = handClock()
    const attempts = createAttempts(clock)
    for (let n = 0; n < 5 * FAILURES_AT_MOST; n++) {
      attempts.failed('a', 'x')
      clock.ms += 7_000
      expect(attempts.lockedFor('a', 'y')).toBe(0)
    }
  })

  it('F25 lets a token that was right pass a locked place, until it is wrong', () => {
    const attempts = createAttempts(handClock())
    attempts.succeeded('known')
    for (let n = 0; n < 20; n++) attempts.failed('a', 'guess')
    expect(attempts.lockedFor('a', 'known')).toBe(0)
    attempts.failed('a', 'known')
    expect(attempts.lockedFor('a', 'known')).toBeGreaterThan(0)
  })

  it('takes an IPv6 /64 for one place, a mapped address for IPv4, and the socket for one place', () => {
    expect(placeOf('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
    expect(placeOf('2001:db8:1:2:ffff::1')).toBe('2001:db8:1:2::/64')
    expect(placeOf('2001:db8::1')).toBe('2001:db8:0:0::/64')
    expect(placeOf('::1')).toBe('0:0:0:0::/64')
    expect(placeOf('fe80::1%eth0')).toBe('fe80:0:0:0::/64')
    expect(placeOf('::ffff:10.0.0.7')).toBe('10.0.0.7')
    expect(placeOf('10.0.0.7')).toBe('10.0.0.7')
    expect(placeOf(undefined)).toBe('unix')
  })
})

describe('input', () => {
  it('F21 keeps the problem short, however much is wrong', () => {
    const many = Object.fromEntries(Array.from({length: 10_000}, (_, n) => [`${'k'.repeat(1000)}${n}`, 'x'.repeat(1000)]))
    const schema = z.strictObject({a: z.record(z.string(), z.number())})
    for (const value of [many, {a: many}]) {
      const error = caught(() => checkInput(schema, value))
      expect(error.errors).toHaveLength(20)
      expect(error.detail.length).toBeLessThan(20_000)
      expect(error.detail).toContain('more')
    }
  })

  it('lets any storable value through unchanged and refuses any other, by its field', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({unit: 'binary'}), (value, text) => {
        const input = JSON.parse(JSON.stringify({value, list: [{text}]}))
        const storable = !/[\0]|\\u0000/.test(JSON.stringify(input)) && !JSON.stringify(input).includes('"__proto__":')
        fc.pre(!text.includes('\\'))
        if (storable && text.isWellFormed()) expect(checkInput(z.unknown(), input)).toEqual(input)
        else expect(caught(() => checkInput(z.unknown(), input)).errors?.length).toBeGreaterThan(0)
      }),
    )
  })
})

describe('pages of whole groups', () => {
  it('walk every row once, whatever the limit and the groups', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({min: 0, max: 6}), {maxLength: 40}),
        fc.integer({min: 1, max: 9}),
        async (keys, limit) => {
          const rows = keys.toSorted((a, b) => a - b).map((key, index) => ({key, index}))
          const seen: number[] = []
          for (let after: string | null = ''; after !== null; ) {
            const from: string = after
            const page = await pageOfWholeGroups(
              async count => rows.filter(row => from === '' || row.key > Number(from)).slice(0, count),
              limit,
              row => String(row.key),
              row => row.index,
            )
            seen.push(...page.items)
            after = page.next
          }
          expect(seen).toEqual(rows.map(row => row.index))
        },
      ),
    )
  })
})

describe('a raw problem', () => {
  it('is a whole HTTP answer', () => {
    const text = rawProblem(408, 'INVALID_INPUT', 'too slow', 'be quick')
    const [head = '', body = ''] = text.split('\r\n\r\n')
    expect(head).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/)
    expect(head).toContain(`content-length: ${Buffer.byteLength(body)}`)
    expect(JSON.parse(body)).toMatchObject({status: 408, detail: 'too slow', mend: 'be quick'})
  })
})

function caught(work: () => unknown): IngotError {
  try {
    work()
  } catch (error) {
    if (error instanceof IngotError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
