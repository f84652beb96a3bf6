/** Values through the quoting helpers into real parsers, and templates that try to get around the helpers. */
import {execFileSync} from 'node:child_process'
import {join, resolve} from 'node:path'
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {parse} from 'yaml'
import {loadTemplates} from '../../lib/template-set.ts'
import {compileTemplate, QUOTES} from '../../lib/templates.ts'

const HOSTILE = [
  `$(touch /x)`,
  '`id`',
  `'; rm -rf / #`,
  `"\\"; id`,
  '${IFS}',
  '!!python/object:x',
  '- a: b',
  '*alias',
  '#comment',
  ' lead',
  'trail ',
  '\\',
  '{{x}}',
  '\u0085\u2028\u2029\ufeff\u007f',
  '\ud800',
  '=',
  '%i',
]

describe('F22 a hostile value reaches a real parser as the value it was', () => {
  it('in a POSIX shell', () => {
    const template = compileTemplate('t', '{{#each xs}}printf "%s\\\\n" {{sh this}}\n{{/each}}')
    const values = HOSTILE.filter(value => value !== '\ud800')
    const random = fc.sample(fc.string({unit: 'grapheme', maxLength: 30}), {seed: 2203, numRuns: 300})
    const xs = [...values, ...random.filter(value => !/[\0\r\n]/.test(value))]
    const output = execFileSync('sh', ['-c', template.render({xs})], {encoding: 'utf8'})
    expect(output.split('\n').slice(0, -1)).toEqual(xs)
  })

  it('in YAML, alone and beside other keys', () => {
    const template = compileTemplate('t', 'before: 1\nvalue: {{yaml x}}\nafter: 2\n')
    const check = (x: unknown) => {
      const text = template.render({x})
      expect(parse(text)).toEqual({before: 1, value: x, after: 2})
      expect(text.split(/[\r\n\u0085\u2028\u2029]/)).toHaveLength(4)
    }
    for (const value of [...HOSTILE, 'a\nafter: 3', 'yes', '010', 'null', '1e3', {a: ['b', null, 1.5]}]) check(value)
    fc.assert(fc.property(fc.string({unit: 'binary'}), check), {seed: 2204, numRuns: 1_000})
  })

  it('in JSON', () => {
    const template = compileTemplate('t', '[{{json x}}]')
    fc.assert(
      fc.property(fc.jsonValue(), x => {
        expect(JSON.parse(template.render({x}))).toEqual(JSON.parse(JSON.stringify([x])))
      }),
      {seed: 2205, numRuns: 1_000},
    )
  })

  it('in an ini file, where a backslash at the end would swallow the next line', () => {
    expect(() => QUOTES.line('example.org\\')).toThrow(/backslash/)
    expect(QUOTES.line('C:\\x')).toBe('C:\\x')
  })

  it('in iPXE, character by character, or is refused', () => {
    fc.assert(
      fc.property(fc.string({unit: 'binary', maxLength: 8}), value => {
        const harmless = /^[A-Za-z0-9_.,:/@%+=~-]*$/.test(value)
        if (harmless) expect(QUOTES.ipxe(value)).toBe(value)
        else expect(() => QUOTES.ipxe(value)).toThrow()
      }),
      {seed: 2206, numRuns: 2_000},
    )
  })
})

describe('a template that is not what it should be is refused when it is published', () => {
  it.each([
    ['a name every object has', '{{toString x}}'],
    ['the constructor', '{{constructor x}}'],
    ['a call inside a call', '{{sh (lookup x y)}}'],
    ['a call inside a condition', '{{#if (sh x)}}{{/if}}'],
    ['a named argument', '{{sh x y=z}}'],
    ['two values', '{{sh x y}}'],
    ['no value', '{{#if}}{{/if}}'],
    ['a bare value in an else', '{{#if x}}{{else}}{{x}}{{/if}}'],
    ['a bare value in an inverted block', '{{^if x}}{{x}}{{/if}}'],
    ['a decorator', '{{* x}}'],
    ['an inline partial', '{{#*inline "x"}}{{/inline}}'],
    ['a partial block', '{{#> x}}{{/x}}'],
    ['a raw block', '{{{{sh}}}}{{x}}{{{{/sh}}}}'],
    ['an unclosed block', '{{#if x}}'],
  ])('%s: %s', (_why, source) => {
    expect(() => compileTemplate('file', `first line\n${source}`)).toThrow(
      expect.objectContaining({code: 'TEMPLATE_INVALID', detail: expect.stringMatching(/^file:2: /)}),
    )
  })

  it('takes an inverted block', () => {
    expect(compileTemplate('t', '{{^if x}}none{{/if}}').render({x: []})).toBe('none')
  })
})

describe('F15 a template that fails names its file and line', () => {
  it.each([
    ['a missing value', 'a\n\n{{line x}}', {}],
    ['a missing condition', 'a\n\n{{#if x}}{{/if}}', {}],
    ['a missing list', 'a\n\n{{#each x}}{{/each}}', {}],
    ['a missing condition of unless', 'a\n\n{{#unless x}}{{/unless}}', {}],
    ['a path through nothing', 'a\n\n{{line x.y}}', {}],
    ['a value its place cannot carry', 'a\n\n{{line x}}', {x: 'a\nb'}],
    ['a list where a text goes', 'a\n\n{{line x}}', {x: ['a']}],
  ])('%s', (_why, source, data) => {
    expect(() => compileTemplate('os/1/file', source).render(data)).toThrow(
      expect.objectContaining({code: 'TEMPLATE_INVALID', detail: expect.stringMatching(/^os\/1\/file:3: /)}),
    )
  })

  it('and does not show the value, which may be a secret', () => {
    const template = compileTemplate('t', '{{line token}}')
    expect(() => template.render({token: 'hunter2\n'})).toThrow(
      expect.objectContaining({detail: expect.not.stringContaining('hunter2')}),
    )
  })
})

describe('debian/12', () => {
  const templates = loadTemplates(resolve(import.meta.dirname, '../../templates'))
  const data = {
    hostname: 'web01',
    mac: '52:54:00:12:34:56',
    address: '10.77.0.10',
    prefix_length: 22,
    gateway: null,
    links: [],
    dns: [],
    boot_url: 'http://10.77.0.1:8480',
    first_boot_token: 'token',
    authorized_keys: [],
  }

  it('F22 keeps every key of its network file, whatever is put in', () => {
    const hostile = ['x\n[Route]', 'x\\', 'x\0', 'x\rGateway=1.2.3.4']
    for (const field of ['mac', 'address', 'gateway', 'hostname', 'boot_url', 'first_boot_token'] as const) {
      for (const value of hostile) {
        expect(() => templates.get('debian/12').render({...data, [field]: value, parameters: {}}), `${field}=${value}`).toThrow(
          expect.objectContaining({code: 'TEMPLATE_INVALID'}),
        )
      }
    }
    for (const value of [...hostile, '~.', 'a b', '-a', '$(id)', 'UPPER', `${'a'.repeat(64)}.org`]) {
      expect(() => templates.get('debian/12').render({...data, parameters: {search_domains: [value]}}), value).toThrow(
        expect.objectContaining({
          code: 'INVALID_INPUT',
          errors: [expect.objectContaining({field: 'parameters.search_domains.0'})],
        }),
      )
    }
  })

  it('leaves out what is not there', () => {
    const network = templates
      .get('debian/12')
      .render({...data, parameters: {}})
      .find(({path}) => path === join('etc', 'systemd', 'network', '10-ingot.network'))
    expect(network?.body).not.toMatch(/Gateway|DNS|Domains/)
    expect(network?.body).toContain('Address=10.77.0.10/22\nDHCP=no\n')
  })
})
