import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import {createOutputTail, oneLine, showable} from '../../services/handoff/output.ts'
import {createRedactor, REDACTED, secretTexts} from '../../services/handoff/redact.ts'

const none = createRedactor([])

describe('the output of a tool', () => {
  test('is kept as it came while it is short', () => {
    const tail = createOutputTail()
    tail.add('one\n')
    tail.add(Buffer.from('zwei ä\n'))
    expect(tail.text(none)).toBe('one\nzwei ä\n')
  })

  test('is never longer than its limit, and ends with the last that was said', () => {
    fc.assert(
      fc.property(fc.array(fc.string({unit: 'binary', maxLength: 3000}), {maxLength: 200}), chunks => {
        const tail = createOutputTail(2048)
        for (const chunk of [...chunks, 'the end']) tail.add(chunk)
        const text = tail.text(none)
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(2048)
        expect(text.endsWith('the end')).toBe(true)
      }),
      {numRuns: 50},
    )
  })

  test('is not cut in the middle of a character', () => {
    const tail = createOutputTail(5)
    tail.add('ääää')
    expect(tail.text(none)).toBe('ää')
  })

  test('shows no character that moves a cursor or turns the direction of writing', () => {
    expect(showable('a\u001b[2Jb\r\nc\rd\u202ee\u0000\t\u009b')).toBe('a\\u{1b}[2Jb\nc\nd\\u{202e}e\\u{0}\t\\u{9b}')
    expect(oneLine('  a\n\tb   c ', 4)).toBe('a b …')
  })

  test('I5 a secret is cut out wherever the tail is cut off', () => {
    const secret = 'correct-horse-battery-staple'
    const redactor = createRedactor([secret])
    for (let offset = 0; offset < 400; offset += 1) {
      const tail = createOutputTail(256)
      tail.add('x'.repeat(offset))
      for (let count = 0; count < 60; count += 1) tail.add(secret)
      const text = tail.text(redactor)
      expect(text.replaceAll(REDACTED, '').replace(/^[x[\]redacted]*/, '')).toBe('')
    }
  })
})

describe('redaction', () => {
  test.each([
    ['plain', 'p4ss"wörd\\n'],
    ['as JSON', JSON.stringify('p4ss"wörd\\n')],
    ["as Python's JSON", '"p4ss\\"w\\u00f6rd\\\\n"'],
    ['in a URL', encodeURIComponent('p4ss"wörd\\n')],
    ['in base64', Buffer.from('p4ss"wörd\\n').toString('base64')],
  ])('I5 a secret is found %s', (_how, printed) => {
    const text = createRedactor(['p4ss"wörd\\n']).text(`before ${printed} after`)
    expect(text).toMatch(/^before "?\[redacted\]"? after$/)
  })

  test('I5 the lines of a secret of several lines are found one by one', () => {
    expect(createRedactor(['first-line\nsecond-line']).text('second-line | first-line')).toBe('[redacted] | [redacted]')
  })

  test('the longer of two secrets goes first, so that nothing of it is left', () => {
    expect(createRedactor(['hunter', 'hunter-two']).text('hunter-two hunter')).toBe('[redacted] [redacted]')
  })

  test('reaches into values and their keys', () => {
    const redactor = createRedactor(['sesame-open'])
    expect(redactor.value({'a sesame-open': [1, null, {b: 'sesame-open!'}]})).toEqual({
      'a [redacted]': [1, null, {b: '[redacted]!'}],
    })
  })

  test('what a name calls secret is secret from four characters on; else eight, or never', () => {
    const value = {
      db_password: 'abcd',
      pin: 1234,
      api: {key: {id: 'wxyz'}},
      tier: 'frontend',
      env: 'prod',
      short_token: 'abc',
      on: true,
    }
    expect(secretTexts(value, true)).toEqual(['abcd', '1234', 'wxyz', 'frontend'])
    expect(secretTexts(value, false)).toEqual(['abcd', '1234', 'wxyz'])
  })
})
