/** `ingot ip allocate, free, confirm, renew, move, who, history`: who has what, since when, and why. */
import type {Command} from 'commander'
import type {Client} from './client.ts'
import {
  type Allocation,
  type Delegation,
  type Given,
  type HolderOptions,
  holderOf,
  holderText,
  type Past,
  type SourceOptions,
  sourceOf,
  withHolder,
  withSource,
} from './ip-shapes.ts'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import {apiVerb, parseNumber, parseTime, refuse} from './verb.ts'

type Asked = SourceOptions &
  HolderOptions & {
    count?: number
    address?: string
    length?: number
    cidr?: string
    link?: boolean
    hold?: number
    reason?: string
    tenant?: string
  }

export function addAllocationVerbs(ip: Command): void {
  apiVerb<[string | undefined], Asked>(
    withHolder(
      withSource(
        ip
          .command('allocate')
          .description('ask for addresses, or for whole prefixes')
          .argument('[prefix]', 'id or CIDR; or say where from by --role, --pool, --site, --label')
          .option('--count <number>', 'so many, all or none', parseNumber)
          .option('--address <address>', 'this one, not the next free')
          .option('--length <number>', 'whole prefixes of this length, carved out of a container', parseNumber)
          .option('--cidr <network>', 'this whole prefix')
          .option('--link', 'of a whole prefix: the first address is the gateway, the next is the holder’s')
          .option('--hold <seconds>', 'only for so long, unless confirmed or renewed', parseNumber)
          .option('--tenant <name>', 'whose quota it is spent of')
          .option('--reason <text>'),
      ),
    ),
    async ({client, json}, options, prefix) => {
      const from = sourceOf(options, prefix)
      if (!from && options.address === undefined)
        throw refuse('it must be said where from', 'Name a prefix, or give --role, --pool, --site or --label.')
      const given = await client.send<Given>('POST', '/v1/allocations', {
        from,
        for: await holderOf(client, options),
        count: options.count,
        address: options.address,
        length: options.length,
        cidr: options.cidr,
        link: options.link,
        hold_s: options.hold,
        tenant: options.tenant,
        reason: options.reason,
      })
      if (json) return printJson(given)
      for (const {cidr, holder, id} of given.delegations) printLine(`${cidr} is held by ${holderText(holder)} (${id}).`)
      for (const row of given.items)
        printLine(
          `${row.address} is held by ${cellOf(row.holder.name)}${row.expires_at ? ` until ${timeOf(row.expires_at)}` : ''} (${row.id}).`,
        )
    },
  )
  apiVerb<[string], {reason?: string; vrf?: string}>(
    ip
      .command('free')
      .description('free an address, or give a whole prefix back')
      .argument('<address>', 'the address, the prefix, or the id of its allocation')
      .option('--vrf <name>')
      .option('--reason <text>'),
    async ({client, json}, options, text) => {
      const query = options.reason === undefined ? '' : `?reason=${encodeURIComponent(options.reason)}`
      if (text.includes('/')) {
        const id = await delegationOf(client, text, options.vrf)
        const ended = await client.send<Delegation>('DELETE', `/v1/delegations/${id}${query}`)
        return json ? printJson(ended) : printLine(`${ended.cidr} is free again after its cool-down.`)
      }
      const id = await allocationOf(client, text, options.vrf)
      const freed = await client.send<Allocation>('DELETE', `/v1/allocations/${id}${query}`)
      if (json) return printJson(freed)
      printLine(`${freed.address} is free again after its cool-down.`)
    },
  )
  apiVerb<[string], {vrf?: string}>(
    ip.command('confirm').description('keep a held address for good').argument('<address>').option('--vrf <name>'),
    async ({client, json}, options, text) => {
      const kept = await client.send<Allocation>(
        'POST',
        `/v1/allocations/${await allocationOf(client, text, options.vrf)}/confirm`,
        {},
      )
      if (json) return printJson(kept)
      printLine(`${kept.address} stays with ${holderText(kept.holder)}.`)
    },
  )
  apiVerb<[string], {vrf?: string; hold: number}>(
    ip
      .command('renew')
      .description('hold an address for longer')
      .argument('<address>')
      .requiredOption('--hold <seconds>', 'from now', parseNumber)
      .option('--vrf <name>'),
    async ({client, json}, options, text) => {
      const id = await allocationOf(client, text, options.vrf)
      const held = await client.send<Allocation>('POST', `/v1/allocations/${id}/renew`, {hold_s: options.hold})
      if (json) return printJson(held)
      printLine(`${held.address} is held until ${timeOf(held.expires_at)}.`)
    },
  )
  apiVerb<[string], HolderOptions & {vrf?: string; reason?: string}>(
    withHolder(
      ip
        .command('move')
        .description('pass an address to another holder, in one instant')
        .argument('<address>')
        .option('--reason <text>')
        .option('--vrf <name>'),
    ),
    async ({client, json}, options, text) => {
      const id = await allocationOf(client, text, options.vrf)
      const body = {to: await holderOf(client, options), reason: options.reason}
      const moved = await client.send<Allocation>('POST', `/v1/allocations/${id}/move`, body)
      if (json) return printJson(moved)
      printLine(`${moved.address} is held by ${holderText(moved.holder)} now.`)
    },
  )
  apiVerb<[string], {at?: string; vrf?: string}>(
    ip
      .command('who')
      .description('who holds an address, or held it')
      .argument('<address>')
      .option('--at <time>', 'at this time, such as 2026-03-01 or 2026-03-01T12:00', parseTime)
      .option('--vrf <name>'),
    async ({client, json}, options, address) => {
      const held = await client.get<Allocation>(`/v1/addresses/${encodeURIComponent(address)}`, {
        at: options.at,
        vrf: options.vrf,
      })
      if (json) return printJson(held)
      const until = held.freed_at
        ? ` until ${timeOf(held.freed_at)}`
        : held.expires_at
          ? `, held until ${timeOf(held.expires_at)}`
          : ''
      const why = held.reason ? `: ${cellOf(held.reason)}` : ''
      printLine(`${held.address}: ${holderText(held.holder)} since ${timeOf(held.created_at)}${until}, as ${held.purpose}${why}`)
    },
  )
  apiVerb<[string], {vrf?: string}>(
    ip
      .command('history')
      .description('all who ever held an address, or all that a machine ever held')
      .argument('<address>', 'an address, or a machine’s id or name')
      .option('--vrf <name>'),
    async ({client, json}, options, text) => {
      const isAddress = /^[0-9.]+$/.test(text) || text.includes(':')
      const path = isAddress
        ? `/v1/addresses/${encodeURIComponent(text)}/history`
        : `/v1/machines/${encodeURIComponent(text)}/addresses`
      const past = await client.get<Past>(path, isAddress ? {vrf: options.vrf} : {})
      if (json) return printJson(past)
      const rows = [...past.items, ...past.delegations.map(row => ({...row, address: row.cidr}))].map(row => ({
        address: row.address,
        holder: holderText(row.holder),
        purpose: row.purpose,
        since: timeOf(row.created_at),
        by: row.created_by,
        reason: row.reason,
        until: row.freed_at ? timeOf(row.freed_at) : 'now',
        freed_by: row.freed_by,
        because: row.freed_reason,
      }))
      const columns = ['address', 'holder', 'purpose', 'since', 'by', 'reason', 'until', 'freed_by', 'because']
      printTable(rows, columns, 'Nothing was ever held.')
    },
  )
}

async function allocationOf(client: Client, text: string, vrf: string | undefined): Promise<string> {
  if (/^[0-9a-f-]{36}$/.test(text)) return text
  return (await client.get<Allocation>(`/v1/addresses/${encodeURIComponent(text)}`, {vrf})).id
}

async function delegationOf(client: Client, cidr: string, vrf: string | undefined): Promise<string> {
  const address = cidr.slice(0, cidr.lastIndexOf('/'))
  const past = await client.get<Past>(`/v1/addresses/${encodeURIComponent(address)}/history`, {vrf})
  const live = past.delegations.find(row => row.cidr === cidr && row.freed_at === null)
  if (live) return live.id
  throw refuse(
    `nobody holds ${cidr} as a whole prefix`,
    'Look with `ingot ip history`; a prefix itself is removed by `ingot ip remove`.',
  )
}
