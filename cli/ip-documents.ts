/**
 * Addresses as documents: Ingot's own JSON, CSV with a line a prefix or an address, and what NetBox's API answers. Pure.
 *
 * NetBox lets any prefix hold others; here only a container does. So a NetBox prefix that holds others becomes one, and a note says so.
 */
import {IngotError} from '../lib/errors.ts'

export type PrefixRow = {
  cidr: string
  vrf: string
  status: string
  role: string | null
  site: string | null
  tenant: string | null
  gateway: string | null
  description: string
}
export type AddressRow = {
  address: string
  vrf: string
  holder_kind: string
  holder: string
  reason: string
  tenant: string | null
}
export type AggregateRow = {cidr: string; vrf: string; registry: string; description: string}
export type Documents = {
  vrfs: {name: string; description: string}[]
  aggregates: AggregateRow[]
  prefixes: PrefixRow[]
  addresses: AddressRow[]
  notes: string[]
}

const PREFIX_COLUMNS = ['cidr', 'vrf', 'status', 'role', 'site', 'tenant', 'gateway', 'description'] as const
const ADDRESS_COLUMNS = ['address', 'vrf', 'holder_kind', 'holder', 'reason', 'tenant'] as const

export function toCsv(documents: Documents, what: 'prefixes' | 'addresses'): string {
  return what === 'prefixes' ? csvOf(PREFIX_COLUMNS, documents.prefixes) : csvOf(ADDRESS_COLUMNS, documents.addresses)
}

/** @throws IngotError INVALID_INPUT when it is none of the three */
export function readDocuments(text: string): Documents {
  const trimmed = text.trimStart()
  if (trimmed.startsWith('{') || trimmed.startsWith('[')) return readJson(trimmed)
  return readCsv(text)
}

function readJson(text: string): Documents {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw unreadable(`is no JSON: ${error instanceof Error ? error.message : ''}`)
  }
  if (isRecord(value) && Array.isArray(value.prefixes) && !('results' in value)) {
    const list = <T>(name: string) => (Array.isArray(value[name]) ? (value[name] as T[]) : [])
    return {
      vrfs: list('vrfs'),
      aggregates: list('aggregates'),
      prefixes: list('prefixes'),
      addresses: list('addresses'),
      notes: [],
    }
  }
  const lists = Array.isArray(value) ? value : [value]
  // One answer of the API, several in a list, or only the objects.
  const objects = lists
    .flatMap(entry => (isRecord(entry) && Array.isArray(entry.results) ? entry.results : [entry]))
    .filter(isRecord)
  if (objects.length === 0) throw unreadable('holds neither an export of Ingot nor answers of NetBox’s API')
  return fromNetBox(objects)
}

function fromNetBox(objects: readonly Record<string, unknown>[]): Documents {
  const documents: Documents = {vrfs: [], aggregates: [], prefixes: [], addresses: [], notes: []}
  for (const object of objects) {
    const vrf = nameOf(object.vrf) ?? 'default'
    const description = textOf(object.description)
    if (typeof object.prefix === 'string' && 'rir' in object) {
      documents.aggregates.push({cidr: object.prefix, vrf, registry: nameOf(object.rir) ?? '', description})
    } else if (typeof object.prefix === 'string') {
      documents.prefixes.push({
        cidr: object.prefix,
        vrf,
        status: wordOf(object.status) ?? 'active',
        role: nameOf(object.role),
        site: nameOf(object.site) ?? nameOf(object.scope),
        tenant: nameOf(object.tenant),
        gateway: null,
        description,
      })
    } else if (typeof object.address === 'string') {
      const name = textOf(object.dns_name) || nameOf(ownerOf(object.assigned_object)) || description || 'netbox'
      documents.addresses.push({
        address: object.address.split('/')[0] ?? '',
        vrf,
        holder_kind: 'service',
        holder: name,
        reason: `imported from NetBox${description ? `: ${description}` : ''}`.slice(0, 255),
        tenant: null,
      })
    } else if (typeof object.rd !== 'undefined' && typeof object.name === 'string') {
      documents.vrfs.push({name: object.name, description})
    } else documents.notes.push(`left out: ${JSON.stringify(object).slice(0, 80)}`)
  }
  return withContainers(documents)
}

function withContainers(documents: Documents): Documents {
  const prefixes = documents.prefixes.map(prefix => {
    const holds = documents.prefixes.some(
      other => other !== prefix && other.vrf === prefix.vrf && isInside(other.cidr, prefix.cidr),
    )
    if (!holds || prefix.status === 'container') return prefix
    documents.notes.push(`${prefix.cidr} holds other prefixes: it becomes a container`)
    return {...prefix, status: 'container'}
  })
  return {...documents, prefixes}
}

function readCsv(text: string): Documents {
  const [header = [], ...lines] = parseCsv(text)
  const names = header.map(name => name.trim().toLowerCase())
  const rows = lines.map(line => Object.fromEntries(names.map((name, index) => [name, line[index] ?? ''])))
  const orNull = (value: string | undefined) => (value === undefined || value === '' ? null : value)
  if (names.includes('cidr') || names.includes('prefix')) {
    const prefixes = rows.map(row => ({
      cidr: row.cidr ?? row.prefix ?? '',
      vrf: row.vrf || 'default',
      status: (row.status || 'active').toLowerCase(),
      role: orNull(row.role),
      site: orNull(row.site),
      tenant: orNull(row.tenant),
      gateway: orNull(row.gateway),
      description: row.description ?? '',
    }))
    return {vrfs: [], aggregates: [], prefixes, addresses: [], notes: []}
  }
  if (names.includes('address')) {
    const addresses = rows.map(row => ({
      address: (row.address ?? '').split('/')[0] ?? '',
      vrf: row.vrf || 'default',
      holder_kind: row.holder_kind || 'service',
      holder: row.holder || row.dns_name || row.description || 'imported',
      reason: row.reason ?? '',
      tenant: orNull(row.tenant),
    }))
    return {vrfs: [], aggregates: [], prefixes: [], addresses, notes: []}
  }
  throw unreadable('has no column `cidr`, `prefix` or `address`')
}

/** RFC 4180: quotes around what holds a comma, a quote or a line break; a quote inside is doubled. */
export function parseCsv(text: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  let cell = ''
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? ''
    if (quoted) {
      if (character !== '"') cell += character
      else if (text[at + 1] === '"') {
        cell += '"'
        at++
      } else quoted = false
    } else if (character === '"' && cell === '') quoted = true
    else if (character === ',' || character === '\n' || character === '\r') {
      row.push(cell)
      cell = ''
      if (character === ',') continue
      if (character === '\r' && text[at + 1] === '\n') at++
      rows.push(row)
      row = []
    } else cell += character
  }
  if (cell !== '' || row.length > 0) rows.push([...row, cell])
  return rows.filter(cells => cells.some(value => value !== ''))
}

function csvOf(columns: readonly string[], rows: readonly Record<string, unknown>[]): string {
  const line = (values: readonly unknown[]) => values.map(csvCell).join(',')
  return [columns.join(','), ...rows.map(row => line(columns.map(column => row[column])))].join('\r\n')
}

/** A spreadsheet runs what begins like a formula; an apostrophe before it makes it text. */
function csvCell(value: unknown): string {
  const text = value === null || value === undefined ? '' : String(value)
  const safe = /^[=+\-@\t]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** Whether one network lies in another, by their bits. */
function isInside(inner: string, outer: string): boolean {
  const [a, b] = [bitsOf(inner), bitsOf(outer)]
  return (
    a !== undefined &&
    b !== undefined &&
    a.family === b.family &&
    a.length > b.length &&
    a.bits.startsWith(b.bits.slice(0, b.length))
  )
}

function bitsOf(cidr: string): {family: 4 | 6; bits: string; length: number} | undefined {
  const [address = '', length = ''] = cidr.split('/')
  if (!/^\d{1,3}$/.test(length)) return undefined
  if (!address.includes(':')) {
    const bits = address.split('.').map(part => Number(part).toString(2).padStart(8, '0'))
    return {family: 4, bits: bits.join(''), length: Number(length)}
  }
  const [head = '', tail] = address.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array<string>(Math.max(0, 8 - left.length - right.length)).fill('0'), ...right]
  return {
    family: 6,
    bits: groups.map(group => Number.parseInt(group, 16).toString(2).padStart(16, '0')).join(''),
    length: Number(length),
  }
}

/** NetBox nests `{id, name, slug, …}`, and in brief answers writes only an id. */
function nameOf(value: unknown): string | null {
  if (!isRecord(value)) return null
  const name = value.name ?? value.slug ?? value.display
  return typeof name === 'string' && name !== '' ? name : null
}

function ownerOf(value: unknown): unknown {
  return isRecord(value) ? (value.device ?? value.virtual_machine) : undefined
}

function wordOf(value: unknown): string | null {
  const text = isRecord(value) ? value.value : value
  return typeof text === 'string' ? text.toLowerCase() : null
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unreadable(why: string): IngotError {
  return new IngotError('INVALID_INPUT', `the file ${why}`, {
    mend: 'Give an export of `ingot ip export`, CSV with a heading, or what NetBox answers at /api/ipam/prefixes/ and the like.',
  })
}
