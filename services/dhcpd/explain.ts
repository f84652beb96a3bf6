/**
 * What a client would get, stage by stage, and why: the very functions of the wire, fed with packets made up here; or with packets that
 * somebody captured. Pure. Nothing is bound; a dynamic address is the one the client holds, else the first of the prefix's ranges.
 */
import {cidrContains, type Ipv4, type Mac} from '../../lib/addresses.ts'
import type {Reason} from '../../lib/decision.ts'
import {readMac} from './client.ts'
import {type AskingStage, type ClientLooks, composeRequest, DEFAULT_ARCHITECTURE, stagesOf} from './compose-request.ts'
import {decide, type LeaseView} from './decide.ts'
import type {DhcpDecision} from './decision.ts'
import {type Destination, type Endpoint, replyDestination} from './destination.ts'
import type {IgnoredReason} from './ignored.ts'
import type {StoredLease} from './leases.ts'
import type {Arrival} from './link.ts'
import {describeOptions, MESSAGE_TYPES, readOption} from './options.ts'
import {decodePacket, encodePacket, NO_ADDRESS, type Packet, replyLimit} from './packet.ts'
import {buildBootpReply, buildNak, buildProxyReply, buildReply} from './reply.ts'
import {settle} from './settle.ts'
import {addressInUrl, type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** Where the question is asked from, and what is known beside the snapshot. */
export type ExplainPlace = {
  readonly now: Date
  /** The prefix whose link the client is on; by default its own, else one with an open window. */
  readonly prefixId?: string
  /** Addresses of the host that serves, where they are known: its server-id is one of them. */
  readonly servers?: readonly Ipv4[]
  /** The committed lease of the client. */
  readonly lease?: StoredLease | null
}

export type ExplainQuestion = ClientLooks &
  ExplainPlace & {
    /** The stages to walk; by default those of this architecture, firmware to installed system. */
    readonly stages?: readonly AskingStage[]
  }

export type ExplainedReply = {
  readonly type: 'OFFER' | 'ACK' | 'NAK' | 'BOOTP'
  readonly yiaddr: Ipv4
  readonly siaddr: Ipv4
  readonly file: string
  readonly octets: number
  readonly destination: Destination
  readonly options: Readonly<Record<string, unknown>>
}

export type ExplainedPacket = {
  readonly reply: ExplainedReply | null
  readonly ignored: IgnoredReason | null
  /** Taken note of, and by the protocol never answered. */
  readonly taken: 'release' | 'decline' | null
  readonly reasons: readonly Reason[]
}

export type ExplainedStage = ExplainedPacket & {readonly stage: AskingStage; readonly message: 'DISCOVER' | 'REQUEST'}

export function explainDhcp(snapshot: DhcpSnapshot, question: ExplainQuestion): readonly ExplainedStage[] {
  const prefix = findPrefix(snapshot, question)
  const looks = {...question, ...relayOf(question, prefix)}
  const stages = question.stages ?? stagesOf(question.architecture ?? DEFAULT_ARCHITECTURE)
  return stages.flatMap(stage => {
    const discover = composeRequest(looks, stage, null)
    const offered = answer(snapshot, discover, prefix, question)
    // Beside another server the address is asked of that one.
    if (offered.reply?.type !== 'OFFER' || offered.reply.yiaddr === NO_ADDRESS)
      return [{stage, message: 'DISCOVER' as const, ...offered}]
    const {yiaddr, options} = offered.reply
    const request = composeRequest(looks, stage, {address: yiaddr, server: String(options.server_identifier)})
    const acknowledged = answer(snapshot, request, prefix, question, yiaddr)
    return [
      {stage, message: 'DISCOVER' as const, ...offered},
      {stage, message: 'REQUEST' as const, ...acknowledged},
    ]
  })
}

/**
 * @param place.proxyFrom who asked, where the packet came to the proxy port
 * @param place.seen addresses that were seen beside the packet, by which its link is told where it does not tell itself
 */
export function explainPacket(
  snapshot: DhcpSnapshot,
  packet: Packet,
  place: ExplainPlace & {readonly seen: readonly Ipv4[]; readonly proxyFrom?: Endpoint},
): ExplainedPacket {
  const mac = readMac(packet.chaddr)
  const named = [packet.ciaddr, readOption(packet.options, 'requested_address'), ...place.seen]
  const prefix = prefixOfRelay(snapshot, packet.giaddr) ?? findPrefix(snapshot, {...place, ...(mac ? {mac} : {}), named})
  // A REQUEST takes what it was offered; from a range we would have offered what it names, if that were free.
  const requested = readOption(packet.options, 'requested_address')
  const inRange = requested !== undefined && prefix !== undefined && cidrContains(prefix.cidr, requested)
  return answer(snapshot, packet, prefix, place, inRange ? requested : undefined, place.proxyFrom)
}

function answer(
  snapshot: DhcpSnapshot,
  packet: Packet,
  prefix: DhcpPrefix | undefined,
  place: ExplainPlace,
  offered?: Ipv4,
  proxyFrom?: Endpoint,
): ExplainedPacket {
  const lease = place.lease ?? null
  const held = lease !== null && lease.prefixId === prefix?.id ? lease.address : undefined
  const view: LeaseView = {found: lease, offered: offered ?? held ?? prefix?.dynamicRanges[0]?.first ?? 'full'}
  const arrival = arrivalOn(prefix, place)
  const decision = decide(packet, proxyFrom === undefined ? arrival : {...arrival, proxyFrom}, snapshot, view, place.now)
  const {reply, reasons} = composeReply(packet, decision)
  const mac = readMac(packet.chaddr)
  return {
    reply: reply === null || mac === undefined ? null : describeReply(packet, reply, mac),
    ignored: 'ignored' in decision.answer ? decision.answer.ignored : null,
    taken: 'release' in decision.answer ? 'release' : 'decline' in decision.answer ? 'decline' : null,
    reasons,
  }
}

function composeReply(packet: Packet, {answer, reasons}: DhcpDecision): {reply: Packet | null; reasons: readonly Reason[]} {
  if ('offer' in answer) return {reply: buildReply(packet, 'OFFER', answer.offer), reasons}
  if ('inform' in answer) return {reply: buildReply(packet, 'INFORM', answer.inform), reasons}
  if ('nak' in answer) return {reply: buildNak(packet, answer.nak), reasons}
  if ('bootp' in answer) return {reply: buildBootpReply(packet, answer.bootp), reasons}
  if ('proxy' in answer) return {reply: buildProxyReply(packet, answer.proxy), reasons}
  if (!('ack' in answer)) return {reply: null, reasons}
  const settled = settle(answer.ack, {bound: true}, 0, 0)
  return {reply: buildReply(packet, 'ACK', answer.ack), reasons: [...reasons, ...settled.reasons]}
}

/** Through the encoder and back, so that what is shown is what fits. */
function describeReply(request: Packet, reply: Packet, mac: Mac): ExplainedReply | null {
  const {bytes} = encodePacket(reply, replyLimit(request))
  const sent = decodePacket(bytes)
  if ('ignored' in sent) return null
  const type = MESSAGE_TYPES[readOption(sent.options, 'message_type') ?? 0]
  return {
    type: type === 'OFFER' || type === 'ACK' || type === 'NAK' ? type : 'BOOTP',
    yiaddr: sent.yiaddr,
    siaddr: sent.siaddr,
    file: sent.file,
    octets: bytes.length,
    destination: replyDestination(request, reply, mac),
    options: describeOptions(sent.options),
  }
}

/** The prefix on whose link the question is asked; undefined where none is served there. */
export function prefixOfQuestion(snapshot: DhcpSnapshot, question: ExplainQuestion): DhcpPrefix | undefined {
  return findPrefix(snapshot, question)
}

function findPrefix(
  snapshot: DhcpSnapshot,
  asked: ExplainPlace & {readonly mac?: Mac; readonly relay?: Ipv4; readonly named?: readonly (Ipv4 | undefined)[]},
): DhcpPrefix | undefined {
  const {prefixId, relay, named = [], mac, now} = asked
  if (prefixId !== undefined) return snapshot.prefixes.find(prefix => prefix.id === prefixId)
  if (relay !== undefined) return prefixOfRelay(snapshot, relay)
  for (const address of named) {
    const around = snapshot.prefixes.find(prefix => address !== undefined && cidrContains(prefix.cidr, address))
    if (around !== undefined) return around
  }
  const home = mac === undefined ? undefined : snapshot.hosts.get(mac)?.prefixId
  if (home !== undefined) return snapshot.prefixes.find(prefix => prefix.id === home)
  return snapshot.prefixes.find(prefix => prefix.window !== null && prefix.window.until > now) ?? snapshot.prefixes[0]
}

function prefixOfRelay(snapshot: DhcpSnapshot, relay: Ipv4): DhcpPrefix | undefined {
  return relay === NO_ADDRESS ? undefined : indexSnapshot(snapshot).byRelay.get(relay)?.[0]
}

/** A prefix that is not on a link of this host is reached through its relay, whether that was said or not. */
function relayOf(question: ExplainQuestion, prefix: DhcpPrefix | undefined): {relay?: Ipv4} {
  if (question.relay !== undefined || prefix === undefined || prefix.interface !== undefined) return {}
  if (question.servers?.some(address => cidrContains(prefix.cidr, address))) return {}
  const [relay] = prefix.relays
  return relay === undefined ? {} : {relay}
}

/** Where our own addresses are not known, the boot URL's host or the gateway stands in, so that the prefix is found as on the wire. */
function arrivalOn(prefix: DhcpPrefix | undefined, {servers = []}: ExplainPlace): Arrival {
  if (prefix === undefined) return {interface: 'none', addresses: [], ownAddresses: servers}
  const url = addressInUrl(prefix.boot_url)
  const own = [...servers, ...(url ? [url] : [])].filter(address => cidrContains(prefix.cidr, address))
  const standIn = own.length > 0 ? own : [prefix.gateway, url].flatMap(address => address ?? [])
  const addresses = prefix.serverAddress === undefined ? standIn : [prefix.serverAddress, ...standIn]
  return {interface: prefix.interface ?? 'any', addresses, ownAddresses: [...addresses, ...servers]}
}
