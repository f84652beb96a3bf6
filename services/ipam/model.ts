/** The nouns of ipam as its façade shows them. */
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import type {IpAddress} from './integers.ts'
import type {CheckedNaming, CheckedSettings, RangeKind} from './prefix-input.ts'

export type Range = {readonly id: string; readonly kind: RangeKind; readonly first: IpAddress; readonly last: IpAddress}

export type Vrf = {readonly name: string; readonly description: string; readonly created_at: Date; readonly prefixes: number}

/** Space that was assigned to us, as NetBox has it: what prefixes are made of, and how much of it is in prefixes. */
export type Aggregate = {
  readonly id: string
  readonly vrf: string
  readonly cidr: Cidr
  readonly registry: string
  readonly description: string
  readonly created_at: Date
  /** Addresses in its prefixes, as the nearest double. */
  readonly in_prefixes: number
}

export type Prefix = CheckedSettings &
  CheckedNaming & {
    readonly id: string
    readonly vrf: string
    readonly cidr: Cidr
    readonly kind: 'host' | 'bmc'
    readonly anycast: boolean
    readonly cool_down_s: number
    readonly created_at: Date
    /** The longest container around it. */
    readonly parent: Cidr | null
    /** Lowest first. */
    readonly ranges: readonly Range[]
  }

/** What a list may be narrowed to; `within`: under this network; `after`: the cursor of a page, `vrf cidr`. */
export type PrefixFilter = {
  readonly vrf?: string | undefined
  readonly within?: Cidr | undefined
  readonly role?: string | undefined
  readonly site?: string | undefined
  readonly tenant?: string | undefined
  readonly status?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly ids?: readonly string[] | undefined
  readonly after?: string | undefined
  readonly limit?: number | undefined
}

/** `size` of an IPv6 range is the nearest double. */
export type Use = {readonly size: number; readonly held: number; readonly cooling: number}
/** Of a container: its addresses that are in a prefix under it, given back and cooling, and in none. */
export type ContainerUse = {readonly size: number; readonly used: number; readonly cooling: number}
export type PrefixWithUse = Prefix & {
  readonly utilisation: {readonly static: Use; readonly dynamic: Use; readonly container: ContainerUse | null}
}

export type Purpose = 'boot' | 'host' | 'bmc' | 'service' | 'dynamic'

/** Who may hold an address: a machine, something or somebody named, or (for DHCP clients that nobody declared) a dynamic range. */
export type Holder =
  | {readonly kind: 'machine'; readonly machineId: string; readonly name: string}
  | {readonly kind: 'service' | 'person' | 'range'; readonly name: string}

/** One holding of an address: who, since when, why; and until when, once it is over. */
export type Allocation = {
  readonly id: string
  readonly address: IpAddress
  readonly prefixId: string
  readonly cidr: Cidr
  readonly holder: Holder
  readonly purpose: Purpose
  readonly reason: string
  /** What its DHCP client is known by; an allocation that has one is a reservation. */
  readonly clientKey: string | null
  /** The machine's interface that it is for, by MAC or name. */
  readonly interface: string | null
  /** Who pays for it with a quota. */
  readonly tenant: string | null
  /** A hold: over then, unless it was confirmed or renewed. */
  readonly expiresAt: Date | null
  readonly anycast: boolean
  readonly createdAt: Date
  readonly createdBy: string
  readonly freedAt: Date | null
  readonly freedBy: string | null
  readonly freedReason: string | null
}

/** A holding of the past may have outlived its prefix. */
export type PastAllocation = Omit<Allocation, 'prefixId' | 'cidr'> & {
  readonly prefixId: string | null
  readonly cidr: Cidr | null
}

/** A whole prefix held: carved for its holder, and given back whole. */
export type Delegation = {
  readonly id: string
  readonly vrf: string
  readonly prefixId: string | null
  readonly cidr: Cidr
  readonly holder: Exclude<Holder, {kind: 'range'}>
  readonly purpose: 'host' | 'service'
  readonly reason: string
  readonly tenant: string | null
  readonly createdAt: Date
  readonly createdBy: string
  readonly freedAt: Date | null
  readonly freedBy: string | null
  readonly freedReason: string | null
}

export type BootAllocation = Allocation & {readonly address: Ipv4}

export type LeaseState = 'offered' | 'bound' | 'released' | 'declined' | 'expired'

export type Lease = {
  readonly address: Ipv4
  readonly prefixId: string
  readonly mac: Mac
  readonly kind: 'reservation' | 'dynamic'
  readonly machineId: string | null
  readonly state: LeaseState
  readonly startsAt: Date
  readonly expiresAt: Date
  /** Whether the address is still kept for this client, be the lease over or not. */
  readonly held: boolean
}

export type Reservation = {
  readonly machineId: string
  readonly address: Ipv4
  readonly prefixId: string
  readonly purpose: Purpose
  readonly clientKey: string
}

/** What dhcpd keeps in memory: the IPv4 prefixes that hand out addresses, and whose they are. */
export type IpamSnapshot = {readonly prefixes: readonly Prefix[]; readonly reservations: readonly Reservation[]}

/** An ordered list of prefixes to spend from, the first while it lasts. */
export type Pool = {
  readonly name: string
  readonly description: string
  readonly created_at: Date
  readonly prefixes: readonly {readonly id: string; readonly cidr: Cidr; readonly vrf: string}[]
}

/** At most so much of a family, in prefixes of a role or in all; see the migration for what counts how much. */
export type Quota = {readonly family: 4 | 6; readonly role: string | null; readonly at_most: number}

export type Tenant = {
  readonly name: string
  readonly description: string
  readonly created_at: Date
  /** What was granted to it, beside the prefixes that are its own. */
  readonly prefixes: readonly Cidr[]
  readonly pools: readonly string[]
  readonly quotas: readonly Quota[]
}

export type TenantUse = {readonly family: 4 | 6; readonly role: string | null; readonly used: number}
