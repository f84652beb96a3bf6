/**
 * The port through which dhcpd reaches address ownership. The root injects an implementation over ipam; dhcpd itself writes nothing.
 *
 * Every function rejects with `IngotError('DATABASE_AWAY')`, in bounded time, when nothing can be committed. What dhcpd does then is
 * decided in `decide.ts`: reservations live on for `offline_lease_s`, dynamic leases for their committed rest, nothing new begins.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'

export type Leases = {
  /**
   * Commits all requests in one transaction and says for each whether the address is now this client's, in order. The requests have
   * distinct MACs. An ACK leaves only after this resolved. An `expires_at` must be at least `now + lease_s`.
   */
  bind(requests: readonly BindRequest[]): Promise<readonly BindResult[]>
  /**
   * An address to offer: the client's current one, else its previous, else the one it asked for, else a new one (RFC 2131 §4.3.1).
   * The same until it is bound, released or the offer lapses, and never offered to another meanwhile.
   */
  offerDynamic(request: OfferRequest): Promise<Ipv4 | 'full' | 'away'>
  /** The committed lease of a client, expired or not, that the snapshot and this process do not know. */
  find(mac: Mac): Promise<StoredLease | null>
  /** The client gave its lease back (RFC 2131 §4.3.4). A reservation stays reserved. */
  release(request: ReleaseRequest): Promise<void>
  /** The client saw somebody else use the address (§4.3.3): out of use until a person or a probe says otherwise. */
  decline(request: ReleaseRequest): Promise<void>
}

export type LeaseKind = 'reserved' | 'dynamic'

export type BindRequest = {
  readonly mac: Mac
  readonly kind: LeaseKind
  readonly machineId: string | null
  readonly prefixId: string
  readonly address: Ipv4
  readonly lease_s: number
  /** Option 61 in hexadecimal, or null: recorded, never the identity. */
  readonly clientId: string | null
  /** What it was offered: a new address, which it takes with this; or the one it had, which may be its still, or free. */
  readonly offered?: 'new' | 'before'
  readonly now: Date
}

/** `taken`: another holds the address. `gone`: it is no longer this client's, or its prefix is closed. */
export type BindResult = {readonly bound: true} | {readonly refused: 'taken' | 'gone'}

export type OfferRequest = {
  readonly mac: Mac
  readonly prefixId: string
  readonly requested: Ipv4 | null
  readonly now: Date
}

export type ReleaseRequest = {
  readonly mac: Mac
  readonly machineId: string | null
  readonly prefixId: string | null
  readonly address: Ipv4
  readonly now: Date
}

export type StoredLease = {
  readonly address: Ipv4
  readonly prefixId: string
  readonly kind: LeaseKind
  readonly machineId: string | null
  readonly expires_at: Date
}

/** RFC 2131 §3.3: a lease that never ends. */
export const INFINITE_LEASE_S = 0xffffffff
