/** `ingot ip …`: prefixes and addresses. */
import {Command, Option} from 'commander'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, collect, parseNumber, parseTime, refuse} from './verb.ts'

type Use = {size: number; held: number; cooling: number}
type Prefix = {
  id: string
  cidr: string
  status: string
  gateway: string | null
  boot_url: string | null
  utilisation: {static: Use; dynamic: Use}
}
type Allocation = {
  id: string
  address: string
  cidr: string
  holder: {kind: string; name: string}
  purpose: string
  reason: string
  created_at: string
  freed_at: string | null
}

export function ipCommand(): Command {
  const ip = new Command('ip').description('prefixes and addresses')
  apiVerb<[], object>(
    ip.command('prefixes', {isDefault: true}).description('list prefixes and how full they are'),
    async ({client, json}) => {
      const page = await client.get<Page<Prefix>>('/v1/prefixes')
      if (json) return printJson(page)
      const rows = page.items.map(prefix => ({
        ...prefix,
        static: use(prefix.utilisation.static),
        dynamic: use(prefix.utilisation.dynamic),
      }))
      printTable(
        rows,
        ['cidr', 'status', 'gateway', 'static', 'dynamic', 'boot_url', 'id'],
        'There are no prefixes: `ingot ip add` makes one.',
      )
    },
  )
  apiVerb<[string], SettingOptions & {role?: string; site?: string; exclude?: string[]}>(
    withSettings(
      ip
        .command('add')
        .description('add a prefix')
        .argument('<cidr>')
        .option('--role <name>')
        .option('--site <name>')
        .option('--exclude <address>', 'an address that something else uses; may be given again', collect),
    ),
    async ({client, json}, options, cidr) => {
      const {role, site, exclude} = options
      const prefix = await client.send<Prefix>('POST', '/v1/prefixes', {cidr, role, site, exclude, ...settings(options)})
      if (json) return printJson(prefix)
      printLine(`Added ${prefix.cidr} (${prefix.id}).`)
    },
  )
  apiVerb<[string], SettingOptions>(
    withSettings(ip.command('set').description('change what a prefix’s machines are told').argument('<prefix>', 'id or CIDR')),
    async ({client, json}, options, id) => {
      const change = settings(options)
      if (Object.values(change).every(value => value === undefined)) throw refuse('nothing is to be changed', 'Give an option.')
      const prefix = await client.send<Prefix>('PATCH', `/v1/prefixes/${encodeURIComponent(id)}`, change)
      if (json) return printJson(prefix)
      printLine(`Changed ${prefix.cidr}.`)
    },
  )
  apiVerb<[string], {for?: string; machine?: string; address?: string; reason?: string}>(
    ip
      .command('allocate')
      .description('ask for an address')
      .argument('<prefix>', 'id or CIDR')
      .option('--for <name>', 'a service of this name holds it')
      .option('--machine <machine>', 'a machine holds it')
      .option('--address <address>', 'this one, not the next free')
      .option('--reason <text>'),
    async ({client, json}, options, prefix) => {
      const {machine, for: service} = options
      if ((machine === undefined) === (service === undefined))
        throw refuse('it must be said who holds the address', 'Give --for with a name, or --machine.')
      const holder = machine === undefined ? {kind: 'service', name: service} : {kind: 'machine', name: machine}
      const allocation = await client.send<Allocation>('POST', `/v1/prefixes/${encodeURIComponent(prefix)}/allocations`, {
        for: holder,
        address: options.address,
        reason: options.reason,
      })
      if (json) return printJson(allocation)
      printLine(`${allocation.address} is held by ${cellOf(allocation.holder.name)} (${allocation.id}).`)
    },
  )
  apiVerb<[string], object>(
    ip.command('free').description('free an address').argument('<address>', 'the address, or the id of its allocation'),
    async ({client, json}, _options, text) => {
      const id = /^[0-9a-f-]{36}$/.test(text)
        ? text
        : (await client.get<Allocation>(`/v1/addresses/${encodeURIComponent(text)}`)).id
      const freed = await client.send<Allocation>('DELETE', `/v1/allocations/${id}`)
      if (json) return printJson(freed)
      printLine(`${freed.address} is free again after its cool-down.`)
    },
  )
  apiVerb<[string], {at?: string}>(
    ip
      .command('who')
      .description('who holds an address, or held it')
      .argument('<address>')
      .option('--at <time>', 'at this time, such as 2026-03-01 or 2026-03-01T12:00', parseTime),
    async ({client, json}, options, address) => {
      const held = await client.get<Allocation>(`/v1/addresses/${encodeURIComponent(address)}`, {at: options.at})
      if (json) return printJson(held)
      const {kind, name} = held.holder
      const until = held.freed_at ? ` until ${timeOf(held.freed_at)}` : ''
      const why = held.reason ? `: ${cellOf(held.reason)}` : ''
      printLine(`${held.address}: ${kind} ${cellOf(name)} since ${timeOf(held.created_at)}${until}, as ${held.purpose}${why}`)
    },
  )
  return ip
}

function use(part: Use): string {
  return part.size === 0 ? '-' : `${part.held}/${part.size}${part.cooling ? ` (${part.cooling} cooling)` : ''}`
}

type SettingOptions = {
  gateway?: string
  dns?: string[]
  bootUrl?: string
  lease?: number
  dhcp?: string
  bootp?: string
  ra?: boolean
  relay?: string[]
}

function withSettings(command: Command): Command {
  return command
    .option('--gateway <address>')
    .option('--dns <address>', 'may be given again', collect)
    .option('--boot-url <url>', 'where its machines reach the boot service, such as http://10.0.0.1:8480')
    .option('--lease <seconds>', 'DHCP lease time; `infinite` has no end', parseLease)
    .addOption(
      new Option('--dhcp <mode>', 'who gives the addresses: Ingot, another server with Ingot beside it, or nobody').choices([
        'authoritative',
        'proxy',
        'off',
      ]),
    )
    .addOption(
      new Option('--bootp <policy>', 'what BOOTP clients get: nothing, or known machines their address').choices([
        'ignored',
        'static',
      ]),
    )
    .option('--relay <address>', 'a relay that may speak for it; may be given again', collect)
    .option('--ra', 'send the router advertisement that spares iPXE 14 s')
    .option('--no-ra', 'send none')
}

function settings(options: SettingOptions) {
  return {
    gateway: options.gateway,
    dns: options.dns,
    boot_url: options.bootUrl,
    lease_s: options.lease,
    dhcp: options.dhcp,
    bootp: options.bootp,
    relays: options.relay,
    router_advertisement: options.ra,
  }
}

/** RFC 2131 §3.3: all ones is a lease without an end. */
function parseLease(text: string): number {
  return text === 'infinite' ? 0xffffffff : parseNumber(text)
}
