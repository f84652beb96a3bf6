/** What `ingot ip …` reads of the API's answers, and how holders, sources and labels are given to it. */
import {type Command, InvalidArgumentError} from 'commander'
import {ApiProblem, type Client} from './client.ts'
import {cellOf} from './output.ts'
import type {Page} from './shapes.ts'
import {collectLabel, refuse} from './verb.ts'

export type Use = {size: number; held: number; cooling: number}
export type Prefix = {
  id: string
  vrf: string
  cidr: string
  status: string
  kind: string
  parent: string | null
  role: string | null
  site: string | null
  tenant: string | null
  description: string
  labels: Record<string, string>
  anycast: boolean
  gateway: string | null
  dns: string[]
  boot_url: string | null
  ranges: {kind: string; first: string; last: string}[]
  utilisation: {static: Use; dynamic: Use; container: {size: number; used: number; cooling: number} | null}
}
export type Allocation = {
  id: string
  address: string
  cidr: string | null
  holder: {kind: string; name: string}
  purpose: string
  reason: string
  tenant: string | null
  interface: string | null
  expires_at: string | null
  created_at: string
  created_by: string
  freed_at: string | null
  freed_by: string | null
  freed_reason: string | null
}
export type Delegation = Omit<Allocation, 'address' | 'cidr' | 'interface' | 'expires_at'> & {cidr: string}
export type Given = {items: Allocation[]; delegations: Delegation[]}
export type Past = Given

export type SourceOptions = {
  role?: string
  site?: string
  pool?: string
  label?: Record<string, string>
  vrf?: string
  ipv4?: boolean
  ipv6?: boolean
}
export type HolderOptions = {for?: string; machine?: string; person?: string; interface?: string}

export function withSource(command: Command): Command {
  return command
    .option('--role <name>', 'of prefixes with this role')
    .option('--site <name>', 'of prefixes at this site')
    .option('--pool <name>', 'of this pool, in its order')
    .option('--label <name=value>', 'of prefixes with this label; may be given again', collectLabel)
    .option('--vrf <name>')
    .option('-4, --ipv4', 'of IPv4 only')
    .option('-6, --ipv6', 'of IPv6 only')
}

export function sourceOf(options: SourceOptions, prefix: string | undefined): Record<string, unknown> | undefined {
  const family = options.ipv4 ? 4 : options.ipv6 ? 6 : undefined
  const {role, site, pool, label, vrf} = options
  const given = Object.entries({prefix, role, site, pool, labels: label, family, vrf}).filter(([, value]) => value !== undefined)
  return given.some(([key]) => key !== 'family' && key !== 'vrf') ? Object.fromEntries(given) : undefined
}

export function withHolder(command: Command): Command {
  return command
    .option('--for <name>', 'a machine of this name holds it, or, if there is none, a service')
    .option('--machine <machine>', 'a machine holds it')
    .option('--person <name>', 'a person holds it')
    .option('--interface <interface>', 'of the machine: MAC or name')
}

export async function holderOf(client: Client, options: HolderOptions): Promise<Record<string, unknown>> {
  const given = [options.for, options.machine, options.person].filter(name => name !== undefined)
  if (given.length !== 1)
    throw refuse('it must be said who holds the address', 'Give --for with a name, or --machine, or --person.')
  const {person, machine, interface: onInterface} = options
  if (person !== undefined) return {kind: 'person', name: person}
  const name = machine ?? options.for ?? ''
  const isMachine = machine !== undefined || (await hasMachine(client, name))
  return isMachine ? {kind: 'machine', name, interface: onInterface} : {kind: 'service', name}
}

async function hasMachine(client: Client, name: string): Promise<boolean> {
  try {
    await client.get(`/v1/machines/${encodeURIComponent(name)}`)
    return true
  } catch (error) {
    // A tenant's token sees no machines; an id with odd characters names none.
    if (error instanceof ApiProblem && ['NOT_FOUND', 'FORBIDDEN', 'INVALID_INPUT'].includes(error.problem.code)) return false
    throw error
  }
}

export async function allPages<T>(
  client: Client,
  path: string,
  query: Record<string, string | number | undefined> = {},
): Promise<T[]> {
  const items: T[] = []
  let after: string | undefined
  do {
    const page = await client.get<Page<T>>(path, {...query, after})
    items.push(...page.items)
    after = page.next ?? undefined
  } while (after !== undefined)
  return items
}

export function useOf(part: Use): string {
  return part.size === 0 ? '-' : `${part.held}/${shortNumber(part.size)}${part.cooling ? ` (${part.cooling} cooling)` : ''}`
}

/** `1.8e19` rather than twenty digits. */
export function shortNumber(value: number): string {
  return value < 1e9 ? String(value) : value.toExponential(1).replace('+', '')
}

export function holderText({kind, name}: {kind: string; name: string}): string {
  return `${kind} ${cellOf(name)}`
}

export function parseQuota(text: string, before: object[] = []): object[] {
  const match = /^ipv([46])(?::([^=]+))?=(\d+)$/.exec(text)
  if (!match) throw new InvalidArgumentError('It is not like ipv4=16 or ipv4:public=4.')
  return [...before, {family: Number(match[1]), role: match[2] ?? null, at_most: Number(match[3])}]
}
