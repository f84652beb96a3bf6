/**
 * What a client would get, stage by stage, and why: the very functions of the wire, fed with packets made up here. Pure.
 * Nothing is bound; a dynamic address is shown as the first of the prefix's ranges.
 */
import {cidrContains, type Ipv4, type Mac, parseIpv4} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import type {Reason} from '../../lib/decision.ts'
import {findArchitecture} from './architectures.ts'
import type {DhcpStage} from './client.ts'
import {decide, type LeaseView} from './decide.ts'
import type {DhcpDecision} from './decision.ts'
import {type Destination, replyDestination} from './destination.ts'
import type {IgnoredReason} from './ignored.ts'
import type {Arrival} from './link.ts'
import {describeOptions, MESSAGE_TYPES, readOption, writeOption} from './options.ts'
import {BOOTREQUEST, decodePacket, encodePacket, NO_ADDRESS, type Packet, replyLimit} from './packet.ts'
import {buildNak, buildReply} from './reply.ts'
import {settle} from './settle.ts'
import {addressInUrl, type DhcpPrefix, type DhcpSnapshot} from './snapshot.ts'

export type ExplainQuestion = {
  readonly mac: Mac
  readonly now: Date
  /** Option 93; 7 (x64 UEFI) unless said. */
  readonly architecture?: number
  /** The stages to walk; by default those of this architecture, firmware to installed system. */
  readonly stages?: readonly DhcpStage[]
  readonly userClass?: string
  readonly vendorClass?: string
  /** DMI UUID, sent as option 97. */
  readonly uuid?: string
  /** The prefix whose link the client is on; by default its own, else one with an open window. */
  readonly prefixId?: string
}

export type ExplainedReply = {
  readonly type: 'OFFER' | 'ACK' | 'NAK'
  readonly yiaddr: Ipv4
  readonly siaddr: Ipv4
  readonly file: string
  readonly octets: number
  readonly destination: Destination
  readonly options: Readonly<Record<string, unknown>>
}

export type ExplainedStage = {
  readonly stage: DhcpStage
  readonly message: 'DISCOVER' | 'REQUEST'
  readonly reply: ExplainedReply | null
  readonly ignored: IgnoredReason | null
  readonly reasons: readonly Reason[]
}

export function explainDhcp(snapshot: DhcpSnapshot, question: ExplainQuestion): readonly ExplainedStage[] {
  const prefix = findPrefix(snapshot, question)
  const stages = question.stages ?? stagesOf(question.architecture ?? DEFAULT_ARCHITECTURE)
  return stages.flatMap(stage => {
    const offered = explainMessage(snapshot, question, prefix, stage, null)
    if (offered.reply?.type !== 'OFFER') return [offered]
    return [offered, explainMessage(snapshot, question, prefix, stage, offered.reply)]
  })
}

const DEFAULT_ARCHITECTURE = 7
const XID = 1

/** BIOS and UEFI PXE begin in the ROM, UEFI HTTP boot without TFTP; all go on to iPXE, then to an operating system. */
function stagesOf(architecture: number): readonly DhcpStage[] {
  return findArchitecture(architecture)?.over === 'http' ? ['http', 'ipxe', 'os'] : ['rom', 'ipxe', 'os']
}

function findPrefix(snapshot: DhcpSnapshot, {prefixId, mac, now}: ExplainQuestion): DhcpPrefix | undefined {
  const wanted = prefixId ?? snapshot.hosts.get(mac)?.prefixId
  if (wanted !== undefined) return snapshot.prefixes.find(prefix => prefix.id === wanted)
  return snapshot.prefixes.find(prefix => prefix.window !== null && prefix.window.until > now) ?? snapshot.prefixes[0]
}

function explainMessage(
  snapshot: DhcpSnapshot,
  question: ExplainQuestion,
  prefix: DhcpPrefix | undefined,
  stage: DhcpStage,
  offer: ExplainedReply | null,
): ExplainedStage {
  const packet = composeRequest(question, prefix, stage, offer)
  const view: LeaseView = {found: null, offered: offer?.yiaddr ?? prefix?.dynamicRanges[0]?.first ?? 'full'}
  const decision = decide(packet, arrivalOn(prefix), snapshot, view, question.now)
  const {reply, reasons} = composeReply(packet, decision)
  return {
    stage,
    message: offer === null ? 'DISCOVER' : 'REQUEST',
    reply: reply === null ? null : describeReply(packet, reply, question.mac),
    ignored: 'ignored' in decision.answer ? decision.answer.ignored : null,
    reasons,
  }
}

function composeReply(packet: Packet, {answer, reasons}: DhcpDecision): {reply: Packet | null; reasons: readonly Reason[]} {
  if ('offer' in answer) return {reply: buildReply(packet, 'OFFER', answer.offer), reasons}
  if ('nak' in answer) return {reply: buildNak(packet, answer.nak), reasons}
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
    type: type === 'OFFER' || type === 'ACK' ? type : 'NAK',
    yiaddr: sent.yiaddr,
    siaddr: sent.siaddr,
    file: sent.file,
    octets: bytes.length,
    destination: replyDestination(request, reply, mac),
    options: describeOptions(sent.options),
  }
}

function composeRequest(
  question: ExplainQuestion,
  prefix: DhcpPrefix | undefined,
  stage: DhcpStage,
  offer: ExplainedReply | null,
): Packet {
  const options = new Map<number, Uint8Array>()
  writeOption(options, 'message_type', MESSAGE_TYPES.indexOf(offer === null ? 'DISCOVER' : 'REQUEST'))
  if (offer !== null) {
    writeOption(options, 'requested_address', offer.yiaddr)
    const server = parseIpv4(String(offer.options.server_identifier))
    if (server !== undefined) writeOption(options, 'server_identifier', server)
  }
  writeOption(options, 'parameter_request_list', [1, 3, 6, 12, 15, 26, 28, 42, 60, 66, 67, 97, 121, 175])
  writeOption(options, 'maximum_message_size', 1472)
  writeStage(options, question, stage)
  const relay = isDirect(prefix) ? undefined : prefix?.relays[0]
  return {
    op: BOOTREQUEST,
    htype: 1,
    hlen: 6,
    hops: 0,
    xid: XID,
    secs: 0,
    flags: 0,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: relay ?? NO_ADDRESS,
    chaddr: Buffer.concat([parseHex(question.mac) ?? new Uint8Array(6), new Uint8Array(10)]),
    sname: '',
    file: '',
    options,
  }
}

function writeStage(options: Map<number, Uint8Array>, question: ExplainQuestion, stage: DhcpStage): void {
  const architecture = question.architecture ?? DEFAULT_ARCHITECTURE
  const userClass = question.userClass ?? (stage === 'ipxe' ? 'iPXE' : undefined)
  if (userClass !== undefined) writeOption(options, 'user_class', Buffer.from(userClass, 'latin1'))
  if (stage === 'os') {
    if (question.vendorClass !== undefined) writeOption(options, 'vendor_class', question.vendorClass)
    return
  }
  const word = stage === 'http' ? 'HTTPClient' : 'PXEClient'
  const vendorClass = question.vendorClass ?? `${word}:Arch:${String(architecture).padStart(5, '0')}:UNDI:003000`
  writeOption(options, 'vendor_class', vendorClass)
  writeOption(options, 'client_architecture', [architecture])
  const guid = parseHex(question.uuid ?? '')
  if (guid?.length === 16) writeOption(options, 'client_machine_identifier', Buffer.concat([Uint8Array.of(0), guid]))
}

function isDirect(prefix: DhcpPrefix | undefined): boolean {
  return prefix === undefined || prefix.interface !== undefined || prefix.relays.length === 0
}

/** Our own addresses are not known here; the boot URL's host or the gateway stands in, so that the prefix is found as on the wire. */
function arrivalOn(prefix: DhcpPrefix | undefined): Arrival {
  if (prefix === undefined) return {interface: 'none', addresses: [], ownAddresses: []}
  const url = addressInUrl(prefix.boot_url)
  const inside = [url, prefix.gateway].find(address => address && cidrContains(prefix.cidr, address))
  const address = prefix.serverAddress ?? inside ?? url ?? prefix.gateway
  const addresses = [address, inside].filter(candidate => candidate !== undefined && candidate !== null)
  return {interface: prefix.interface ?? 'any', addresses, ownAddresses: addresses}
}
