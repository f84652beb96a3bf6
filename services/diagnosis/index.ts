/**
 * Diagnosis: what a capture shows, packet by packet, what Ingot would have answered and why, and what went wrong with a named cause.
 * It decides nothing about the wire: answers come from the functions that serve it, handed in. Everything in here but the waiting for
 * those answers is pure, and the file is a stranger's.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Reason} from '../../lib/decision.ts'
import {
  type DhcpPacket,
  describeOptions,
  type Endpoint,
  type ExplainedPacket,
  NO_ADDRESS,
  PROXY_PORT,
  readOption,
} from '../dhcpd/index.ts'
import type {TftpRequest} from '../tftpd/index.ts'
import {readCapture} from './capture-file.ts'
import {CAUSES, type Finding} from './causes.ts'
import {describeMessage} from './describe.ts'
import {FINDERS} from './finders.ts'
import {readFrame} from './frame.ts'
import {type DhcpMessage, type Message, readConversation} from './messages.ts'
import {MESSAGES_AT_MOST, type Story, tellStories} from './story.ts'

export {CAPTURE_BYTES_AT_MOST} from './capture-file.ts'
export {CAUSES, type CauseCode} from './causes.ts'

/** What Ingot would answer, asked one packet at a time. */
export type CaptureAnswers = {
  /**
   * @param seen      addresses on the same link, by which it is told where the packet itself does not tell
   * @param proxyFrom who asked, where it asked the proxy port
   */
  dhcp(packet: DhcpPacket, mac: Mac | null, seen: readonly Ipv4[], proxyFrom?: Endpoint): Promise<ExplainedPacket>
  tftp(request: TftpRequest): Answered
  http(method: string, target: string, from: Ipv4): Promise<Answered>
  nameOf(mac: string): string | null
}

export type Answered = {readonly answer: string; readonly reasons: readonly Reason[]}

export type CaptureReport = {
  readonly format: 'pcap' | 'pcapng'
  readonly packets: number
  readonly began_at: string | null
  readonly seconds: number
  readonly machines: readonly {readonly mac: string; readonly machine: string | null}[]
  /** What keeps something from being seen. */
  readonly notes: readonly string[]
  readonly shown: readonly ShownPacket[]
  /** Packets that are not shown, by kind. */
  readonly left_out: Readonly<Record<string, number>>
  /** Failures first. */
  readonly findings: readonly ShownFinding[]
}

export type ShownPacket = {
  readonly number: number
  /** Since the first packet. */
  readonly at_s: number
  readonly mac: string | null
  readonly vlan: number | null
  readonly what: string
  readonly options?: Readonly<Record<string, unknown>>
  /** Only where it asks something. */
  readonly ingot?: Answered & {readonly file?: string | null; readonly options?: Readonly<Record<string, unknown>>}
}

export type ShownFinding = Finding & {
  readonly machine: string | null
  readonly weight: 'failure' | 'slow' | 'notice'
  readonly title: string
  readonly mend: string
}

const SHOWN_AT_MOST = 2_000
const FINDINGS_AT_MOST = 200
const PACKETS_AT_MOST = 20
const HTTP_ASKED_AT_MOST = 200

/** @throws IngotError INVALID_INPUT when it is no capture */
export async function explainCapture(bytes: Uint8Array, answers: CaptureAnswers): Promise<CaptureReport> {
  const file = readCapture(bytes)
  const conversation = readConversation(file.frames.map(readFrame))
  const began_us = file.frames[0]?.at_us ?? 0
  const ends_us = file.frames.reduce((latest, {at_us}) => Math.max(latest, at_us), began_us)
  const picked = conversation.messages.filter(isWorthShowing)
  const shown = picked.slice(0, SHOWN_AT_MOST)
  const wouldDhcp = await askDhcp(shown, answers)
  const packets = await describeAll(shown, wouldDhcp, answers, began_us)
  const stories = tellStories(conversation, wouldDhcp, ends_us)
  return {
    format: file.format,
    packets: file.frames.length,
    began_at: file.frames.length === 0 ? null : toTime(began_us),
    seconds: seconds(ends_us - began_us),
    machines: stories.slice(0, FINDINGS_AT_MOST).map(({mac}) => ({mac, machine: answers.nameOf(mac)})),
    notes: [...file.notes, ...notesOf(stories)],
    shown: packets,
    left_out: countLeftOut(conversation.others, conversation.messages, picked.length - shown.length),
    findings: findAll(stories).map(finding => tell(finding, answers)),
  }
}

/** What is wrong with any machine of the capture, failures first. */
export function findAll(stories: readonly Story[]): readonly Finding[] {
  const findings = stories.flatMap(story => FINDERS.flatMap(find => find(story)))
  const order = ['failure', 'slow', 'notice']
  const rank = ({cause}: Finding) => order.indexOf(CAUSES[cause].weight)
  return findings.sort((one, other) => rank(one) - rank(other)).slice(0, FINDINGS_AT_MOST)
}

function tell(finding: Finding, answers: CaptureAnswers): ShownFinding {
  const {weight, title, mend} = CAUSES[finding.cause]
  const packets = [...new Set(finding.packets)].sort((one, other) => one - other).slice(0, PACKETS_AT_MOST)
  return {...finding, packets, machine: finding.mac === null ? null : answers.nameOf(finding.mac), weight, title, mend}
}

/** Of a transfer its beginning and what went wrong: the blocks between say nothing. */
function isWorthShowing(message: Message): boolean {
  if (message.kind !== 'tftp') return message.kind !== 'connected'
  const {packet} = message
  return !(packet.kind === 'data' || packet.kind === 'ack') || packet.block <= 1
}

/** The link of a packet is told by what servers and clients on it say: per VLAN, as a capture of a trunk holds several links. */
async function askDhcp(shown: readonly Message[], answers: CaptureAnswers): Promise<Map<number, ExplainedPacket>> {
  const requests = shown.filter((message): message is DhcpMessage => message.kind === 'dhcp' && !message.fromServer)
  const seen = new Map<number | null, Set<Ipv4>>()
  for (const message of shown) {
    if (message.kind !== 'dhcp' || !message.fromServer) continue
    const addresses = seen.get(message.vlan) ?? new Set()
    seen.set(message.vlan, addresses)
    if (addresses.size < SEEN_AT_MOST) for (const address of addressesIn(message.packet)) addresses.add(address)
  }
  const would = new Map<number, ExplainedPacket>()
  for (const {number, packet, mac, vlan, source, port} of requests) {
    const proxyFrom = port === PROXY_PORT ? {address: source, port} : undefined
    would.set(number, await answers.dhcp(packet, mac, [...(seen.get(vlan) ?? [])], proxyFrom))
  }
  return would
}

const SEEN_AT_MOST = 16

function addressesIn(packet: DhcpPacket): readonly Ipv4[] {
  return [packet.yiaddr, readOption(packet.options, 'server_identifier')].flatMap(address =>
    address === undefined || address === NO_ADDRESS ? [] : [address],
  )
}

async function describeAll(
  shown: readonly Message[],
  wouldDhcp: ReadonlyMap<number, ExplainedPacket>,
  answers: CaptureAnswers,
  began_us: number,
): Promise<ShownPacket[]> {
  const described: ShownPacket[] = []
  let asked = 0
  for (const message of shown) {
    const {number, at_us, mac, vlan} = message
    const head = {number, at_s: seconds(at_us - began_us), mac, vlan, what: describeMessage(message)}
    if (message.kind === 'dhcp') {
      const would = wouldDhcp.get(number)
      const options = describeOptions(message.packet.options)
      described.push({...head, options, ...(would ? {ingot: describeAnswer(would)} : {})})
    } else if (message.kind === 'tftp' && message.transfer.requests[0] === number) {
      described.push({...head, ingot: answers.tftp(message.transfer.request)})
    } else if (message.kind === 'http_request' && asked++ < HTTP_ASKED_AT_MOST) {
      described.push({...head, ingot: await answers.http(message.method, message.target, message.client)})
    } else described.push(head)
  }
  return described
}

function describeAnswer({reply, ignored, taken, reasons}: ExplainedPacket): NonNullable<ShownPacket['ingot']> {
  if (reply === null) {
    const answer = taken === null ? `nothing: ${ignored ?? 'it asks nothing'}` : `nothing: the ${taken} is noted`
    return {answer, reasons}
  }
  const {type, yiaddr, file, options} = reply
  const name = file || options.boot_file_name
  return {
    answer: type === 'NAK' ? 'NAK' : `${type} ${yiaddr === NO_ADDRESS ? 'of a boot file and no address' : yiaddr}`,
    file: typeof name === 'string' ? name : null,
    options,
    reasons,
  }
}

function countLeftOut(others: ReadonlyMap<string, number>, messages: readonly Message[], beyond: number): Record<string, number> {
  const blocks = messages.filter(message => message.kind === 'tftp' && !isWorthShowing(message)).length
  return {
    ...Object.fromEntries([...others].slice(0, KINDS_AT_MOST)),
    ...(blocks > 0 ? {'TFTP blocks and acknowledgements': blocks} : {}),
    ...(beyond > 0 ? {[`beyond the first ${SHOWN_AT_MOST}`]: beyond} : {}),
  }
}

const KINDS_AT_MOST = 32

function notesOf(stories: readonly Story[]): readonly string[] {
  const silent = stories.filter(({exchanges}) =>
    exchanges.some(({offers, requests, acks}) => requests.length > 0 && offers.length + acks.length === 0),
  )
  const long = stories.filter(({messages}) => messages.length >= MESSAGES_AT_MOST)
  return [
    ...(silent.length > 0 ? ['some DHCP answers are missing: they were broadcast, and not captured where this was taken'] : []),
    ...(long.length > 0
      ? [`of ${long.map(({mac}) => mac).join(', ')} only the first ${MESSAGES_AT_MOST} packets were looked at`]
      : []),
  ]
}

function seconds(us: number): number {
  return Math.round(us) / 1e6
}

/** Captures without a time, or with one that no calendar holds. */
function toTime(us: number): string | null {
  const at = new Date(us / 1000)
  return Number.isNaN(at.getTime()) ? null : at.toISOString()
}
