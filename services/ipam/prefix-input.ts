/** What a prefix may look like: checks the fields people give, fills the defaults, and collects every mistake before it complains. Pure. */
import {type Cidr, parseCidr} from '../../lib/addresses.ts'
import {type FieldError, IngotError} from '../../lib/errors.ts'
import {
  addressToInt,
  familyOf,
  type IpAddress,
  intToAddress,
  parseAddress,
  spanContains,
  usableSpan,
  wholeSpan,
} from './integers.ts'

export type PrefixStatus = 'container' | 'active' | 'reserved' | 'deprecated'
export type RangeKind = 'static' | 'dynamic'
export type RangeInput = {readonly kind: RangeKind; readonly first: string; readonly last: string}

/** `proxy`: another server gives addresses, Ingot names boot files beside it. */
export type DhcpMode = 'authoritative' | 'proxy' | 'off'
/** `static`: a BOOTP client that is a known machine gets its address, without a lease. */
export type BootpPolicy = 'ignored' | 'static'

/** What people call a prefix and find it by; can be changed later. */
export type PrefixNaming = {
  readonly status?: PrefixStatus
  readonly role?: string | null
  readonly site?: string | null
  readonly tenant?: string | null
  readonly labels?: Readonly<Record<string, string>>
  readonly description?: string
}

/** What its machines are told; can be changed later. */
export type PrefixSettings = {
  readonly gateway?: string | null
  readonly dns?: readonly string[]
  /** `http://address:port`, where the boot service is reached from this prefix. */
  readonly boot_url?: string | null
  /** 60 s to a year, or 4294967295 for a lease without an end. */
  readonly lease_s?: number
  readonly dhcp?: DhcpMode
  readonly bootp?: BootpPolicy
  readonly router_advertisement?: boolean
  /** The relays (giaddr) that may speak for this prefix. */
  readonly relays?: readonly string[]
}

export type PrefixChange = PrefixSettings & PrefixNaming & {readonly ranges?: readonly RangeInput[]}

export type PrefixInput = PrefixChange & {
  readonly vrf?: string
  readonly cidr: string
  readonly kind?: 'host' | 'bmc'
  readonly cool_down_s?: number
  /** One address may have several holders. */
  readonly anycast?: boolean
  /** Without them: the last quarter of the usable addresses is dynamic (IPv4 from /28 up), the rest static; the gateway is in none. */
  readonly ranges?: readonly RangeInput[]
  /** Addresses in the prefix that something else uses: never handed out. */
  readonly exclude?: readonly string[]
}

export type CheckedSettings = {
  readonly gateway: IpAddress | null
  readonly dns: readonly IpAddress[]
  readonly boot_url: string | null
  readonly lease_s: number
  readonly dhcp: DhcpMode
  readonly bootp: BootpPolicy
  readonly router_advertisement: boolean
  readonly relays: readonly IpAddress[]
}

export type CheckedRange = {readonly kind: RangeKind; readonly first: IpAddress; readonly last: IpAddress}

export type CheckedNaming = {
  readonly status: PrefixStatus
  readonly role: string | null
  readonly site: string | null
  readonly tenant: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly description: string
}

export type CheckedPrefix = CheckedSettings &
  CheckedNaming & {
    readonly vrf: string
    readonly cidr: Cidr
    readonly kind: 'host' | 'bmc'
    readonly cool_down_s: number
    readonly anycast: boolean
    readonly ranges: readonly CheckedRange[]
    readonly exclude: readonly IpAddress[]
  }

type Complain = (field: string, code: string, message: string) => void

const LEASE_S = {least: 60, most: 31_536_000, usual: 3600}
const COOL_DOWN_S = {least: 120, most: 31_536_000, usual: 300}
/** RFC 2131 §3.3. */
const INFINITE_LEASE_S = 0xffffffff
const LEAST_SPLIT = 16n

/** @throws IngotError INVALID_INPUT with one entry a field */
export function checkPrefix(input: PrefixInput): CheckedPrefix {
  const cidr = parseCidr(input.cidr)
  if (!cidr) {
    throw invalid([{field: 'cidr', code: 'format', message: `${input.cidr} is not a network such as 10.0.0.0/24`}])
  }
  const errors: FieldError[] = []
  const complain: Complain = (field, code, message) => errors.push({field, code, message})
  const settings = checkSettings(cidr, input, complain)
  const naming = checkNaming(input, complain)
  const {status} = naming
  const anycast = input.anycast ?? false
  const checked: CheckedPrefix = {
    vrf: checkName('vrf', input.vrf ?? 'default', complain) ?? 'default',
    cidr,
    ...naming,
    kind: input.kind ?? 'host',
    anycast,
    cool_down_s: checkNumber('cool_down_s', input.cool_down_s, COOL_DOWN_S, complain),
    ranges: status === 'container' ? [] : checkRanges(cidr, input.ranges, settings.gateway, anycast, complain),
    exclude: checkAddresses('exclude', input.exclude, cidr, complain).filter((address, index) => {
      if (spanContains(wholeSpan(cidr), address)) return true
      complain(`exclude[${index}]`, 'outside', `${address} is not in ${cidr}`)
      return false
    }),
    ...settings,
  }
  if (status === 'container') refuseForContainer(input, complain)
  if (status === 'container' && anycast) complain('anycast', 'container', 'a container holds prefixes, not addresses')
  if (anycast) refuseForAnycast(input, complain)
  if (errors.length > 0) throw invalid(errors)
  return checked
}

/** @throws IngotError INVALID_INPUT with one entry a field */
export function checkChange(
  prefix: {cidr: Cidr; anycast: boolean; ranges: readonly CheckedRange[]} & CheckedSettings & CheckedNaming,
  change: PrefixChange,
): {settings: CheckedSettings; naming: CheckedNaming; ranges: readonly CheckedRange[]} {
  const errors: FieldError[] = []
  const complain: Complain = (field, code, message) => errors.push({field, code, message})
  const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined))
  const settings = checkSettings(prefix.cidr, {...prefix, ...given}, complain)
  const naming = checkNaming({...prefix, ...given}, complain)
  const isContainer = prefix.status === 'container'
  if (isContainer) refuseForContainer(change, complain)
  if (isContainer !== (naming.status === 'container'))
    complain('status', 'container', 'a container stays one, and nothing becomes one')
  const ranges =
    change.ranges === undefined
      ? recutRanges(prefix.ranges, prefix.gateway, settings.gateway)
      : checkRanges(prefix.cidr, change.ranges, settings.gateway, prefix.anycast, complain)
  if (errors.length > 0) throw invalid(errors)
  return {settings, naming, ranges}
}

/** The ranges when a gateway moves: cut around the new one; where the old one was, the range beside it closes again. */
export function recutRanges(
  ranges: readonly CheckedRange[],
  from: IpAddress | null,
  to: IpAddress | null,
): readonly CheckedRange[] {
  if (from === to) return ranges
  return cutAround(from === null ? ranges : fillIn(ranges, from), to)
}

function cutAround(ranges: readonly CheckedRange[], gateway: IpAddress | null): readonly CheckedRange[] {
  if (gateway === null) return ranges
  const at = addressToInt(gateway)
  const family = familyOf(gateway)
  return ranges.flatMap(range => {
    const [first, last] = [addressToInt(range.first), addressToInt(range.last)]
    if (at < first || at > last) return [range]
    return [
      ...(at > first ? [{...range, last: intToAddress(at - 1n, family)}] : []),
      ...(at < last ? [{...range, first: intToAddress(at + 1n, family)}] : []),
    ]
  })
}

function fillIn(ranges: readonly CheckedRange[], address: IpAddress): readonly CheckedRange[] {
  const at = addressToInt(address)
  const below = ranges.find(range => addressToInt(range.last) === at - 1n)
  const above = ranges.find(range => addressToInt(range.first) === at + 1n)
  const joined = below && above && below.kind === above.kind
  const [grows] = [below, above]
    .filter(range => range !== undefined)
    .toSorted((a, b) => Number(b.kind === 'static') - Number(a.kind === 'static'))
  if (!grows) return ranges
  const grown = {
    ...grows,
    first: grows === above && !joined ? address : (joined ? below : grows).first,
    last: grows === below && !joined ? address : (joined ? above : grows).last,
  }
  return [...ranges.filter(range => range !== grows && !(joined && (range === below || range === above))), grown].toSorted(
    byFirst,
  )
}

function byFirst(a: CheckedRange, b: CheckedRange): number {
  return addressToInt(a.first) < addressToInt(b.first) ? -1 : 1
}

/** The last quarter for those who come and go, the rest for those who stay. */
export function splitPrefix(cidr: Cidr): readonly CheckedRange[] {
  const {family, first, last} = usableSpan(cidr)
  const whole = wholeSpan(cidr)
  const range = (kind: RangeKind, from: bigint, to: bigint): CheckedRange => ({
    kind,
    first: intToAddress(from, family),
    last: intToAddress(to, family),
  })
  // Dynamic ranges serve DHCPv4 alone.
  if (family === 6 || whole.last - whole.first + 1n < LEAST_SPLIT) return [range('static', first, last)]
  const firstDynamic = last - (last - first + 1n) / 4n + 1n
  return [range('static', first, firstDynamic - 1n), range('dynamic', firstDynamic, last)]
}

function splitAnycast(cidr: Cidr): readonly CheckedRange[] {
  const {family, first, last} = usableSpan(cidr)
  return [{kind: 'static', first: intToAddress(first, family), last: intToAddress(last, family)}]
}

/** The address a boot URL names, if it names one. */
export function bootAddressOf(bootUrl: string | null): IpAddress | undefined {
  const host = BOOT_URL.exec(bootUrl ?? '')?.groups?.host
  return host === undefined ? undefined : parseAddress(host.replace(/^\[|\]$/g, ''))
}

// Not `new URL()`: that reads http://010.1.1.1 as 8.1.1.1.
const BOOT_URL = /^https?:\/\/(?<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?<port>\d{1,5}))?$/i

function checkNaming(input: PrefixNaming, complain: Complain): CheckedNaming {
  const labels = Object.entries(input.labels ?? {})
  for (const [name, value] of labels) {
    if (/^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/i.test(name) && value.length <= 255) continue
    complain(`labels.${name}`, 'format', 'a name of letters, digits and . _ / -, at most 63, and a value of at most 255')
  }
  const description = input.description ?? ''
  if (description.length > 255) complain('description', 'length', 'has at most 255 characters')
  return {
    status: input.status ?? 'active',
    role: checkName('role', input.role, complain),
    site: checkName('site', input.site, complain),
    tenant: checkName('tenant', input.tenant, complain),
    labels: Object.fromEntries(labels),
    description,
  }
}

function checkSettings(cidr: Cidr, input: PrefixSettings, complain: Complain): CheckedSettings {
  return {
    gateway: checkGateway(cidr, input.gateway ?? null, complain),
    dns: checkAddresses('dns', input.dns, cidr, complain),
    boot_url: checkBootUrl(input.boot_url ?? null, complain),
    lease_s: input.lease_s === INFINITE_LEASE_S ? INFINITE_LEASE_S : checkNumber('lease_s', input.lease_s, LEASE_S, complain),
    dhcp: input.dhcp ?? 'authoritative',
    bootp: input.bootp ?? 'ignored',
    router_advertisement: input.router_advertisement ?? false,
    relays: checkAddresses('relays', input.relays, cidr, complain),
  }
}

function refuseForContainer(input: PrefixSettings & {ranges?: unknown; exclude?: unknown}, complain: Complain): void {
  for (const field of ['gateway', 'boot_url', 'dns', 'relays', 'ranges', 'exclude'] as const) {
    const value = input[field]
    if (value === undefined || value === null || (Array.isArray(value) && value.length === 0)) continue
    complain(field, 'container', 'a container holds prefixes, not addresses')
  }
}

function refuseForAnycast(input: PrefixInput, complain: Complain): void {
  for (const field of ['gateway', 'boot_url', 'exclude'] as const) {
    const value = input[field]
    if (value === undefined || value === null || (Array.isArray(value) && value.length === 0)) continue
    complain(field, 'anycast', 'an anycast prefix is announced by its holders: nothing in it is one device’s own')
  }
}

function checkGateway(cidr: Cidr, text: string | null, complain: Complain): IpAddress | null {
  if (text === null) return null
  const address = parseAddress(text)
  if (address && spanContains(usableSpan(cidr), address)) return address
  complain('gateway', address ? 'outside' : 'format', `${text} is not a host address of ${cidr}`)
  return null
}

function checkAddresses(
  field: string,
  texts: readonly string[] | undefined,
  cidr: Cidr,
  complain: Complain,
): readonly IpAddress[] {
  const family = familyOf(cidr)
  const addresses = (texts ?? []).flatMap((text, index) => {
    const address = parseAddress(text)
    if (address && familyOf(address) === family) return [address]
    complain(`${field}[${index}]`, 'format', `${text} is not an IPv${family} address`)
    return []
  })
  return [...new Set(addresses)]
}

function checkBootUrl(text: string | null, complain: Complain): string | null {
  if (text === null) return null
  const groups = BOOT_URL.exec(text)?.groups
  const host = groups?.host ?? ''
  const looksNumeric = /^[0-9.]+$|^\[/.test(host) || /^0x/i.test(host)
  const portFits = groups?.port === undefined || (Number(groups.port) > 0 && Number(groups.port) < 65_536)
  if (groups && portFits && (!looksNumeric || bootAddressOf(text))) return text
  complain('boot_url', 'format', `${text} is not like http://10.0.0.1:8480, without a path`)
  return null
}

function checkNumber(
  field: string,
  value: number | undefined,
  limits: {least: number; most: number; usual: number},
  complain: Complain,
): number {
  if (value === undefined) return limits.usual
  if (Number.isInteger(value) && value >= limits.least && value <= limits.most) return value
  complain(field, 'range', `${value} is not a whole number from ${limits.least} to ${limits.most}`)
  return limits.usual
}

function checkName(field: string, text: string | null | undefined, complain: Complain): string | null {
  if (text === undefined || text === null) return null
  if (/^[\p{L}\p{N}][\p{L}\p{N} ._/-]{0,62}$/u.test(text)) return text
  complain(field, 'format', 'letters, digits, space, and . _ / - only, at most 63')
  return null
}

function checkRanges(
  cidr: Cidr,
  ranges: readonly RangeInput[] | undefined,
  gateway: IpAddress | null,
  anycast: boolean,
  complain: Complain,
): readonly CheckedRange[] {
  if (ranges === undefined) return cutAround(anycast ? splitAnycast(cidr) : splitPrefix(cidr), gateway)
  const usable = usableSpan(cidr)
  const checked = ranges.flatMap((range, index) => {
    const field = `ranges[${index}]`
    const first = parseAddress(range.first)
    const last = parseAddress(range.last)
    if (!first || !last || !spanContains(usable, first) || !spanContains(usable, last)) {
      complain(field, 'outside', `${range.first}–${range.last} does not lie among the host addresses of ${cidr}`)
      return []
    }
    if (addressToInt(first) > addressToInt(last)) {
      complain(field, 'order', `${first} is above ${last}`)
      return []
    }
    if (range.kind === 'dynamic' && usable.family === 6) {
      complain(field, 'family', 'dynamic ranges serve DHCPv4 alone')
      return []
    }
    if (range.kind === 'dynamic' && anycast) {
      complain(field, 'anycast', 'a DHCP client shares its address with nobody')
      return []
    }
    const at = gateway === null ? undefined : addressToInt(gateway)
    if (at !== undefined && at >= addressToInt(first) && at <= addressToInt(last)) {
      complain(field, 'gateway', `${first}–${last} holds ${gateway}, the gateway of ${cidr}`)
      return []
    }
    return [{field, kind: range.kind, first, last}]
  })
  const sorted = checked.toSorted(byFirst)
  for (const [index, range] of sorted.entries()) {
    const before = sorted[index - 1]
    if (!before || addressToInt(before.last) < addressToInt(range.first)) continue
    complain(range.field, 'overlap', `${range.first}–${range.last} overlaps ${before.first}–${before.last}`)
  }
  return sorted.map(({kind, first, last}) => ({kind, first, last}))
}

function invalid(errors: readonly FieldError[]): IngotError {
  return new IngotError('INVALID_INPUT', errors.map(error => `${error.field}: ${error.message}`).join('; '), {errors})
}
