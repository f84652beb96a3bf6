/**
 * Templates: Handlebars held on a short lead. Every value passes through a quoting helper for the place it goes to; a bare `{{x}}` is
 * refused when the template is compiled, and so is any helper that is not listed here. Templates reach no file, no network, no clock.
 */
import {createHash} from 'node:crypto'
import Handlebars from 'handlebars'
import {IngotError, messageOf} from './errors.ts'

export type CompiledTemplate = {
  /** where it came from, for messages */
  readonly name: string
  readonly sha256: string
  /** @throws IngotError TEMPLATE_INVALID with name and line */
  render(data: Readonly<Record<string, unknown>>): string
}

/** Quotes a value for one kind of place; throws `Refused` for what the place cannot carry. */
type Quote = (value: unknown) => string

class Refused extends Error {}

/** One value to a line of plain text: nothing that could begin another. */
const oneLine: Quote = value => {
  const text = textOf(value)
  if (/[\0\r\n]/.test(text)) throw new Refused('holds a line break or NUL')
  return text
}

/** A backslash at the end of a line joins it with the next one (systemd.syntax(7)). */
const iniLine: Quote = value => {
  const text = oneLine(value)
  if (text.endsWith('\\')) throw new Refused('ends with a backslash')
  return text
}

export const QUOTES = {
  /** a line of an ini or unit file, or of a file of one value a line */
  line: iniLine,
  /** one word of a POSIX shell */
  sh: value => `'${oneLine(value).replaceAll("'", `'\\''`)}'`,
  /** a YAML value; JSON is YAML */
  yaml: value => jsonOf(value),
  json: value => jsonOf(value),
  /** one word of an iPXE script, whose language has no quoting that would hold */
  ipxe: value => {
    const text = oneLine(value)
    if (!/^[\w.,:/@%+=~-]*$/.test(text)) throw new Refused('holds characters that iPXE would take for its own')
    return text
  },
} satisfies Record<string, Quote>

const BLOCKS = ['each', 'if', 'unless']

const compiled = new Map<string, Handlebars.TemplateDelegate>()

/** @throws IngotError TEMPLATE_INVALID naming file and line */
export function compileTemplate(name: string, source: string): CompiledTemplate {
  const sha256 = createHash('sha256').update(source).digest('hex')
  const delegate = compiled.get(sha256) ?? compile(name, source)
  compiled.set(sha256, delegate)
  return {
    name,
    sha256,
    render(data) {
      try {
        return delegate(data, {allowProtoMethodsByDefault: false, allowProtoPropertiesByDefault: false})
      } catch (error) {
        throw invalid(name, lineOf(error), error)
      }
    },
  }
}

function compile(name: string, source: string): Handlebars.TemplateDelegate {
  const environment = createEnvironment()
  let program: hbs.AST.Program
  try {
    program = environment.parse(source)
  } catch (error) {
    throw invalid(name, lineOf(error), error)
  }
  refuseBareValues(name, program)
  const build = (part: hbs.AST.Program) => environment.compile(part, {noEscape: true, strict: true, knownHelpersOnly: false})
  const whole = build(program)
  return (data, options) => {
    try {
      return whole(data, options)
    } catch (error) {
      if (lineOf(error) !== undefined) throw error
      // A path through something that is not there fails without a place; the first statement that fails alone is the place.
      const line = program.body.find(statement => fails(() => build({...program, body: [statement]})(data, options)))?.loc.start
        .line
      throw Object.assign(new Error(messageOf(error)), {lineNumber: line})
    }
  }
}

type HelperOptions = Handlebars.HelperOptions & {readonly loc?: {readonly start: {readonly line: number}}}

function createEnvironment(): typeof Handlebars {
  const environment = Handlebars.create()
  const blocks = BLOCKS.map(block => ({block, builtIn: environment.helpers[block] as Handlebars.HelperDelegate}))
  for (const helper of Object.keys(environment.helpers)) environment.unregisterHelper(helper)
  for (const {block, builtIn} of blocks) {
    // Handlebars takes what is not there for false or empty: a misspelt name would silently leave out what it guards.
    environment.registerHelper(block, function (this: unknown, value: unknown, options: HelperOptions) {
      if (value === undefined)
        throw Object.assign(new Error(`a value for {{#${block}}} is missing`), {lineNumber: options.loc?.start.line})
      return builtIn.call(this, value, options)
    })
  }
  for (const [helper, quote] of Object.entries(QUOTES)) {
    environment.registerHelper(helper, (value: unknown, options: HelperOptions) => {
      try {
        return quote(value)
      } catch (error) {
        throw Object.assign(new Error(`a value for {{${helper}}} ${messageOf(error)}`), {lineNumber: options.loc?.start.line})
      }
    })
  }
  return environment
}

/** Every `{{…}}` must be a call of a quoting helper with one value, every block one that is known. */
function refuseBareValues(name: string, program: hbs.AST.Program): void {
  for (const statement of program.body) {
    const refuse = (why: string) => invalid(name, statement.loc.start.line, new Error(why))
    if (statement.type === 'MustacheStatement') {
      const call = statement as hbs.AST.MustacheStatement
      const helper = 'original' in call.path ? String(call.path.original) : ''
      if (!takesOneValue(call) || !Object.hasOwn(QUOTES, helper)) {
        const quoted = Object.keys(QUOTES).map(quote => `{{${quote} …}}`)
        throw refuse(`{{${helper}}} is not quoted: write one value in ${quoted.join(', ')}`)
      }
    } else if (statement.type === 'BlockStatement') {
      const block = statement as hbs.AST.BlockStatement
      if (!BLOCKS.includes(String(block.path.original))) throw refuse(`there is no block {{#${block.path.original}}}`)
      if (!takesOneValue(block)) throw refuse(`{{#${block.path.original}}} takes one value`)
      // An inverted block ({{^if}}) has no program, one without {{else}} no inverse, whatever the types say.
      for (const branch of [block.program, block.inverse] as (hbs.AST.Program | undefined)[])
        if (branch) refuseBareValues(name, branch)
    } else if (statement.type !== 'ContentStatement' && statement.type !== 'CommentStatement') {
      throw refuse(`${statement.type} is not allowed: templates read no other templates`)
    }
  }
}

/** One name or literal: no call inside the call, no named arguments. */
function takesOneValue(call: hbs.AST.MustacheStatement | hbs.AST.BlockStatement): boolean {
  const [value] = call.params
  return (
    call.params.length === 1 &&
    value?.type !== 'SubExpression' &&
    ((call.hash as hbs.AST.Hash | undefined)?.pairs.length ?? 0) === 0
  )
}

function fails(work: () => unknown): boolean {
  try {
    work()
    return false
  } catch {
    return true
  }
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Refused(value === undefined || value === null ? 'is missing' : 'is not a text or number')
}

function jsonOf(value: unknown): string {
  const text = JSON.stringify(value)
  if (text === undefined) throw new Refused('is missing')
  // YAML 1.1 takes some of these for line breaks and the rest for unprintable; JSON may escape any of them.
  return text.replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function lineOf(error: unknown): number | undefined {
  const line = (error as {lineNumber?: unknown}).lineNumber ?? /line (\d+)/.exec(messageOf(error))?.[1]
  return line === undefined ? undefined : Number(line)
}

function invalid(name: string, line: number | undefined, error: unknown): IngotError {
  return new IngotError('TEMPLATE_INVALID', `${name}${line === undefined ? '' : `:${line}`}: ${messageOf(error)}`, {cause: error})
}
