/** Every line of the wire that dhcpd holds has a test whose name begins with its number. */
import {readdirSync, readFileSync} from 'node:fs'
import {join, resolve} from 'node:path'
import {expect, it} from 'vitest'

const TESTS = resolve(import.meta.dirname, '..')
/** W1 to W53 are DHCP and network boot, W80 is the UUID; TFTP has W60 to W79. */
const LINES = [...Array.from({length: 53}, (_, index) => index + 1), 80].map(number => `W${number}`)

it('W1 to W53 and W80 each have a test', () => {
  const told = new Set<string>()
  for (const folder of ['unit', 'integration', 'lab'])
    for (const file of readdirSync(join(TESTS, folder)).filter(
      name => name.endsWith('.test.ts') && name !== 'dhcp-wire-lines.test.ts',
    ))
      for (const [, numbers = ''] of readFileSync(join(TESTS, folder, file), 'utf8').matchAll(
        /(?:it|test)?[( ]\s*['`]((?:W\d+ )+)/g,
      ))
        for (const number of numbers.trim().split(' ')) told.add(number)
  expect(LINES.filter(line => !told.has(line))).toEqual([])
})
