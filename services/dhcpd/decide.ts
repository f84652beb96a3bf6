/**
 * What one packet gets: a pure function of the packet, where it came in, the snapshot, what is known of its lease, and the time.
 *
 * Three parts. *Admit*: is it a request from an Ethernet client on a link we serve. *Known host*: one machine, one address, from the
 * snapshot alone. *Dynamic*: a MAC nobody declared, inside an open window, or a lease granted earlier.
 * Where the snapshot does not suffice the answer is `{ask}`: the caller asks the leases port once and decides again with the reply in
 * `view`. A lease that only the database knows therefore costs one SELECT, never silence and never a NAK.
 *
 * The states of a REQUEST are told by its fields (RFC 2131 §4.3.2): server-id and no ciaddr: SELECTING; requested address without
 * server-id: INIT-REBOOT; ciaddr: RENEWING or REBINDING, which the server treats alike.
 */
import {cidrContains, type Ipv4} from '../../lib/addresses.ts'
import {uuidTexts} from '../../lib/bytes.ts'
import {chooseBootFile} from './boot-file.ts'
import {type Client, identifyClient} from './client.ts'
import {type DhcpAnswer, type DhcpDecision, type Grant, TellingDecision} from './decision.ts'
import {IGNORED} from './ignored.ts'
import type {LeaseKind, StoredLease} from './leases.ts'
import {type Arrival, findLink, isOurs, type Link, serverAddressOn} from './link.ts'
import {MESSAGE_TYPES, type MessageType, readOption} from './options.ts'
import {BOOTREQUEST, NO_ADDRESS, type Packet} from './packet.ts'
import {type Because, createLazyReasons} from './reasons.ts'
import {type DhcpHost, type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** What is known of a client's lease beside the snapshot. Absent means not asked yet. */
export type LeaseView = {
  /** Committed by this process earlier, with the seconds left. */
  readonly remembered?: {readonly address: Ipv4; readonly prefixId: string; readonly remaining_s: number} | undefined
  readonly found?: StoredLease | null | 'away'
  readonly offered?: Ipv4 | 'full' | 'away'
}

type Case = {
  readonly packet: Packet
  readonly client: Client
  readonly link: Link
  readonly arrival: Arrival
  readonly snapshot: DhcpSnapshot
  readonly view: LeaseView
  readonly now: Date
  readonly because: Because
}

export function decide(packet: Packet, arrival: Arrival, snapshot: DhcpSnapshot, view: LeaseView, now: Date): DhcpDecision {
  const {because, list} = createLazyReasons()
  const conclude = (
    answer: DhcpAnswer,
    message: MessageType | null = null,
    client: Client | null = null,
    link: Link | null = null,
    host: DhcpHost | null = null,
  ): DhcpDecision => {
    if ('ignored' in answer) because('ignored', () => IGNORED[answer.ignored], answer.ignored)
    return new TellingDecision(answer, message, client, link, host, list)
  }
  if (packet.op !== BOOTREQUEST) return conclude({ignored: 'not_a_request'})
  const type = readOption(packet.options, 'message_type')
  if (type === undefined) return conclude({ignored: 'bootp'})
  const message = MESSAGE_TYPES[type] || null
  const handle = message === null ? undefined : HANDLERS[message]
  if (handle === undefined) return conclude({ignored: 'unknown_message_type'})
  const client = identifyClient(packet)
  if ('ignored' in client) return conclude(client, message)
  because('client', () => `${client.mac} is at stage ${client.stage}: ${client.told}`, 'packet')
  const link = findLink(packet, arrival, snapshot)
  if ('ignored' in link) return conclude(link, message, client)
  because('link', () => `${link.told()}: ${link.prefixes.map(prefix => prefix.cidr).join(', ')}`, 'snapshot')
  const host = snapshot.hosts.get(client.mac) ?? null
  const answer = handle({packet, client, link, arrival, snapshot, view, now, because}, host)
  return conclude(answer, message, client, link, host)
}

type Handler = (it: Case, host: DhcpHost | null) => DhcpAnswer

const HANDLERS: Partial<Record<MessageType, Handler>> = {
  DISCOVER: discover,
  REQUEST: request,
  INFORM: inform,
  RELEASE: (it, host) => giveBack(it, host, 'release'),
  DECLINE: (it, host) => giveBack(it, host, 'decline'),
}

function discover(it: Case, host: DhcpHost | null): DhcpAnswer {
  const home = host === null ? undefined : homePrefix(it, host)
  if (host !== null && home !== undefined) return toGrant(it, 'offer', home, host, 'reserved', host.address)
  const open = openWindow(it)
  if (open === undefined) return {ignored: host === null ? 'unknown_mac' : 'other_prefix'}
  const {offered} = it.view
  if (offered === undefined) return askOffer(it, open)
  if (offered === 'full') return {ignored: 'range_full'}
  if (offered !== 'away') return toGrant(it, 'offer', open, host, 'dynamic', offered)
  return onRemembered(it, 'offer', host)
}

function request(it: Case, host: DhcpHost | null): DhcpAnswer {
  const {packet, because} = it
  const server = readOption(packet.options, 'server_identifier')
  const requested = readOption(packet.options, 'requested_address')
  if (server !== undefined && packet.ciaddr === NO_ADDRESS) {
    if (!isOurs(server, it.link, it.arrival)) return {ignored: 'other_server'}
    because('state', () => `SELECTING: it takes our offer of ${requested}`, 'options 50, 54')
    return requested === undefined ? {ignored: 'malformed_request'} : select(it, host, requested)
  }
  if (packet.ciaddr !== NO_ADDRESS) {
    because('state', () => `RENEWING or REBINDING ${packet.ciaddr}`, 'ciaddr')
    return renew(it, host, packet.ciaddr)
  }
  if (requested === undefined) return {ignored: 'malformed_request'}
  because('state', () => `INIT-REBOOT: it remembers ${requested}`, 'option 50')
  return reboot(it, host, requested)
}

function select(it: Case, host: DhcpHost | null, requested: Ipv4): DhcpAnswer {
  const home = host === null ? undefined : homePrefix(it, host)
  if (host !== null && home !== undefined) {
    if (requested === host.address) return toGrant(it, 'ack', home, host, 'reserved', requested)
    return refuse(it, home, `the address of ${host.name} is ${host.address}`)
  }
  if (it.view.remembered?.address === requested) return onRemembered(it, 'ack', host)
  const open = openWindow(it)
  if (open === undefined) return {ignored: host === null ? 'unknown_mac' : 'other_prefix'}
  const {offered} = it.view
  if (offered === undefined) return askOffer(it, open)
  if (offered === 'away') return {ignored: 'database_away'}
  if (offered === requested) return toGrant(it, 'ack', open, host, 'dynamic', requested)
  return refuse(it, open, offered === 'full' ? 'the range is full' : 'that address was not offered to you')
}

function reboot(it: Case, host: DhcpHost | null, requested: Ipv4): DhcpAnswer {
  const here = it.link.prefixes.find(prefix => cidrContains(prefix.cidr, requested))
  if (host === null) return here === undefined ? {ignored: 'unknown_mac'} : resume(it, null, requested)
  const home = homePrefix(it, host)
  if (home !== undefined && requested === host.address) return toGrant(it, 'ack', home, host, 'reserved', requested)
  const [somewhere] = it.link.prefixes
  if (home === undefined && here !== undefined) return resume(it, host, requested)
  return refuse(
    it,
    home ?? somewhere,
    home ? `the address of ${host.name} is ${host.address}` : 'that address is of another link',
  )
}

function renew(it: Case, host: DhcpHost | null, ciaddr: Ipv4): DhcpAnswer {
  const home = host === null ? undefined : homePrefix(it, host)
  if (host !== null && home !== undefined && ciaddr === host.address) return toGrant(it, 'ack', home, host, 'reserved', ciaddr)
  return resume(it, host, ciaddr)
}

/** A lease that is not the machine's reservation: remembered here, or committed in the database, or not ours at all. */
function resume(it: Case, host: DhcpHost | null, address: Ipv4): DhcpAnswer {
  if (it.view.remembered?.address === address) return onRemembered(it, 'ack', host)
  const {found} = it.view
  if (found === undefined) return {ask: 'lease'}
  if (found === 'away') return {ignored: 'database_away'}
  const home = host === null ? undefined : homePrefix(it, host)
  if (found === null)
    return home === undefined ? {ignored: 'unknown_lease'} : refuse(it, home, `your address is ${host?.address}`)
  it.because('lease', () => `the database has ${found.address} for it until ${found.expires_at.toISOString()}`, 'leases')
  const prefix = it.link.prefixes.find(candidate => candidate.id === found.prefixId)
  if (prefix === undefined || found.address !== address)
    return refuse(it, prefix ?? it.link.prefixes[0], 'that is not your lease')
  if (found.expires_at <= it.now && openWindow(it) === undefined) return {ignored: 'lease_ended'}
  return toGrant(it, 'ack', prefix, host, found.kind, address, {machineId: found.machineId})
}

/** While the database is away a remembered lease is good for what was committed of it; `settle` cuts the ACK to that. */
function onRemembered(it: Case, act: 'offer' | 'ack', host: DhcpHost | null): DhcpAnswer {
  const {remembered} = it.view
  const prefix = it.link.prefixes.find(candidate => candidate.id === remembered?.prefixId)
  if (remembered === undefined || prefix === undefined || remembered.remaining_s < 1) return {ignored: 'database_away'}
  it.because('lease', () => `committed here, ${remembered.remaining_s} s left`, 'memory')
  const lease_s = act === 'offer' ? remembered.remaining_s : prefix.lease_s
  return toGrant(it, act, prefix, host, 'dynamic', remembered.address, {lease_s})
}

function inform(it: Case, host: DhcpHost | null): DhcpAnswer {
  const {ciaddr} = it.packet
  if (ciaddr === NO_ADDRESS) return {ignored: 'malformed_request'}
  const prefix = it.link.prefixes.find(candidate => cidrContains(candidate.cidr, ciaddr))
  if (prefix === undefined) return {ignored: 'unserved_link'}
  if (host === null && openWindow(it) === undefined) return {ignored: 'unknown_mac'}
  return toGrant(it, 'inform', prefix, host, host === null ? 'dynamic' : 'reserved', ciaddr)
}

function giveBack(it: Case, host: DhcpHost | null, act: 'release' | 'decline'): DhcpAnswer {
  const server = readOption(it.packet.options, 'server_identifier')
  if (server !== undefined && !isOurs(server, it.link, it.arrival)) return {ignored: 'other_server'}
  const address = act === 'release' ? it.packet.ciaddr : (readOption(it.packet.options, 'requested_address') ?? NO_ADDRESS)
  if (address === NO_ADDRESS) return {ignored: 'malformed_request'}
  const known = host?.address === address || it.view.remembered?.address === address
  if (!known) {
    if (it.view.found === undefined) return {ask: 'lease'}
    if (it.view.found === 'away') return {ignored: 'database_away'}
    if (it.view.found?.address !== address) return {ignored: 'unknown_lease'}
  }
  const prefixId = it.link.prefixes.find(prefix => cidrContains(prefix.cidr, address))?.id ?? null
  it.because(act, () => `${it.client.mac} ${act === 'release' ? 'gives back' : 'saw somebody else use'} ${address}`, 'packet')
  const given = {mac: it.client.mac, machineId: host?.machineId ?? null, prefixId, address, now: it.now}
  return act === 'release' ? {release: given} : {decline: given}
}

function homePrefix(it: Case, host: DhcpHost): DhcpPrefix | undefined {
  const home = it.link.prefixes.find(prefix => prefix.id === host.prefixId)
  const where = home ?? indexSnapshot(it.snapshot).byId.get(host.prefixId)
  const away = home === undefined ? ', which is not on this link' : ''
  it.because('host', () => `${host.name} has ${host.address} in ${where?.cidr ?? host.prefixId}${away}`, 'snapshot')
  return home
}

function openWindow(it: Case): DhcpPrefix | undefined {
  const open = it.link.prefixes.find(prefix => prefix.window !== null && prefix.window.until > it.now)
  const window = open?.window
  if (window) it.because('window', () => `window ${window.id} on ${open.cidr} is open until ${window.until.toISOString()}`)
  return open
}

function askOffer(it: Case, prefix: DhcpPrefix): DhcpAnswer {
  const requested = readOption(it.packet.options, 'requested_address') ?? null
  return {ask: 'offer', request: {mac: it.client.mac, prefixId: prefix.id, requested, now: it.now}}
}

function toGrant(
  it: Case,
  act: 'offer' | 'ack' | 'inform',
  prefix: DhcpPrefix,
  host: DhcpHost | null,
  kind: LeaseKind,
  address: Ipv4,
  given: {readonly lease_s?: number; readonly machineId?: string | null} = {},
): DhcpAnswer {
  const server = serverAddressOn(prefix, it.link, it.arrival)
  if (server === undefined) return {ignored: 'no_server_address'}
  const boot = chooseBootFile(it.client, prefix, it.snapshot, server)
  it.because('address', () => `${address}, ${kind}`, kind === 'reserved' ? 'snapshot' : 'leases')
  it.because('boot file', () => (boot.by === 'none' ? boot.because : `${boot.file} by ${boot.by}`), 'architecture, boot_url')
  if (host !== null && uuidDiffers(host, it.client)) {
    it.because('uuid', () => `option 97 is not the recorded ${host.uuid}: is the MAC in another machine?`, 'option 97')
  }
  const lease_s = given.lease_s ?? prefix.lease_s
  const machineId = given.machineId ?? host?.machineId ?? null
  const grant: Grant = {client: it.client, prefix, host, machineId, kind, address, server, lease_s, boot}
  return act === 'offer' ? {offer: grant} : act === 'ack' ? {ack: grant} : {inform: grant}
}

function refuse(it: Case, prefix: DhcpPrefix | undefined, message: string): DhcpAnswer {
  const server = prefix === undefined ? undefined : serverAddressOn(prefix, it.link, it.arrival)
  if (server === undefined) return {ignored: 'no_server_address'}
  it.because('nak', () => message)
  return {nak: {client: it.client, server, message}}
}

/** SMBIOS and RFC 4122 disagree about byte order, and so does firmware: either match counts. Nothing to compare is no difference. */
export function uuidDiffers(host: DhcpHost, client: Client): boolean {
  const texts = host.uuid === undefined || client.guid === null ? undefined : uuidTexts(client.guid)
  if (texts === undefined) return false
  const recorded = host.uuid?.toLowerCase()
  return recorded !== texts.big && recorded !== texts.little
}
