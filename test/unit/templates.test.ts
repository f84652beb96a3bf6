import {mkdirSync, readdirSync, readFileSync, writeFileSync} from 'node:fs'
import {join, relative, resolve} from 'node:path'
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {loadTemplates} from '../../lib/template-set.ts'
import {compileTemplate, QUOTES} from '../../lib/templates.ts'
import {createInstallRenderer} from '../../services/boot/plan.ts'

const TEMPLATES = resolve(import.meta.dirname, '..', '..', 'templates')
const set = loadTemplates(TEMPLATES)

describe('every template of the checkout', () => {
  it.each(set.names())('%s renders its example to its expected files', name => {
    const dir = join(TEMPLATES, name)
    const files = set
      .get(name)
      .render(JSON.parse(readFileSync(join(dir, 'example.json'), 'utf8')))
      .filter(file => !file.path.endsWith('/'))
    if (process.env.UPDATE_EXPECTED) {
      for (const file of files) {
        mkdirSync(join(dir, 'expected', file.path, '..'), {recursive: true})
        writeFileSync(join(dir, 'expected', file.path), file.body)
      }
    }
    const expected = listFiles(join(dir, 'expected')).map(path => relative(join(dir, 'expected'), path))
    expect(files.map(file => file.path).toSorted()).toEqual(expected.toSorted())
    for (const file of files) expect(file.body, file.path).toBe(readFileSync(join(dir, 'expected', file.path), 'utf8'))
  })
})

describe('a template', () => {
  it('is refused when it shows a value without quoting it, with its name and line', () => {
    expect(() => compileTemplate('t', 'a\nb {{hostname}}')).toThrow(
      expect.objectContaining({code: 'TEMPLATE_INVALID', detail: expect.stringMatching(/^t:2: /)}),
    )
    expect(() => compileTemplate('t', '{{{sh hostname}}}{{{hostname}}}')).toThrow(/not quoted/)
    expect(() => compileTemplate('t', '{{#each xs}}{{this}}{{/each}}')).toThrow(/not quoted/)
  })

  it('is refused when it uses partials, unknown blocks or lookups', () => {
    expect(() => compileTemplate('t', '{{> other}}')).toThrow(/not allowed/)
    expect(() => compileTemplate('t', '{{#with x}}{{/with}}')).toThrow(/no block/)
    expect(() => compileTemplate('t', '{{lookup a b}}')).toThrow(/not quoted/)
  })

  it('fails with file and line when a value is missing', () => {
    expect(() => compileTemplate('t', 'a\n\n{{line missing}}').render({})).toThrow(
      expect.objectContaining({code: 'TEMPLATE_INVALID', detail: expect.stringContaining('t')}),
    )
  })

  it('reaches no prototype', () => {
    expect(() => compileTemplate('t', '{{line constructor.name}}').render({})).toThrow()
    expect(() => compileTemplate('t', '{{line __proto__.x}}').render({})).toThrow()
  })
})

describe('F22 hostile values are inert', () => {
  it('in a shell word: whatever is not refused comes back as it was', () => {
    fc.assert(
      fc.property(fc.string({unit: 'binary'}), value => {
        if (/[\0\r\n]/.test(value)) expect(() => QUOTES.sh(value)).toThrow()
        else {
          const inner = QUOTES.sh(value).slice(1, -1)
          return inner.replaceAll(`'\\''`, "'") === value && !inner.replaceAll(`'\\''`, '').includes("'")
        }
      }),
    )
  })

  it('in a line: a line break or NUL is refused', () => {
    for (const value of ['a\nExecStart=/bin/evil', 'a\rb', 'a\0b']) expect(() => QUOTES.line(value)).toThrow()
  })

  it('in iPXE: nothing that it would expand or chain passes', () => {
    for (const value of ['a || shell', '${net0/mac}', 'a b', 'a;b', 'a&&b', '"a"']) expect(() => QUOTES.ipxe(value)).toThrow()
  })

  it('in a host name, an SSH key or a program’s name they are refused with the field', () => {
    const render = createInstallRenderer(set)
    const input = {
      template: 'debian/12',
      hostname: 'web01',
      mac: '52:54:00:12:34:56' as Mac,
      address: '10.0.0.2' as Ipv4,
      cidr: '10.0.0.0/24' as Cidr,
      gateway: null,
      dns: [],
      links: [],
      bootUrl: 'http://10.0.0.1:8480',
      parameters: {},
      authorizedKeys: [],
    }
    expect(render(input).map(file => file.path)).toContain('etc/hostname')
    for (const hostname of ['a b', 'a\nb', '-a', '$(x)', 'A', 'a..b', '']) {
      expect(() => render({...input, hostname})).toThrow(expect.objectContaining({code: 'INVALID_INPUT'}))
    }
    const evilKey = 'command="evil" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA'
    expect(() => render({...input, parameters: {ssh_keys: [evilKey]}})).toThrow(/not a public key/)
    const evilProgram = {user_data: [{name: '../../etc/passwd', body: '#!/bin/sh\n'}]}
    expect(() => render({...input, parameters: evilProgram})).toThrow(expect.objectContaining({code: 'INVALID_INPUT'}))
    expect(() => render({...input, parameters: {nope: 1}})).toThrow(/no such parameter; it has ssh_keys/)
  })
})

function listFiles(dir: string): string[] {
  return readdirSync(dir, {withFileTypes: true, recursive: true})
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
}
