/** `ingot windows …` and `ingot sightings`: enrolment. */
import {readFileSync} from 'node:fs'
import {Command} from 'commander'
import {prefixNames} from './names.ts'
import {printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, parseNumber, refuse} from './verb.ts'

type Window = {
  id: string
  prefix_id: string
  until: string
  closed_at: string | null
  clean: boolean
  machine_limit: number
  created_by: string
}

type OpenOptions = {minutes: number; clean?: boolean; limit?: number; bmcUser?: string; bmcPasswordFile?: string}

export function windowsCommand(): Command {
  const windows = new Command('windows').description('enrolment windows: when unknown machines may enrol themselves')
  apiVerb<[], {limit: number; after?: string}>(
    windows
      .command('list', {isDefault: true})
      .description('newest first')
      .option('--limit <n>', 'rows', parseNumber, 20)
      .option('--after <window>', 'go on after this one'),
    async ({client, json}, {limit, after}) => {
      const page = await client.get<Page<Window>>('/v1/windows', {limit, after})
      if (json) return printJson(page)
      const prefixes = await prefixNames(client)
      const rows = await Promise.all(
        page.items.map(async window => ({
          ...window,
          prefix: await prefixes(window.prefix_id),
          is: window.closed_at
            ? `closed ${timeOf(window.closed_at)}`
            : `${Date.parse(window.until) > Date.now() ? 'open until' : 'ended'} ${timeOf(window.until)}`,
          cleans: window.clean ? 'blank disks' : 'no',
          by: window.created_by,
        })),
      )
      printTable(rows, ['id', 'prefix', 'is', 'cleans', 'machine_limit', 'by'], 'No window was ever opened.')
      if (page.next) printLine(`… more: --after ${page.next}`)
    },
  )
  apiVerb<[string], OpenOptions>(
    windows
      .command('open')
      .description('let unknown machines on a prefix enrol')
      .argument('<prefix>', 'id or CIDR')
      .option('--minutes <n>', 'for how long', parseNumber, 60)
      .option('--clean', 'wipe newcomers by itself, if every disk of theirs is blank')
      .option('--limit <n>', 'machines at most', parseNumber)
      .option('--bmc-user <name>', 'what the newcomers’ BMCs are reached with')
      .option('--bmc-password-file <file>'),
    async ({client, json}, options, prefix) => {
      const body = {
        prefix,
        minutes: options.minutes,
        clean: options.clean === true,
        machine_limit: options.limit,
        bmc: credentials(options),
      }
      const window = await client.send<Window>('POST', '/v1/windows', body)
      if (json) return printJson(window)
      printLine(`Window ${window.id} is open until ${timeOf(window.until)}.`)
      printLine('Switch the machines on; `ingot events --follow` shows them.')
    },
  )
  apiVerb<[string], object>(
    windows.command('close').description('close a window now').argument('<window>', 'id'),
    async ({client, json}, _options, id) => {
      await client.send('DELETE', `/v1/windows/${encodeURIComponent(id)}`)
      if (json) return printJson({closed: id})
      printLine('Closed.')
    },
  )
  return windows
}

export function sightingsCommand(): Command {
  return apiVerb<[], {limit: number; after?: string}>(
    new Command('sightings')
      .description('unknown MACs seen on the wire')
      .option('--limit <n>', 'rows', parseNumber, 100)
      .option('--after <mac>', 'go on after this MAC'),
    async ({client, json}, options) => {
      const page = await client.get<Page<Record<string, unknown>>>('/v1/sightings', {limit: options.limit, after: options.after})
      if (json) return printJson(page)
      const rows = page.items.map(row => ({...row, first_seen: timeOf(row.first_seen), last_seen: timeOf(row.last_seen)}))
      printTable(rows, ['mac', 'arch', 'vendor_class', 'packets', 'first_seen', 'last_seen'], 'No unknown MAC was seen.')
      if (page.next) printLine(`… more: --after ${page.next}`)
    },
  )
}

function credentials({bmcUser: username, bmcPasswordFile: file}: OpenOptions) {
  if (username === undefined && file === undefined) return undefined
  if (username === undefined || file === undefined)
    throw refuse('a BMC is reached with a name and a password', 'Give both --bmc-user and --bmc-password-file, or neither.')
  return {username, password: readFileSync(file, 'utf8').trim()}
}
