/**
 * What dhcpd knows without asking: prefixes and hosts. A known machine's OFFER is answered from this alone. Pure.
 *
 * The snapshot and its prefixes are immutable: whoever changes a prefix hands out a new snapshot, as what is derived from one is kept
 * with it. `hosts` may change in place.
 */
import {type Cidr, type Ipv4, type Mac, parseIpv4} from '../../lib/addresses.ts'
import type {LoaderKind} from './architectures.ts'
import type {ClientKeys} from './client-keys.ts'
import type {DhcpScope} from './option-values.ts'
import type {Route} from './options.ts'

export type DhcpSnapshot = {
  readonly prefixes: readonly DhcpPrefix[]
  readonly hosts: ReadonlyMap<Mac, DhcpHost>
  /** By what else a machine is known, where nobody declared a client's MAC. */
  readonly keys?: ClientKeys
  /** File names of loaders in the artefact manifest, where they differ from `LOADERS`. */
  readonly loaders?: Partial<Readonly<Record<LoaderKind, string>>>
}

export type DhcpPrefix = {
  readonly id: string
  readonly cidr: Cidr
  readonly gateway: Ipv4 | null
  readonly dns: readonly Ipv4[]
  /** Where the boot service is reached from this prefix, without a trailing slash. */
  readonly boot_url: string
  readonly lease_s: number
  /** `proxy`: another server gives the addresses here, Ingot only names boot files. Authoritative unless said. */
  readonly mode?: 'authoritative' | 'proxy'
  /** Whether known machines that speak BOOTP get their address; ignored unless said. */
  readonly bootp?: 'ignored' | 'static'
  /** The local interface this prefix is on. Without it the prefix is found by our own address on the arrival interface. */
  readonly interface?: string
  /** What clients call this server by (option 54), where it is not our address on the interface. */
  readonly serverAddress?: Ipv4
  /** Send iPXE the router advertisement it otherwise waits 14 s for (lifetime 0, no prefix). */
  readonly routerAdvertisement: boolean
  /** The relays (giaddr) that may speak for this prefix. Prefixes that list the same relay share its link. */
  readonly relays: readonly Ipv4[]
  /** An enrolment window: until then, unknown MACs get a dynamic address here. */
  readonly window: {readonly id: string; readonly until: Date} | null
  readonly dynamicRanges: readonly AddressRange[]
  readonly domain?: string
  readonly ntp?: readonly Ipv4[]
  readonly mtu?: number
  /** Classless routes (RFC 3442) beside the default one. */
  readonly routes?: readonly Route[]
  /** Options and loaders set for the site and for this prefix, the narrower last. */
  readonly scopes?: readonly DhcpScope[]
}

export type AddressRange = {readonly first: Ipv4; readonly last: Ipv4}

/** One interface of a machine and the one address it gets, whatever it calls itself. */
export type DhcpHost = {
  readonly machineId: string
  readonly name: string
  /** What the installed system is told to be called (option 12). */
  readonly hostname: string
  readonly address: Ipv4
  readonly prefixId: string
  /** It has an open job or window: evidence about it is wanted. */
  readonly watched: boolean
  /** DMI UUID as facts recorded it; compared with option 97. */
  readonly uuid?: string
  /** Options and loaders of its profile and its own, the narrower last. Hosts that have the same share one array. */
  readonly scopes?: readonly DhcpScope[]
}

/** The prefixes by the way a packet reaches them, made once for each snapshot. */
export type SnapshotIndex = {
  readonly byId: ReadonlyMap<string, DhcpPrefix>
  readonly byInterface: ReadonlyMap<string, readonly DhcpPrefix[]>
  readonly byRelay: ReadonlyMap<Ipv4, readonly DhcpPrefix[]>
  /** Bound to no interface by name: found by our own address. */
  readonly unbound: readonly DhcpPrefix[]
  /** The host in a prefix's boot URL, where it is an address. */
  readonly bootServers: ReadonlyMap<string, Ipv4 | undefined>
}

const indexes = new WeakMap<DhcpSnapshot, SnapshotIndex>()

export function indexSnapshot(snapshot: DhcpSnapshot): SnapshotIndex {
  const known = indexes.get(snapshot)
  if (known !== undefined) return known
  const index: SnapshotIndex = {
    byId: new Map(snapshot.prefixes.map(prefix => [prefix.id, prefix])),
    byInterface: Map.groupBy(
      snapshot.prefixes.filter(prefix => prefix.interface !== undefined),
      prefix => prefix.interface ?? '',
    ),
    byRelay: new Map(
      snapshot.prefixes
        .flatMap(prefix => prefix.relays)
        .map(relay => [relay, snapshot.prefixes.filter(prefix => prefix.relays.includes(relay))]),
    ),
    unbound: snapshot.prefixes.filter(prefix => prefix.interface === undefined),
    bootServers: new Map(snapshot.prefixes.map(prefix => [prefix.id, addressInUrl(prefix.boot_url)])),
  }
  indexes.set(snapshot, index)
  return index
}

export function addressInUrl(url: string): Ipv4 | undefined {
  const host = /^https?:\/\/([^/:]+)/.exec(url)?.[1]
  return host === undefined ? undefined : parseIpv4(host)
}
