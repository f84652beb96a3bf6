/**
 * What a client is told about its network: the prefix's own settings and the options set for site, prefix, profile and machine, merged
 * once and kept with the objects they came from. Pure.
 *
 * Precedence: machine, profile, prefix (an option set for it, then the prefix's own fields), site.
 */
import {broadcastAddress, netmask, parseCidr} from '../../lib/addresses.ts'
import type {Client} from './client.ts'
import type {DhcpScope} from './option-values.ts'
import {OPTIONS, type OptionName, type Route, readOption, writeOption} from './options.ts'
import type {DhcpHost, DhcpPrefix} from './snapshot.ts'

type Entry = {readonly code: number; readonly bytes: Uint8Array; readonly always: boolean}
type Merged = Entry & {readonly scope: DhcpScope | null}

export type NetworkOptions = {
  /** What makes the network work, before the boot options; and the rest, after them. */
  readonly core: readonly Entry[]
  readonly rest: readonly Entry[]
  /** Option 12 where it is set; a machine's own name stands over it, unless it was set for this very machine. */
  readonly hostName: Entry | undefined
  readonly namesHost: boolean
}

const NO_SCOPES: readonly DhcpScope[] = []
const CORE: readonly OptionName[] = [
  'subnet_mask',
  'classless_routes',
  'routers',
  'dns_servers',
  'broadcast_address',
  'domain_name',
  'interface_mtu',
  'ntp_servers',
]
const CORE_CODES: ReadonlySet<number> = new Set(CORE.map(name => OPTIONS[name].code))
const ROUTERS = OPTIONS.routers.code
const STATIC_ROUTES = OPTIONS.static_routes.code
const CLASSLESS_ROUTES = OPTIONS.classless_routes.code
const MICROSOFT_ROUTES = OPTIONS.microsoft_classless_routes.code
const HOST_NAME = OPTIONS.host_name.code
const VENDOR = OPTIONS.vendor_specific.code

type Encoded = {readonly plain: NetworkOptions; readonly routed: NetworkOptions}
const kept = new WeakMap<DhcpPrefix, WeakMap<readonly DhcpScope[], Encoded>>()

export function networkOptions(prefix: DhcpPrefix, host: DhcpHost | null, client: Client): NetworkOptions {
  const scopes = host?.scopes ?? NO_SCOPES
  const ofPrefix = kept.get(prefix) ?? new WeakMap<readonly DhcpScope[], Encoded>()
  let encoded = ofPrefix.get(scopes)
  if (encoded === undefined) {
    const merged = mergeOptions(prefix, scopes)
    encoded = {plain: layOut(merged, false), routed: layOut(merged, true)}
    ofPrefix.set(scopes, encoded)
    kept.set(prefix, ofPrefix)
  }
  return client.asked.includes(CLASSLESS_ROUTES) ? encoded.routed : encoded.plain
}

/**
 * Those the client asked for and those that everybody gets. Option 43 means what the vendor class says it means: a netboot client would
 * take it for PXE's own.
 * @param all BOOTP has no way to ask
 */
export function writeEntries(
  options: Map<number, Uint8Array>,
  entries: readonly Entry[],
  {asked, stage}: Client,
  all: boolean,
): void {
  for (const {code, bytes, always} of entries) {
    if (always || all || (asked.includes(code) && (code !== VENDOR || stage === 'os'))) options.set(code, bytes)
  }
}

/** `ntp_servers from profile web, over prefix 10.0.0.0/24; …` */
export function describeScopes(prefix: DhcpPrefix, host: DhcpHost | null): string {
  const scopes = [...(prefix.scopes ?? NO_SCOPES), ...(host?.scopes ?? NO_SCOPES)]
  const from = new Map<number, {name: string; scopes: string[]}>()
  for (const scope of scopes)
    for (const [code, {name}] of scope.options) from.set(code, {name, scopes: [scope.name, ...(from.get(code)?.scopes ?? [])]})
  const told = [...from.values()].map(
    ({name, scopes: [first, ...over]}) => `${name} from ${first}${over.length > 0 ? `, over ${over.join(', ')}` : ''}`,
  )
  return told.length === 0 ? 'none is set beside those of the prefix' : told.join('; ')
}

function mergeOptions(prefix: DhcpPrefix, hostScopes: readonly DhcpScope[]): ReadonlyMap<number, Merged> {
  const merged = new Map<number, Merged>()
  const put = (code: number, bytes: Uint8Array, always: boolean, scope: DhcpScope | null) =>
    void merged.set(code, {code, bytes, always: always || isAlwaysTold(code), scope})
  const putScope = (scope: DhcpScope) => {
    for (const [code, {bytes, always}] of scope.options) put(code, bytes, always, scope)
  }
  const ofPrefix = prefix.scopes ?? NO_SCOPES
  for (const scope of ofPrefix) if (scope.kind === 'site') putScope(scope)
  for (const [code, bytes] of prefixFields(prefix)) put(code, bytes, false, null)
  for (const scope of ofPrefix) if (scope.kind !== 'site') putScope(scope)
  for (const scope of hostScopes) putScope(scope)
  return merged
}

function isAlwaysTold(code: number): boolean {
  return (
    code === OPTIONS.subnet_mask.code ||
    code === ROUTERS ||
    code === OPTIONS.dns_servers.code ||
    code === OPTIONS.broadcast_address.code
  )
}

function prefixFields({cidr, gateway, dns, routes = [], domain, mtu, ntp = []}: DhcpPrefix): ReadonlyMap<number, Uint8Array> {
  const fields = new Map<number, Uint8Array>()
  writeOption(fields, 'subnet_mask', netmask(cidr))
  writeOption(fields, 'broadcast_address', broadcastAddress(cidr))
  if (gateway !== null) writeOption(fields, 'routers', [gateway])
  if (dns.length > 0) writeOption(fields, 'dns_servers', dns)
  if (routes.length > 0) writeOption(fields, 'classless_routes', routes)
  if (domain !== undefined) writeOption(fields, 'domain_name', domain)
  if (mtu !== undefined) writeOption(fields, 'interface_mtu', mtu)
  if (ntp.length > 0) writeOption(fields, 'ntp_servers', ntp)
  return fields
}

/** @param asksRoutes RFC 3442: a client that reads 121 ignores 3 and 33, so 121 repeats the default route and they stay home */
function layOut(merged: ReadonlyMap<number, Merged>, asksRoutes: boolean): NetworkOptions {
  const entries = new Map<number, Entry>(merged)
  const routes = withDefault(merged)
  if (routes !== undefined) {
    const {always = false} = merged.get(CLASSLESS_ROUTES) ?? {}
    entries.set(CLASSLESS_ROUTES, {code: CLASSLESS_ROUTES, bytes: routes, always: always || asksRoutes})
    // Windows asked for it under this number before it had one.
    if (!merged.has(MICROSOFT_ROUTES)) entries.set(MICROSOFT_ROUTES, {code: MICROSOFT_ROUTES, bytes: routes, always: false})
    if (asksRoutes) for (const code of [ROUTERS, STATIC_ROUTES]) entries.delete(code)
  }
  return {
    core: CORE.flatMap(name => entries.get(OPTIONS[name].code) ?? []),
    rest: [...entries.values()]
      .filter(({code}) => !CORE_CODES.has(code) && code !== HOST_NAME)
      .toSorted((a, b) => a.code - b.code),
    hostName: merged.get(HOST_NAME),
    namesHost: merged.get(HOST_NAME)?.scope?.kind === 'machine',
  }
}

function withDefault(merged: ReadonlyMap<number, Merged>): Uint8Array | undefined {
  const options = new Map([...merged].map(([code, {bytes}]) => [code, bytes] as const))
  const routes = readOption(options, 'classless_routes')
  const [gateway] = readOption(options, 'routers') ?? []
  const everywhere = parseCidr('0.0.0.0/0')
  if (routes === undefined) return undefined
  const isComplete = gateway === undefined || everywhere === undefined || routes.some(route => route.destination === everywhere)
  const whole: readonly Route[] = isComplete ? routes : [{destination: everywhere, via: gateway}, ...routes]
  writeOption(options, 'classless_routes', whole)
  return options.get(CLASSLESS_ROUTES)
}
