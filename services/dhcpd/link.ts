/**
 * On which link a client is, which prefixes are there, and what this server is called on it. Pure.
 *
 * Relayed packets: the relay must be on a prefix's allow list; link selection (RFC 3527) or subnet selection (RFC 3011) narrows the
 * choice, and only among prefixes that list this relay. Direct packets: by interface, else by our own address there.
 */
import {cidrContains, type Ipv4} from '../../lib/addresses.ts'
import {hexColon} from '../../lib/bytes.ts'
import type {Endpoint} from './destination.ts'
import {OPTIONS, RELAY_SUBOPTIONS, readIpv4, readOption} from './options.ts'
import {NO_ADDRESS, type Packet} from './packet.ts'
import {type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** Where a packet came in. */
export type Arrival = {
  readonly interface: string
  /** Our addresses on that interface, primary first. */
  readonly addresses: readonly Ipv4[]
  /** All our addresses: a client may name any as its server (RFC 2131 §4.1). */
  readonly ownAddresses: readonly Ipv4[]
  /** It came to port 4011, from there: the conversation of a PXE client with a proxyDHCP server. */
  readonly proxyFrom?: Endpoint
}

export type Link = {
  readonly prefixes: readonly DhcpPrefix[]
  readonly relay: RelayInformation | null
  /** How it was found, for reasons. */
  readonly told: () => string
}

export type RelayInformation = {
  readonly giaddr: Ipv4
  /** Opaque bytes in hexadecimal (RFC 3046 §3): usually the switch port. */
  readonly circuitId: string | null
  readonly remoteId: string | null
  readonly serverOverride: Ipv4 | null
}

export function findLink(
  packet: Packet,
  arrival: Arrival,
  snapshot: DhcpSnapshot,
): Link | {readonly ignored: 'unlisted_relay' | 'unserved_link'} {
  const index = indexSnapshot(snapshot)
  const hasRelayOption = packet.options.has(OPTIONS.relay_agent_information.code)
  const suboptions = hasRelayOption ? readOption(packet.options, 'relay_agent_information') : undefined
  if (packet.giaddr === NO_ADDRESS) {
    const here = [
      ...(index.byInterface.get(arrival.interface) ?? []),
      ...index.unbound.filter(prefix => arrival.addresses.some(address => cidrContains(prefix.cidr, address))),
    ]
    // A client behind a relay renews by unicast, past its relay (RFC 2131 §4.3.2): its own address tells where it is.
    const away = packet.ciaddr !== NO_ADDRESS && !here.some(prefix => cidrContains(prefix.cidr, packet.ciaddr))
    const prefixes = away ? snapshot.prefixes.filter(prefix => cidrContains(prefix.cidr, packet.ciaddr)) : here
    // RFC 3046 §2.1 lets a bridge add option 82 without being a relay.
    const relay = suboptions === undefined ? null : readRelay(packet.giaddr, suboptions)
    return prefixes.length === 0
      ? {ignored: 'unserved_link'}
      : {prefixes, relay, told: () => `came in on ${arrival.interface}${away ? ` from ${packet.ciaddr}` : ''}`}
  }
  const listed = index.byRelay.get(packet.giaddr) ?? []
  if (listed.length === 0) return {ignored: 'unlisted_relay'}
  const relay = readRelay(packet.giaddr, suboptions ?? new Map())
  const selected = readLinkSelection(suboptions) ?? readOption(packet.options, 'subnet_selection')
  if (selected === undefined) return {prefixes: listed, relay, told: () => `relayed by ${packet.giaddr}`}
  const prefixes = listed.filter(prefix => cidrContains(prefix.cidr, selected))
  if (prefixes.length === 0) return {ignored: 'unserved_link'}
  return {prefixes, relay, told: () => `relayed by ${packet.giaddr}, which selected the link of ${selected}`}
}

/** The name a client on this prefix can reach us by: the relay's override (RFC 5107), the configured one, ours in the prefix, ours. */
export function serverAddressOn(prefix: DhcpPrefix, link: Link, arrival: Arrival): Ipv4 | undefined {
  const {addresses} = arrival
  return (
    link.relay?.serverOverride ??
    prefix.serverAddress ??
    (addresses.length > 1 ? addresses.find(address => cidrContains(prefix.cidr, address)) : undefined) ??
    addresses[0]
  )
}

export function isOurs(server: Ipv4, link: Link, arrival: Arrival): boolean {
  return (
    arrival.ownAddresses.includes(server) ||
    arrival.addresses.includes(server) ||
    link.relay?.serverOverride === server ||
    link.prefixes.some(prefix => prefix.serverAddress === server)
  )
}

function readRelay(giaddr: Ipv4, suboptions: ReadonlyMap<number, Uint8Array>): RelayInformation {
  const circuitId = suboptions.get(RELAY_SUBOPTIONS.circuit_id)
  const remoteId = suboptions.get(RELAY_SUBOPTIONS.remote_id)
  const override = suboptions.get(RELAY_SUBOPTIONS.server_identifier_override)
  return {
    giaddr,
    circuitId: circuitId === undefined ? null : hexColon(circuitId),
    remoteId: remoteId === undefined ? null : hexColon(remoteId),
    // Only a listed relay may rename us.
    serverOverride: giaddr !== NO_ADDRESS && override?.length === 4 ? readIpv4(override, 0) : null,
  }
}

function readLinkSelection(suboptions: ReadonlyMap<number, Uint8Array> | undefined): Ipv4 | undefined {
  const bytes = suboptions?.get(RELAY_SUBOPTIONS.link_selection)
  return bytes?.length === 4 ? readIpv4(bytes, 0) : undefined
}
