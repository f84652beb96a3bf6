/** `ingot dhcp …`: options and boot loaders by scope, and by what else than its MACs a machine is known. */
import {Command} from 'commander'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, refuse} from './verb.ts'

type Scope = {prefix?: string; profile?: string; machine?: string}
type Options = {scope: string; options: Record<string, {value: unknown; always: boolean}>}
type Loaders = {scope: string; loaders: Record<string, string>}
type OptionType = {name: string; code: number; type: string; example: string; owned: string | null}
type Key = {id: string; kind: string; value: string; relay: string | null; created_at: string}

export function dhcpCommand(): Command {
  const dhcp = new Command('dhcp').description('what DHCP clients are told, by scope: site, prefix, profile, machine')
  dhcp.addCommand(optionsCommand())
  dhcp.addCommand(loadersCommand())
  dhcp.addCommand(keysCommand())
  return dhcp
}

function optionsCommand(): Command {
  const options = new Command('options').description('DHCP options; the narrower scope wins: machine, profile, prefix, site')
  apiVerb<[], Scope>(
    withScope(options.command('list', {isDefault: true}).description('options set in a scope; the site’s when none is named')),
    async ({client, json}, scope) => {
      const found = await client.get<Options>('/v1/dhcp/options', scopeOf(scope))
      if (json) return printJson(found)
      printOptions(found)
    },
  )
  apiVerb<[string[]], Scope & {always?: boolean}>(
    withScope(
      options
        .command('set')
        .description('set options; a list has commas, several words want quotes')
        .argument('<name=value...>', 'such as ntp_servers=10.0.0.1,10.0.0.2 or option-224:text=lab')
        .option('--always', 'send them to clients that do not ask for them, too'),
    ),
    async ({client, json}, {always, ...scope}, pairs) => {
      const set = pairs.map(pair => {
        const [name, value] = splitPair(pair)
        return {name, value: jsonOrText(value), always: always === true}
      })
      const found = await client.send<Options>('PATCH', '/v1/dhcp/options', {...scopeOf(scope), set})
      if (json) return printJson(found)
      printOptions(found)
    },
  )
  apiVerb<[string[]], Scope>(
    withScope(options.command('unset').description('take options away').argument('<name...>')),
    async ({client, json}, scope, unset) => {
      const found = await client.send<Options>('PATCH', '/v1/dhcp/options', {...scopeOf(scope), unset})
      if (json) return printJson(found)
      printOptions(found)
    },
  )
  apiVerb<[], {owned?: boolean}>(
    options
      .command('types')
      .description('options that have a name; any other is option-<code>:<type>')
      .option('--owned', 'those that Ingot sends itself, and why they cannot be set'),
    async ({client, json}, {owned}) => {
      const {items} = await client.get<Page<OptionType>>('/v1/dhcp/option-types')
      if (json) return printJson({items, next: null})
      const shown = items.filter(item => (item.owned !== null) === (owned === true))
      const rows = shown.map(item => ({...item, why: item.owned}))
      printTable(rows, owned ? ['code', 'name', 'why'] : ['code', 'name', 'type', 'example'], 'There are none.')
    },
  )
  return options
}

function loadersCommand(): Command {
  const loaders = new Command('loaders').description(
    'boot loaders other than the usual ones, by kind or IANA architecture number',
  )
  apiVerb<[], Scope>(
    withScope(loaders.command('list', {isDefault: true}).description('loaders set in a scope; the site’s when none is named')),
    async ({client, json}, scope) => {
      const found = await client.get<Loaders>('/v1/dhcp/loaders', scopeOf(scope))
      if (json) return printJson(found)
      printLoaders(found)
    },
  )
  apiVerb<[string[]], Scope>(
    withScope(
      loaders
        .command('set')
        .description('set loaders')
        .argument('<for=file...>', 'such as uefi-x64=ipxe.efi, bios=undionly.kpxe, or 16=ipxe.efi for one architecture'),
    ),
    async ({client, json}, scope, pairs) => {
      const set = Object.fromEntries(pairs.map(splitPair))
      const found = await client.send<Loaders>('PATCH', '/v1/dhcp/loaders', {...scopeOf(scope), set})
      if (json) return printJson(found)
      printLoaders(found)
    },
  )
  apiVerb<[string[]], Scope>(
    withScope(loaders.command('unset').description('take loaders away').argument('<for...>')),
    async ({client, json}, scope, unset) => {
      const found = await client.send<Loaders>('PATCH', '/v1/dhcp/loaders', {...scopeOf(scope), unset})
      if (json) return printJson(found)
      printLoaders(found)
    },
  )
  return loaders
}

function keysCommand(): Command {
  const keys = new Command('keys').description('by what else than its MACs DHCP knows a machine')
  apiVerb<[string], object>(
    keys.command('list', {isDefault: true}).description('client keys of a machine').argument('<machine>', 'id or name'),
    async ({client, json}, _options, machine) => {
      const page = await client.get<Page<Key>>(keysOf(machine))
      if (json) return printJson(page)
      const rows = page.items.map(key => ({...key, since: timeOf(key.created_at)}))
      printTable(rows, ['kind', 'value', 'relay', 'since', 'id'], 'It is known by its MACs and its UUID only.')
    },
  )
  apiVerb<[string], {clientId?: string; circuitId?: string; relay?: string}>(
    keys
      .command('add')
      .description('let DHCP know a machine by one more key')
      .argument('<machine>', 'id or name')
      .option('--client-id <hex>', 'what it sends as option 61, such as 01:52:54:00:12:34:56')
      .option('--circuit-id <hex>', 'what its relay sends in option 82: the switch port it is on')
      .option('--relay <address>', 'only when that relay says so'),
    async ({client, json}, {clientId, circuitId, relay}, machine) => {
      if ((clientId === undefined) === (circuitId === undefined))
        throw refuse('it must be said by what the machine is known', 'Give --client-id or --circuit-id.')
      const body = {kind: clientId === undefined ? 'circuit_id' : 'client_id', value: clientId ?? circuitId, relay}
      const key = await client.send<Key>('POST', keysOf(machine), body)
      if (json) return printJson(key)
      printLine(`${machine} is known by ${key.kind} ${key.value} too (${key.id}).`)
    },
  )
  apiVerb<[string, string], object>(
    keys.command('remove').description('take a key away').argument('<machine>', 'id or name').argument('<key>', 'its id'),
    async ({client, json}, _options, machine, id) => {
      const key = await client.send<Key>('DELETE', `${keysOf(machine)}/${encodeURIComponent(id)}`)
      if (json) return printJson(key)
      printLine(`${machine} is no longer known by ${key.kind} ${key.value}.`)
    },
  )
  return keys
}

function withScope(command: Command): Command {
  return command
    .option('--prefix <prefix>', 'id or CIDR: for its clients')
    .option('--profile <profile>', 'for machines that have it, or are being installed with it')
    .option('--machine <machine>', 'id or name: for this one')
}

function scopeOf({prefix, profile, machine}: Scope): Scope {
  if ([prefix, profile, machine].filter(name => name !== undefined).length > 1)
    throw refuse('more than one scope is named', 'Give one of --prefix, --profile and --machine, or none for the whole site.')
  return {...(prefix ? {prefix} : {}), ...(profile ? {profile} : {}), ...(machine ? {machine} : {})}
}

function keysOf(machine: string): string {
  return `/v1/machines/${encodeURIComponent(machine)}/client-keys`
}

function splitPair(pair: string): [name: string, value: string] {
  const at = pair.indexOf('=')
  if (at < 1) throw refuse(`'${pair}' is not name=value`, '--help has examples.')
  return [pair.slice(0, at), pair.slice(at + 1)]
}

/** Only what looks like a list or an object: `ntp_servers=10.0.0.1` and `host_name=7` are texts, which the API reads by type. */
function jsonOrText(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function printOptions({scope, options}: Options): void {
  const rows = Object.entries(options).map(([name, {value, always}]) => ({
    name,
    value: typeof value === 'object' ? JSON.stringify(value) : cellOf(String(value)),
    sent: always ? 'always' : 'when asked for',
  }))
  printTable(rows, ['name', 'value', 'sent'], `No option is set for ${scopeText(scope)}.`)
}

function printLoaders({scope, loaders}: Loaders): void {
  const rows = Object.entries(loaders).map(([key, file]) => ({for: key, file}))
  printTable(rows, ['for', 'file'], `No loader is set for ${scopeText(scope)}: it boots the usual one.`)
}

function scopeText(scope: string): string {
  return scope === 'site' ? 'the whole site' : cellOf(scope)
}
