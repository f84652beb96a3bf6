/** `ingot ip prefixes, add, set, remove, available, report, map`: what there is and how full it is. */
import {type Command, InvalidArgumentError} from 'commander'
import {mapLines, type PrefixMap} from './ip-map.ts'
import {type SettingOptions, settingsOf, withSettings} from './ip-settings.ts'
import {allPages, type Prefix, shortNumber, useOf} from './ip-shapes.ts'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, collect, collectLabel, parseNumber, refuse} from './verb.ts'

type ListOptions = {
  role?: string
  site?: string
  tenant?: string
  status?: string
  vrf?: string
  within?: string
  label?: string[]
}
type ReportRow = {
  prefix: Prefix
  size: number
  used: number
  cooling: number
  conflicts: number
  forecast: {per_day: number; days_left: number | null}
  biggest: {kind: string; name: string; addresses: number}[]
}
type Free = {address?: string; cidr?: string; freed_at: string | null; cool_until: string | null; conflict?: string | null}

export function addPrefixVerbs(ip: Command): void {
  apiVerb<[], ListOptions>(
    withFilter(ip.command('prefixes', {isDefault: true}).description('list prefixes and how full they are')),
    async ({client, json}, options) => {
      const items = await allPages<Prefix>(client, '/v1/prefixes', queryOf(options))
      if (json) return printJson({items, next: null})
      const rows = items.map(prefix => ({
        ...prefix,
        cidr: `${'  '.repeat(depthOf(prefix, items))}${prefix.cidr}`,
        static: prefix.utilisation.container ? containerUse(prefix.utilisation.container) : useOf(prefix.utilisation.static),
        dynamic: useOf(prefix.utilisation.dynamic),
      }))
      printTable(
        rows,
        ['cidr', 'status', 'role', 'gateway', 'static', 'dynamic', 'boot_url', 'id'],
        'There are no prefixes: `ingot ip add` makes one.',
      )
    },
  )
  apiVerb<
    [string],
    SettingOptions & NamingOptions & {container?: boolean; anycast?: boolean; bmc?: boolean; vrf?: string; exclude?: string[]}
  >(
    withNaming(
      withSettings(
        ip
          .command('add')
          .description('add a prefix')
          .argument('<cidr>')
          .option('--vrf <name>')
          .option('--container', 'it holds prefixes, which are carved out of it')
          .option('--anycast', 'its addresses may have several holders')
          .option('--bmc', 'BMCs are in it')
          .option('--exclude <address>', 'an address that something else uses; may be given again', collect),
      ),
    ),
    async ({client, json}, options, cidr) => {
      const {vrf, exclude, container, anycast, bmc} = options
      const body = {cidr, vrf, exclude, anycast, ...(bmc ? {kind: 'bmc'} : {}), ...namingOf(options), ...settingsOf(options)}
      const prefix = await client.send<Prefix>('POST', '/v1/prefixes', container ? {...body, status: 'container'} : body)
      if (json) return printJson(prefix)
      printLine(`Added ${prefix.cidr} (${prefix.id}).`)
    },
  )
  apiVerb<[string], SettingOptions & NamingOptions & {vrf?: string}>(
    withNaming(
      withSettings(
        ip
          .command('set')
          .description('change what a prefix’s machines are told, its ranges, and what it is found by')
          .argument('<prefix>', 'id or CIDR')
          .option('--vrf <name>', 'where a CIDR is looked up'),
      ),
    ),
    async ({client, json}, options, id) => {
      const change = {...namingOf(options), ...settingsOf(options)}
      if (Object.values(change).every(value => value === undefined)) throw refuse('nothing is to be changed', 'Give an option.')
      const prefix = await client.send<Prefix>('PATCH', pathOf(id, '', {vrf: options.vrf}), change)
      if (json) return printJson(prefix)
      printLine(`Changed ${prefix.cidr}.`)
    },
  )
  apiVerb<[string], {vrf?: string}>(
    ip
      .command('remove')
      .description('remove a prefix in which nobody holds anything')
      .argument('<prefix>', 'id or CIDR')
      .option('--vrf <name>'),
    async ({client, json}, options, id) => {
      await client.send('DELETE', pathOf(id, '', {vrf: options.vrf}))
      if (json) return printJson({removed: id})
      printLine(`Removed ${id}; the history of its addresses stays.`)
    },
  )
  apiVerb<[string], {vrf?: string; limit?: number}>(
    ip
      .command('available')
      .description('what would be given next; of a container, its free blocks')
      .argument('<prefix>', 'id or CIDR')
      .option('--vrf <name>')
      .option('--limit <number>', 'so many (default 20)', parseNumber),
    async ({client, json}, options, id) => {
      const page = await client.get<Page<Free>>(pathOf(id, '/available'), {vrf: options.vrf, limit: options.limit})
      if (json) return printJson(page)
      const rows = page.items.map(row => ({
        free: row.cidr ?? row.address,
        was_freed: row.freed_at ? timeOf(row.freed_at) : 'never used',
        cools_until: row.cool_until ? timeOf(row.cool_until) : null,
        conflict: row.conflict,
      }))
      printTable(rows, ['free', 'was_freed', 'cools_until', 'conflict'], 'Nothing is free.')
    },
  )
  apiVerb<[], ListOptions>(
    withFilter(ip.command('report').description('the fullest first: who fills them, and for how many days they last')),
    async ({client, json}, options) => {
      const page = await client.get<Page<ReportRow>>('/v1/prefix-report', queryOf(options))
      if (json) return printJson(page)
      const rows = page.items.map(row => ({
        cidr: row.prefix.cidr,
        role: row.prefix.role,
        used: `${shortNumber(row.used)}/${shortNumber(row.size)}`,
        full: row.size === 0 ? null : `${Math.round((row.used / row.size) * 100)} %`,
        cooling: row.cooling || null,
        conflicts: row.conflicts || null,
        per_day: row.forecast.per_day,
        days_left: row.forecast.days_left,
        biggest_users: row.biggest.map(user => `${cellOf(user.name)} (${shortNumber(user.addresses)})`).join(', '),
      }))
      const columns = ['cidr', 'role', 'used', 'full', 'cooling', 'conflicts', 'per_day', 'days_left', 'biggest_users']
      printTable(rows, columns, 'There are no prefixes.')
    },
  )
  apiVerb<[string], {vrf?: string; cells?: number}>(
    ip
      .command('map')
      .description('draw a prefix: what is held, cools, and is free')
      .argument('<prefix>', 'id or CIDR')
      .option('--vrf <name>')
      .option('--cells <number>', 'in so many cells (default 256)', parseNumber),
    async ({client, json}, options, id) => {
      const map = await client.get<PrefixMap>(pathOf(id, '/map'), {vrf: options.vrf, cells: options.cells})
      if (json) return printJson(map)
      for (const line of mapLines(map)) printLine(line)
    },
  )
}

function pathOf(id: string, below = '', query: {vrf?: string | undefined} = {}): string {
  return `/v1/prefixes/${encodeURIComponent(id)}${below}${query.vrf === undefined ? '' : `?vrf=${encodeURIComponent(query.vrf)}`}`
}

/** How many containers of the list lie around it. */
function depthOf(prefix: Prefix, all: readonly Prefix[]): number {
  let depth = 0
  let at: Prefix | undefined = prefix
  while (at?.parent) {
    const {parent, vrf}: Prefix = at
    at = all.find(other => other.cidr === parent && other.vrf === vrf)
    if (at) depth++
  }
  return depth
}

function containerUse({size, used, cooling}: {size: number; used: number; cooling: number}): string {
  return `${shortNumber(used)}/${shortNumber(size)} in prefixes${cooling ? ` (${shortNumber(cooling)} cooling)` : ''}`
}

function withFilter(command: Command): Command {
  return command
    .option('--role <name>')
    .option('--site <name>')
    .option('--tenant <name>')
    .option('--status <status>', 'container, active, reserved or deprecated')
    .option('--vrf <name>')
    .option('--within <network>', 'under this network')
    .option('--label <name=value>', 'with this label', collect)
}

function queryOf({label, ...rest}: ListOptions): Record<string, string | undefined> {
  if (label !== undefined && label.length > 1) throw refuse('one label at a time', 'Give --label once.')
  return {
    role: rest.role,
    site: rest.site,
    tenant: rest.tenant,
    status: rest.status,
    vrf: rest.vrf,
    within: rest.within,
    label: label?.[0],
  }
}

type NamingOptions = {
  role?: string
  site?: string
  tenant?: string
  status?: string
  label?: Record<string, string>
  description?: string
  range?: object[]
}

function withNaming(command: Command): Command {
  return command
    .option('--role <name>')
    .option('--site <name>')
    .option('--tenant <name>', 'whose own it is')
    .option('--status <status>', 'active, reserved or deprecated')
    .option('--label <name=value>', 'may be given again; all of them take the place of those before', collectLabel)
    .option('--description <text>')
    .option(
      '--range <kind:first-last>',
      'such as static:10.0.0.10-10.0.0.99; all of them take the place of those before',
      parseRange,
    )
}

function namingOf({role, site, tenant, status, label, description, range}: NamingOptions) {
  return {role, site, tenant, status, labels: label, description, ranges: range}
}

function parseRange(text: string, before: object[] = []): object[] {
  const match = /^(static|dynamic):([0-9a-f.:]+)-([0-9a-f.:]+)$/i.exec(text)
  if (!match) throw new InvalidArgumentError('It is not like static:10.0.0.10-10.0.0.99.')
  return [...before, {kind: match[1], first: match[2], last: match[3]}]
}
