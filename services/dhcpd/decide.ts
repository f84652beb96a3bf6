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
import {chooseBootFile, chooseBootpFile, describeBootFile} from './boot-file.ts'
import {type Client, identifyClient} from './client.ts'
import {identifyByKey} from './client-keys.ts'
import {type DhcpAnswer, type DhcpDecision, type Grant, TellingDecision} from './decision.ts'
import {IGNORED} from './ignored.ts'
import type {LeaseKind, StoredLease} from './leases.ts'
import {type Arrival, findLink, isOurs, type Link, serverAddressOn} from './link.ts'
import {describeScopes} from './network-options.ts'
import {MESSAGE_TYPES, type MessageType, OPTIONS, readOption} from './options.ts'
import {BOOTREQUEST, NO_ADDRESS, type Packet} from './packet.ts'
import {offerBeside, replyOnProxyPort} from './proxy.ts'
import {type Because, createLazyReasons} from './reasons.ts'
import {type DhcpHost, type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** What is known of a client's lease beside the snapshot. Absent means not asked yet. */
export type LeaseView = {
  /** Committed by this process earlier, with the seconds left. */
  readonly remembered?: {readonly address: Ipv4; readonly prefixId: string; readonly remaining_s: number} | undefined
  readonly found?: StoredLease | null | 'away'
  readonly offered?: Ipv4 | 'full' | 'away'
  /** Prefixes of the link that were asked for an address and had none left. */
  readonly full?: readonly string[]
}

/** What a handler decides about. */
export type Case = {
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
  const type = packet.options.has(OPTIONS.message_type.code) ? (readOption(packet.options, 'message_type') ?? 0) : undefined
  const message = type === undefined ? null : MESSAGE_TYPES[type] || null
  const handle = handlerOf(type, message, arrival)
  if (handle === undefined) return conclude({ignored: type === undefined ? 'bootp' : 'unknown_message_type'})
  const client = identifyClient(packet)
  if ('ignored' in client) return conclude(client, message)
  because('client', () => `${client.mac} is at stage ${client.stage}: ${client.told}`, 'packet')
  const link = findLink(packet, arrival, snapshot)
  if ('ignored' in link) return conclude(link, message, client)
  because('link', () => `${link.told()}: ${link.prefixes.map(prefix => prefix.cidr).join(', ')}`, 'snapshot')
  const host = snapshot.hosts.get(client.mac) ?? identify(snapshot, client, link, because)
  const answer = handle({packet, client, link, arrival, snapshot, view, now, because}, host)
  return conclude(answer, message, client, link, host)
}

function identify(snapshot: DhcpSnapshot, client: Client, link: Link, because: Because): DhcpHost | null {
  const found = identifyByKey(snapshot.keys, client, link)
  if (found === null) return null
  because('identity', () => `nobody declared ${client.mac}; ${found.by} is that of ${found.host.name}`, 'snapshot')
  return found.host
}

type Handler = (it: Case, host: DhcpHost | null) => DhcpAnswer

const HANDLERS: Partial<Record<MessageType, Handler>> = {
  DISCOVER: discover,
  REQUEST: unlessProxied(request),
  INFORM: unlessProxied(inform),
  RELEASE: unlessProxied((it, host) => giveBack(it, host, 'release')),
  DECLINE: unlessProxied((it, host) => giveBack(it, host, 'decline')),
}

function handlerOf(type: number | undefined, message: MessageType | null, arrival: Arrival): Handler | undefined {
  if (arrival.proxyFrom !== undefined) return (it, host) => replyOnProxyPort(it, message, placeFor(it, host), host)
  if (type === undefined) return bootp
  return message === null ? undefined : HANDLERS[message]
}

/** Where another server gives the addresses, its clients' leases are its own affair. */
function unlessProxied(handle: Handler): Handler {
  return (it, host) => (it.link.prefixes.every(prefix => prefix.mode === 'proxy') ? {ignored: 'proxied'} : handle(it, host))
}

function discover(it: Case, host: DhcpHost | null): DhcpAnswer {
  const place = it.link.prefixes.some(prefix => prefix.mode === 'proxy') ? placeFor(it, host) : undefined
  if (place?.mode === 'proxy') return offerBeside(it, place, host)
  const home = host === null ? undefined : homePrefix(it, host)
  if (host !== null && home !== undefined) return toGrant(it, 'offer', home, host, 'reserved', host.address)
  const {remembered, found} = it.view
  const hasSeveral = it.link.prefixes.length > 1 && it.link.prefixes.filter(prefix => isOpen(it, prefix)).length > 1
  // Which of them it has an address in, if any, is the first to be known.
  if (hasSeveral && remembered === undefined && found === undefined) return {ask: 'lease'}
  const lease = remembered ?? (found === 'away' ? undefined : found)
  const open = openWindow(it, lease?.prefixId, readOption(it.packet.options, 'requested_address'))
  if (open === undefined)
    return {ignored: it.view.full !== undefined ? 'range_full' : host === null ? 'unknown_mac' : 'other_prefix'}
  const {offered} = it.view
  if (offered === undefined) return askOffer(it, open)
  if (offered === 'full') return {ignored: 'range_full'}
  if (offered !== 'away') return toGrant(it, 'offer', open, host, 'dynamic', offered)
  return onRemembered(it, 'offer', host)
}

/** The prefix that speaks for a client beside another server: a machine needs no address of ours there, a stranger needs a window. */
function placeFor(it: Case, host: DhcpHost | null): DhcpPrefix | undefined {
  if (host === null) return openWindow(it)
  return homePrefix(it, host) ?? openWindow(it) ?? it.link.prefixes.find(prefix => prefix.mode === 'proxy')
}

/** RFC 951: the client's address is the server's to know, and is its own until somebody changes the table. */
function bootp(it: Case, host: DhcpHost | null): DhcpAnswer {
  const home = host === null ? undefined : homePrefix(it, host)
  if (host === null || home === undefined || home.bootp !== 'static' || home.mode === 'proxy') return {ignored: 'bootp'}
  const server = serverAddressOn(home, it.link, it.arrival)
  if (server === undefined) return {ignored: 'no_server_address'}
  const boot = chooseBootpFile(home, host, it.snapshot, server)
  it.because('address', () => `${host.address}, by BOOTP and without a lease`, 'snapshot')
  tellScopes(it, home, host)
  const {client} = it
  const {machineId, address} = host
  return {bootp: {client, prefix: home, host, machineId, kind: 'reserved', address, server, lease_s: 0, boot}}
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
  const open = openWindow(it, requested)
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

/**
 * The prefix in which a stranger gets an address; of several on the link the one it has or asks for one in, and none that is full.
 * @param wished prefixes or addresses, the dearest first
 */
function openWindow(it: Case, ...wished: readonly (string | undefined)[]): DhcpPrefix | undefined {
  const {full = NONE} = it.view
  const candidates = it.link.prefixes.filter(prefix => isOpen(it, prefix) && !full.includes(prefix.id))
  const likes = (prefix: DhcpPrefix, wish: string | undefined) =>
    wish !== undefined && (prefix.id === wish || cidrContains(prefix.cidr, wish as Ipv4))
  const wish = candidates.length < 2 ? undefined : wished.find(one => candidates.some(prefix => likes(prefix, one)))
  const open = candidates.find(prefix => wish === undefined || likes(prefix, wish))
  const window = open?.window
  if (window) it.because('window', () => `window ${window.id} on ${open.cidr} is open until ${window.until.toISOString()}`)
  return open
}

const NONE: readonly string[] = []

function isOpen(it: Case, {window}: DhcpPrefix): boolean {
  return window !== null && window.until > it.now
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
  if (prefix.mode === 'proxy') return {ignored: 'proxied'}
  const server = serverAddressOn(prefix, it.link, it.arrival)
  if (server === undefined) return {ignored: 'no_server_address'}
  const boot = chooseBootFile(it.client, prefix, host, it.snapshot, server)
  it.because('address', () => `${address}, ${kind}`, kind === 'reserved' ? 'snapshot' : 'leases')
  it.because('boot file', () => describeBootFile(boot), 'architecture, loaders, boot_url')
  tellScopes(it, prefix, host)
  if (host !== null && uuidDiffers(host, it.client)) {
    it.because('uuid', () => `option 97 is not the recorded ${host.uuid}: is the MAC in another machine?`, 'option 97')
  }
  const lease_s = given.lease_s ?? prefix.lease_s
  const machineId = given.machineId ?? host?.machineId ?? null
  const grant: Grant = {client: it.client, prefix, host, machineId, kind, address, server, lease_s, boot}
  return act === 'offer' ? {offer: grant} : act === 'ack' ? {ack: grant} : {inform: grant}
}

/** Which scope each configured option comes from; nothing where none is configured. */
function tellScopes(it: Case, prefix: DhcpPrefix, host: DhcpHost | null): void {
  if (prefix.scopes === undefined && host?.scopes === undefined) return
  it.because('options', () => describeScopes(prefix, host), 'machine > profile > prefix > site')
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
