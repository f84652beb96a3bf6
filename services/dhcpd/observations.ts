/**
 * What dhcpd tells the rest about what it saw: evidence about watched machines, and sightings of MACs nobody declared. Best-effort; a
 * flood of unknown MACs is folded, bounded, and never slows an answer.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {printable, uuidTexts} from '../../lib/bytes.ts'
import type {Clock} from '../../lib/clock.ts'
import {type Client, clientIdText, type DhcpStage} from './client.ts'
import type {IgnoredReason} from './ignored.ts'
import type {Link} from './link.ts'
import type {MessageType} from './options.ts'

/** What every observation says about the client and where it was seen. */
export type SeenClient = {
  readonly mac: Mac
  readonly stage: DhcpStage
  readonly architecture: number | null
  readonly firmware: 'bios' | 'uefi' | 'other' | null
  readonly vendorClass: string
  readonly clientId: string | null
  /** Option 97 in both byte orders. */
  readonly uuid: {readonly big: string; readonly little: string} | null
  readonly interface: string
  readonly relay: {readonly giaddr: Ipv4; readonly circuitId: string | null; readonly remoteId: string | null} | null
  readonly prefixId: string | null
  readonly at: Date
}

export type EvidenceDetail =
  | {
      readonly kind: 'dhcp_seen'
      readonly reply: 'OFFER' | 'ACK' | 'NAK' | 'BOOTP' | null
      readonly address: Ipv4 | null
      readonly file: string | null
      readonly ignored: IgnoredReason | null
      /** Option 97 contradicts the recorded UUID: the NIC may sit in another machine. */
      readonly uuid_differs: boolean
    }
  | {readonly kind: 'address_declined'; readonly address: Ipv4}
  | {readonly kind: 'other_server_seen'; readonly server: Ipv4}

export type DhcpEvidence = SeenClient & EvidenceDetail & {readonly machineId: string | null; readonly message: MessageType | null}

/** @param count packets folded into this report, this one included */
export type Sighting = SeenClient & {readonly count: number}

export function describeClient(
  client: Client,
  link: Link | null,
  arrivedOn: string,
  prefixId: string | null,
  at: Date,
): SeenClient {
  return {
    mac: client.mac,
    stage: client.stage,
    architecture: client.architecture?.code ?? null,
    firmware: client.architecture?.firmware ?? null,
    vendorClass: printable(client.vendorClass),
    clientId: clientIdText(client.clientId),
    uuid: client.guid === null ? null : (uuidTexts(client.guid) ?? null),
    interface: arrivedOn,
    relay: link?.relay ? {giaddr: link.relay.giaddr, circuitId: link.relay.circuitId, remoteId: link.relay.remoteId} : null,
    prefixId: prefixId ?? link?.prefixes[0]?.id ?? null,
    at,
  }
}

export type Fold<K> = {
  /** @returns how many are folded into the report due now, or 0 when there is none due */
  due(key: K): number
}

/** At most one report a key in `everyMs`, at most `capacity` keys in that time; more are `dropped`. */
export function createFold<K>(clock: Clock, everyMs: number, capacity: number, dropped: () => void): Fold<K> {
  const seen = new Map<K, {reportedMs: number; count: number}>()
  return {
    due(key) {
      const nowMs = clock.monotonicMs()
      const known = seen.get(key)
      if (known !== undefined && nowMs - known.reportedMs < everyMs) {
        known.count++
        return 0
      }
      if (known === undefined && seen.size >= capacity && !dropOldest(seen, nowMs - everyMs)) {
        dropped()
        return 0
      }
      seen.delete(key)
      seen.set(key, {reportedMs: nowMs, count: 0})
      return (known?.count ?? 0) + 1
    },
  }
}

/** Insertion order is order of report, so the first key is the oldest. */
function dropOldest<K>(seen: Map<K, {reportedMs: number}>, beforeMs: number): boolean {
  for (const [key, {reportedMs}] of seen) {
    if (reportedMs > beforeMs) return false
    seen.delete(key)
    return true
  }
  return true
}
