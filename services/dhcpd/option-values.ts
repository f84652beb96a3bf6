/**
 * Options as operators set them: by name, or by `option-<code>:<type>`, in scopes of which the narrower wins. Pure.
 *
 * What cannot be encoded, or is Ingot's own to send, is refused with a reason when it is set; what is stored is canonical.
 */
import {printable} from '../../lib/bytes.ts'
import type {FieldError} from '../../lib/errors.ts'
import {CODECS, encodeValue, isOptionType, type OptionType} from './option-codecs.ts'
import {isOptionName, OPTIONS, type OptionRow, optionName} from './options.ts'

/** Sent to those who ask for it (option 55), or `always`. */
export type StoredOption = {readonly value: unknown; readonly always: boolean}
export type StoredOptions = Readonly<Record<string, StoredOption>>

export type ConfiguredOption = {readonly name: string; readonly bytes: Uint8Array; readonly always: boolean}
/** By code. */
export type OptionSet = ReadonlyMap<number, ConfiguredOption>

/** Whose options and loaders these are: the site's, a prefix's, a profile's or a machine's. */
export type DhcpScope = {
  /** For reasons: `profile web`. */
  readonly name: string
  readonly kind: 'site' | 'prefix' | 'profile' | 'machine'
  readonly options: OptionSet
  /** Names in the artefact manifest, by IANA architecture number or by kind of loader. */
  readonly loaders: Readonly<Record<string, string>>
}

export type OptionChange = {
  readonly set?: Readonly<Record<string, StoredOption>>
  readonly unset?: readonly string[]
}

/** Past this a reply has no room for what it is sent for. */
const MOST_OCTETS = 512
const MOST_OPTIONS = 64

/** @returns what is then stored, or every mistake by its field */
export function changeOptions(
  before: StoredOptions,
  change: OptionChange,
): {readonly options: StoredOptions} | {readonly errors: readonly FieldError[]} {
  const errors: FieldError[] = []
  const options = new Map(Object.entries(before))
  for (const name of change.unset ?? []) {
    const same = [...options.keys()].filter(known => known === name || codeOf(known) === codeOf(name))
    if (same.length === 0) errors.push({field: `unset.${printable(name, 80)}`, code: 'absent', message: 'is not set here'})
    for (const known of same) options.delete(known)
  }
  for (const [name, {value, always}] of Object.entries(change.set ?? {})) {
    const encoded = encodeOption(name, value)
    if ('complaint' in encoded) {
      errors.push({field: `set.${printable(name, 80)}`, code: encoded.code, message: encoded.complaint})
      continue
    }
    // Two types for one code would be two values for one option.
    for (const known of options.keys()) if (codeOf(known) === encoded.option) options.delete(known)
    options.set(name, {value: encoded.value, always})
  }
  if (options.size > MOST_OPTIONS)
    errors.push({field: 'set', code: 'too_many', message: `holds more than ${MOST_OPTIONS} options`})
  return errors.length > 0 ? {errors} : {options: Object.fromEntries(options)}
}

/** What was stored, as octets; what this version cannot encode any more is left out and named. */
export function compileOptions(stored: StoredOptions): {readonly options: OptionSet; readonly unusable: readonly string[]} {
  const options = new Map<number, ConfiguredOption>()
  const unusable: string[] = []
  for (const [name, {value, always}] of Object.entries(stored)) {
    const encoded = encodeOption(name, value)
    if ('complaint' in encoded) unusable.push(name)
    else options.set(encoded.option, {name, bytes: encoded.bytes, always})
  }
  return {options, unusable}
}

export type OptionTypeRow = {
  readonly name: string
  readonly code: number
  readonly type: OptionType
  readonly example: string
  /** Why it cannot be set; null when it can. */
  readonly owned: string | null
}

/** The table for people, by code. */
export function listOptionTypes(): readonly OptionTypeRow[] {
  return Object.entries(OPTIONS)
    .map(([name, row]: [string, OptionRow]) => ({
      name,
      code: row.code,
      type: row.type,
      example: CODECS[row.type].example,
      owned: row.owned ?? null,
    }))
    .toSorted((a, b) => a.code - b.code)
}

type Encoded =
  | {readonly option: number; readonly bytes: Uint8Array; readonly value: unknown}
  | {readonly code: string; readonly complaint: string}

function encodeOption(name: string, value: unknown): Encoded {
  const found = findRow(name)
  if ('complaint' in found) return found
  const {row} = found
  if (row.owned !== undefined) return {code: 'owned', complaint: `is Ingot’s own to send: ${row.owned}`}
  const encoded = encodeValue(row.type, value)
  if ('complaint' in encoded) return {code: 'value', complaint: encoded.complaint}
  const outside = boundsComplaint(row, encoded.value)
  if (outside !== undefined) return {code: 'range', complaint: outside}
  if (row.length !== undefined && encoded.bytes.length !== row.length)
    return {code: 'length', complaint: `has ${row.length} octets, not ${encoded.bytes.length}`}
  if (encoded.bytes.length > MOST_OCTETS)
    return {code: 'length', complaint: `has ${encoded.bytes.length} octets; a reply has room for ${MOST_OCTETS} of one option`}
  return {option: row.code, bytes: encoded.bytes, value: encoded.value}
}

function findRow(name: string): {row: OptionRow} | {code: string; complaint: string} {
  if (isOptionName(name)) return {row: OPTIONS[name]}
  const custom = CUSTOM.exec(name)
  if (custom === null)
    return {code: 'unknown', complaint: 'is no option: `ingot dhcp options types` lists them, others are option-<code>:<type>'}
  const code = Number(custom[1])
  const type = custom[2] ?? ''
  if (code > 254) return {code: 'unknown', complaint: 'has no code from 1 to 254'}
  const named = optionName(code)
  if (named !== undefined) return {code: 'named', complaint: `is ${named}: use that name`}
  if (isOptionType(type)) return {row: {code, type}}
  return {code: 'type', complaint: `has no type; there are ${Object.keys(CODECS).join(', ')}`}
}

const CUSTOM = /^option-([1-9]\d{0,2}):(\w{0,20})$/

function codeOf(name: string): number | undefined {
  const found = findRow(name)
  return 'row' in found ? found.row.code : undefined
}

function boundsComplaint(row: OptionRow, value: unknown): string | undefined {
  const {least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY} = row
  const numbers = (Array.isArray(value) ? value : [value]).filter(item => typeof item === 'number')
  if (numbers.every(number => number >= least && number <= most)) return undefined
  return row.most === undefined ? `is at least ${least}` : `is from ${row.least ?? 0} to ${most}`
}
