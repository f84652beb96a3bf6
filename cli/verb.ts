/** What every API verb of the CLI shares: connection options, --json, how options are read, and failures told the same way. */
import {readFileSync} from 'node:fs'
import {type Command, InvalidArgumentError} from 'commander'
import {parse as parseYaml} from 'yaml'
import {IngotError, messageOf} from '../lib/errors.ts'
import {type Client, type ConnectionOptions, createClient} from './client.ts'
import {reportFailure} from './output.ts'

export type Context = {readonly client: Client; readonly json: boolean}

/** Adds the shared options and runs `work` with a client. */
export function apiVerb<A extends unknown[], O>(
  command: Command,
  work: (context: Context, options: O, ...args: A) => Promise<void>,
): Command {
  return command
    .option('--json', 'print JSON')
    .option('--api <address>', 'http://host:port or unix:/path (default: INGOT_API, else the socket in the state directory)')
    .option('--token-file <file>', 'file with the API token (default: INGOT_TOKEN, else ~/.config/ingot/token)')
    .option('--state <directory>', 'state directory of this host (default: INGOT_STATE, else /var/lib/ingot)')
    .allowExcessArguments()
    .action(async (...given: unknown[]) => {
      // commander hands over the arguments, then the options, then the command
      const options = given[given.length - 2] as ConnectionOptions & O
      const args = given.slice(0, -2) as A
      try {
        refuseExcess(command)
        await work({client: createClient(options), json: options.json === true}, options, ...args)
      } catch (error) {
        reportFailure(error, options.json === true)
      }
    })
}

/** commander would speak of the verb that stands for none; the mistake is nearly always a verb that does not exist. */
function refuseExcess(command: Command): void {
  const {args, parent, registeredArguments: wanted} = command
  const extra = args[wanted.length]
  if (extra === undefined || wanted.some(argument => argument.variadic)) return
  const verbs = parent?.parent ? parent.commands.map(verb => verb.name()) : []
  throw refuse(
    `\`ingot ${pathOf(command)}\` takes no '${extra}'`,
    verbs.length > 1 && parent
      ? `\`ingot ${pathOf(parent)}\` has ${verbs.join(', ')}; --help tells more.`
      : '--help says what it takes.',
  )
}

/** `dhcp options set`, without the program's own name. */
function pathOf(command: Command): string {
  const {parent} = command
  return parent?.parent ? `${pathOf(parent)} ${command.name()}` : command.name()
}

export function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It is not a number.')
  return value
}

/** A time as people write it, in this host's time zone unless it names another. */
export function parseTime(text: string): string {
  const at = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00` : text)
  if (Number.isNaN(at.getTime())) throw new InvalidArgumentError('It is not a time such as 2026-03-01 or 2026-03-01T12:00.')
  return at.toISOString()
}

/** Collects `--set name=value` pairs; a value that is JSON is taken as such, anything else as text. */
export function collectParameter(text: string, before: Record<string, unknown> = {}): Record<string, unknown> {
  const [name, value] = nameAndValue(text)
  return {...before, [name]: jsonOrText(value)}
}

/** Collects `--label name=value` pairs; every value is text. */
export function collectLabel(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [name, value] = nameAndValue(text)
  return {...before, [name]: value}
}

export function collect(text: string, before: string[] = []): string[] {
  return [...before, text]
}

/** A file of named values in YAML, of which JSON is a part. */
export function readYamlFile(path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = parseYaml(readFileSync(path, 'utf8'))
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) throw error
    throw refuse(`${path} is not YAML: ${messageOf(error).split('\n')[0]}`, 'Correct the file.')
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw refuse(`${path} does not hold names and values`, 'Write lines such as `image: debian-12`.')
}

/** Options that do not go together, told like any other problem. */
export function refuse(detail: string, mend: string): IngotError {
  return new IngotError('INVALID_INPUT', detail, {mend})
}

function nameAndValue(text: string): [name: string, value: string] {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It is not name=value.')
  return [text.slice(0, at), text.slice(at + 1)]
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
