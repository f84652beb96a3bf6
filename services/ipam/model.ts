/** The nouns of ipam as its façade shows them. */
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import type {IpAddress} from './integers.ts'
import type {CheckedSettings, PrefixStatus, RangeKind} from './prefix-input.ts'

export type Range = {readonly id: string; readonly kind: RangeKind; readonly first: IpAddress; readonly last: IpAddress}

export type Prefix = CheckedSettings & {
  readonly id: string
  readonly vrf: string
  readonly cidr: Cidr
  readonly status: PrefixStatus
  readonly kind: 'host' | 'bmc'
  readonly role: string | null
  readonly site: string | null
  readonly tenant: string | null
  readonly cool_down_s: number
  readonly created_at: Date
  /** Lowest first. */
  readonly ranges: readonly Range[]
}

/** `size` of an IPv6 range is the nearest double. */
export type Use = {readonly size: number; readonly held: number; readonly cooling: number}
export type PrefixWithUse = Prefix & {readonly utilisation: {readonly static: Use; readonly dynamic: Use}}

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
  readonly createdAt: Date
  readonly createdBy: string
  readonly freedAt: Date | null
  readonly freedBy: string | null
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
