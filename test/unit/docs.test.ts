/** Keeps the documents true: generated parts are as the tables are, links lead somewhere, named files exist, commands can be typed. */
import {existsSync, readdirSync, readFileSync, statSync} from 'node:fs'
import {dirname, join, relative, resolve} from 'node:path'
import {Command} from 'commander'
import {beforeAll, describe, expect, it, vi} from 'vitest'
import {ERRORS} from '../../lib/errors.ts'
import {CAPTURES_PAGE, CAUSES_PAGE, fillPage, LIFECYCLE_PAGE, METRICS_PAGE, ROOT} from '../../scripts/docs.ts'
import {ROUTES} from '../../services/api/routes/registry.ts'
import {CAUSES} from '../../services/lifecycle/causes.ts'
import {FAULTS} from '../../services/power/fault.ts'

const SKIPPED = ['node_modules', '.git', '.cache', 'coverage']
const PAGES = listPages(ROOT).map(path => ({name: relative(ROOT, path), text: readFileSync(path, 'utf8')}))

const API = ['GET /v1/openapi.json', ...ROUTES.map(route => `${route.method.toUpperCase()} ${route.path}`)]

/** What errors and causes tell people to do is a document too. */
const MENDS = [...Object.entries(ERRORS), ...Object.entries(FAULTS), ...Object.entries(CAUSES)]
  .map(([code, row]) => [code, row.mend] as const)
  .filter(([, mend]) => mend.includes('`ingot '))

describe('documents', () => {
  it('are the ones a stranger looks for', () => {
    expect(PAGES.map(page => page.name)).toEqual(
      expect.arrayContaining([
        'README.md',
        'ARCHITECTURE.md',
        'CONTRIBUTING.md',
        'CHANGELOG.md',
        'docs/guide.md',
        LIFECYCLE_PAGE,
      ]),
    )
  })

  it('show the lifecycle as its tables have it: else run `sh bin/node.sh scripts/docs.ts`', () => {
    const page = readFileSync(join(ROOT, LIFECYCLE_PAGE), 'utf8')
    expect(page).toBe(fillPage(LIFECYCLE_PAGE, page))
    expect(page).toContain('cleaning --> available: [cleaned]')
  })

  it('show the causes as their table has them: else run `sh bin/node.sh scripts/docs.ts`', () => {
    for (const name of [CAPTURES_PAGE, CAUSES_PAGE]) {
      const text = readFileSync(join(ROOT, name), 'utf8')
      expect(text).toBe(fillPage(name, text))
    }
    const page = readFileSync(join(ROOT, CAPTURES_PAGE), 'utf8')
    expect(page).toContain('| `CHAIN_LOOP` | failure |')
  })

  it('show metrics, reasons and alerts as their tables have them: else run `sh bin/node.sh scripts/docs.ts`', () => {
    const page = readFileSync(join(ROOT, METRICS_PAGE), 'utf8')
    expect(page).toBe(fillPage(METRICS_PAGE, page))
    expect(page).toContain('| `unlisted_relay` |')
  })

  it.each(PAGES)('$name has no dead relative link', ({name, text}) => {
    expect(deadLinks(name, text)).toEqual([])
  })

  it.each(PAGES)('$name names only files that exist', ({text}) => {
    const captures = codeSpans(text).filter(span => span.endsWith('.pcap') && !span.includes('{'))
    expect(captures.filter(name => !existsSync(join(ROOT, 'test/fixtures/pcap', name)))).toEqual([])
    const named = codeSpans(text).filter(span =>
      /^(bench|bin|cli|deploy|docs|fuzz|lab|lib|pxe|scripts|services|sim|templates|test)\/[\w./-]+$/.test(span),
    )
    expect(named.filter(path => !existsSync(join(ROOT, path)))).toEqual([])
  })

  it.each(PAGES)('$name names only routes that the API has', ({text}) => {
    const named = codeSpans(text).filter(span => /^(GET|POST|PUT|DELETE) \/v1\//.test(span))
    expect(named.filter(span => !API.includes(span))).toEqual([])
  })

  it('have links and commands to check', () => {
    expect(PAGES.flatMap(page => linksOf(page.text)).length).toBeGreaterThan(30)
    expect(PAGES.flatMap(page => fencedCommands(page.text)).length).toBeGreaterThan(15)
  })

  it('finds what is wrong when something is', () => {
    expect(deadLinks('README.md', '[a](docs/none.md) [b](docs/guide.md#no-such-heading) [c](https://example.invalid/)')).toEqual([
      'docs/none.md',
      'docs/guide.md#no-such-heading',
    ])
    expect(fencedCommands('```\n$ ingot ip add \\\n  10.0.0.0/24 # a comment\n```\n    ingot elsewhere')).toEqual([
      'ingot ip add 10.0.0.0/24',
    ])
  })
})

describe('commands in documents', () => {
  let program: Command
  /** bin/ingot.ts builds its program and parses at once; held back from parsing, it is the one that operators get. */
  beforeAll(async () => {
    const parse = vi.spyOn(Command.prototype, 'parseAsync').mockImplementation(async function (this: Command) {
      return this
    })
    await import('../../bin/ingot.ts')
    program = parse.mock.contexts[0] as Command
    parse.mockRestore()
  })

  it.each(PAGES)('$name shows only commands that can be typed', ({text}) => {
    const wrong = fencedCommands(text).flatMap(line => complaintsOf(program, line, true))
    const mentioned = codeSpans(text).filter(span => /^ingot [a-z]/.test(span) && !span.includes('…'))
    expect([...wrong, ...mentioned.flatMap(span => complaintsOf(program, span, false))]).toEqual([])
  })

  it.each(MENDS)('are those that `%s` tells people to type', (_code, mend) => {
    expect(
      codeSpans(mend)
        .filter(span => /^ingot [a-z]/.test(span))
        .flatMap(span => complaintsOf(program, span, false)),
    ).toEqual([])
  })

  it.each([
    ['ingot prvision rack1', 'no verb'],
    ['ingot windows shut 10.0.0.0/24', 'no verb'],
    ['ingot provision rack1 --profle web', '--profle'],
    ['ingot provision rack1 --profile', 'needs a value'],
    ['ingot windows open', 'argument'],
    ['ingot ip who 10.0.0.9 10.0.0.10', 'argument'],
  ])('finds what is wrong with `%s`', (line, complaint) => {
    expect(complaintsOf(program, line, true).join()).toContain(complaint)
  })
})

/** @param whole whether its arguments are counted too, or only its verbs and options looked up */
function complaintsOf(program: Command, line: string, whole: boolean): string[] {
  const words = line.match(/'[^']*'|"[^"]*"|\S+/g)?.slice(1) ?? []
  let command = program
  while (words[0] !== undefined && command.commands.length > 0) {
    const found = command.commands.find(sub => sub.name() === words[0])
    if (!found && !words[0].startsWith('-')) return [`${line}: no verb '${words[0]}' in '${command.name()}'`]
    if (!found) break
    command = found
    words.shift()
  }
  command = defaultOf(command) ?? command
  const complaints: string[] = []
  const args: string[] = []
  while (words.length > 0) {
    const [name = '', inline] = words.shift()?.split(/=(.*)/) ?? []
    const option = command.options.find(candidate => candidate.long === name || candidate.short === name)
    if (!name.startsWith('-') || name === '-') args.push(name)
    else if (!option && name !== '--help') complaints.push(`${line}: no option ${name}`)
    else if (option?.required && inline === undefined && (words.shift() ?? '-').startsWith('-'))
      complaints.push(`${line}: ${name} needs a value`)
  }
  const {registeredArguments: wanted} = command
  const least = wanted.filter(argument => argument.required).length
  const most = wanted.some(argument => argument.variadic) ? Number.POSITIVE_INFINITY : wanted.length
  if (whole && (args.length < least || args.length > most)) complaints.push(`${line}: takes ${least} to ${most} arguments`)
  return complaints
}

/** `ingot jobs --open` is `ingot jobs list --open`; commander keeps the default's name to itself. */
function defaultOf(command: Command): Command | undefined {
  const {_defaultCommandName: name} = command as unknown as {_defaultCommandName?: string | null}
  return command.commands.find(sub => sub.name() === name)
}

/** Lines of fenced blocks that begin with `ingot`, with continued lines joined and comments, pipes and redirections cut off. */
function fencedCommands(text: string): string[] {
  return [...text.matchAll(/^```[^\n]*\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) =>
    block
      .replace(/\\\n\s*/g, '')
      .split('\n')
      .map(line => line.replace(/^(\$ |# )?(sudo )?/, '').replace(/\s+[#|>].*$/, ''))
      .filter(line => line.startsWith('ingot ')),
  )
}

function codeSpans(text: string): string[] {
  return [...withoutFences(text).matchAll(/`([^`\n]+)`/g)].map(([, span = '']) => span)
}

function linksOf(text: string): string[] {
  return [...withoutFences(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
}

function deadLinks(name: string, text: string): string[] {
  return linksOf(text).filter(target => {
    if (/^[a-z]+:/.test(target)) return false
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? join(ROOT, name) : resolve(ROOT, dirname(name), path)
    if (!existsSync(file)) return true
    return anchor !== undefined && statSync(file).isFile() && !anchorsOf(readFileSync(file, 'utf8')).includes(anchor)
  })
}

/** As hosting sites name headings: lower case, punctuation gone, spaces to hyphens. */
function anchorsOf(text: string): string[] {
  return [...withoutFences(text).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

function withoutFences(text: string): string {
  return text.replace(/^```[\s\S]*?^```/gm, '')
}

function listPages(folder: string): string[] {
  return readdirSync(folder, {withFileTypes: true}).flatMap(entry => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return SKIPPED.includes(entry.name) ? [] : listPages(path)
    return entry.name.endsWith('.md') ? [path] : []
  })
}
