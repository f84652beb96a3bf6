/**
 * Watches the network while packets are decided about: other DHCP servers, one MAC in two places, addresses in use by others, relays
 * nobody listed, floods of strangers, ranges that ran full. What it sees becomes an alert with its evidence, folded: one for each thing
 * in ten minutes, a bounded number of things of each kind. It changes nothing that anybody is answered.
 *
 * It hooks in where a decision is there already, looks at nothing else, and makes text only for an alert: on the ordinary path it costs
 * a look at the answer, and for a DISCOVER one look into a bounded map.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {readMac} from './client.ts'
import type {Counters} from './counters.ts'
import type {DhcpDecision} from './decision.ts'
import type {IgnoredReason} from './ignored.ts'
import type {Arrival} from './link.ts'
import {createFold} from './observations.ts'
import {readOption} from './options.ts'
import {NO_ADDRESS, type Packet} from './packet.ts'
import {createPlaces} from './places.ts'

/** Each kind is an event of that name. */
export const ALERTS = {
  other_dhcp_server: 'another DHCP server answers on a link that Ingot serves',
  duplicate_mac: 'one MAC speaks from two places, or for two machines',
  address_conflict: 'a client saw its address in use by somebody else',
  unlisted_relay: 'a relay that no prefix lists forwards requests; they are dropped',
  unknown_mac_flood: 'more unknown MACs ask in a minute than a rack has; none gets an address',
  range_full: 'a dynamic range has no free address, and a client went without',
} as const satisfies Record<string, string>

export type AlertKind = keyof typeof ALERTS

export type Alert = {
  readonly kind: AlertKind
  /** What it is about: a server, a MAC, an address, a relay, a link, a prefix. */
  readonly subject: string
  readonly at: Date
  /** Times it was seen since the last alert about it, this one included. */
  readonly count: number
  readonly machineId: string | null
  readonly detail: Readonly<Record<string, unknown>>
}

export type Watch = {
  /** @param decision final: nothing is asked of the leases port any more */
  see(packet: Packet, arrival: Arrival, decision: DhcpDecision): void
}

const ALERT_EVERY_MS = 600_000
/** Of each kind: who forges addresses makes no more than these events in that time. */
const SUBJECTS_AT_MOST = 32
const FLOOD_MACS = 256
const FLOOD_MS = 60_000
const LINKS_AT_MOST = 64

type Case = {readonly packet: Packet; readonly arrival: Arrival; readonly decision: DhcpDecision}

export function createWatch({
  clock,
  counters,
  alert,
}: {
  readonly clock: Clock
  readonly counters: Counters
  readonly alert: (alert: Alert) => void
}): Watch {
  const folds = new Map(
    (Object.keys(ALERTS) as AlertKind[]).map(kind => [
      kind,
      createFold<string>(clock, ALERT_EVERY_MS, SUBJECTS_AT_MOST, () => counters.add('alert_dropped', kind)),
    ]),
  )
  const places = createPlaces(clock)
  const strangers = new Map<string, {sinceMs: number; readonly macs: Set<Mac>}>()

  function tell(kind: AlertKind, subject: string, {packet, arrival, decision}: Case, more: Record<string, unknown>): void {
    counters.add('alert', kind)
    const count = folds.get(kind)?.due(subject) ?? 0
    if (count === 0) return
    const {client, host, link} = decision
    const relay = packet.giaddr === NO_ADDRESS ? {} : {relay: packet.giaddr}
    const circuit = link?.relay?.circuitId
    const where = {interface: arrival.interface, ...relay, ...(circuit ? {circuit} : {})}
    const mac = client?.mac ?? readMac(packet.chaddr)
    const who = {...(mac ? {mac} : {}), ...(host ? {machine: host.name} : {})}
    const detail = {because: ALERTS[kind], ...more, ...who, ...where, count}
    alert({kind, subject, at: clock.now(), count, machineId: host?.machineId ?? null, detail})
  }

  /** A REQUEST that names another server, or a reply that went astray to our port: both carry the server's own name. */
  function seeServer(it: Case): void {
    const server = readOption(it.packet.options, 'server_identifier')
    if (server === undefined || it.arrival.ownAddresses.includes(server)) return
    const offered = it.packet.yiaddr === NO_ADDRESS ? readOption(it.packet.options, 'requested_address') : it.packet.yiaddr
    tell('other_dhcp_server', server, it, {server, ...(offered ? {offered} : {})})
  }

  function seeStranger(it: Case): void {
    const mac = it.decision.client?.mac
    if (mac === undefined || it.decision.message !== 'DISCOVER') return
    const link = it.packet.giaddr === NO_ADDRESS ? it.arrival.interface : it.packet.giaddr
    const nowMs = clock.monotonicMs()
    let seen = strangers.get(link)
    if (seen === undefined) {
      if (strangers.size >= LINKS_AT_MOST) return
      seen = {sinceMs: nowMs, macs: new Set()}
      strangers.set(link, seen)
    }
    if (nowMs - seen.sinceMs >= FLOOD_MS) {
      seen.sinceMs = nowMs
      seen.macs.clear()
    }
    if (seen.macs.size >= FLOOD_MACS) return
    seen.macs.add(mac)
    if (seen.macs.size === FLOOD_MACS) {
      const seconds = Math.ceil((nowMs - seen.sinceMs) / 1000)
      tell('unknown_mac_flood', link, it, {macs: FLOOD_MACS, seconds, among: [...seen.macs].slice(0, 3)})
    }
  }

  const onIgnored: Partial<Readonly<Record<IgnoredReason, (it: Case) => void>>> = {
    other_server: seeServer,
    not_a_request: seeServer,
    unknown_mac: seeStranger,
    unlisted_relay: it => tell('unlisted_relay', it.packet.giaddr, it, {}),
    range_full(it) {
      const prefix = it.decision.link?.prefixes[0]
      if (prefix !== undefined) tell('range_full', prefix.cidr, it, {prefix: prefix.cidr})
    },
  }

  return {
    see(packet, arrival, decision) {
      const {answer} = decision
      if ('ignored' in answer) {
        onIgnored[answer.ignored]?.({packet, arrival, decision})
        return
      }
      if (decision.message === 'DISCOVER' && decision.client !== null) {
        const moved = places.see(decision.client, packet.xid, packet.giaddr, decision.link?.relay?.circuitId ?? null, arrival)
        if (moved !== null) tell('duplicate_mac', decision.client.mac, {packet, arrival, decision}, moved)
      } else if ('decline' in answer) {
        const {address} = answer.decline
        tell('address_conflict', address satisfies Ipv4, {packet, arrival, decision}, {address})
      }
    },
  }
}
