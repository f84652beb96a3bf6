/**
 * The reply packet for a decision. Pure.
 *
 * Fields after RFC 2131 table 3. Options go out in order of need, so that a client with little room gets the important ones; lease and
 * boot options always, the rest as the client asked. Never 50, 55, 57. Option 82 is echoed whole; `encodePacket` puts it last.
 */
import {broadcastAddress, netmask, parseCidr} from '../../lib/addresses.ts'
import type {BootFile} from './boot-file.ts'
import type {Client} from './client.ts'
import type {Grant, Refusal} from './decision.ts'
import {INFINITE_LEASE_S} from './leases.ts'
import {IPXE_NO_PROXY, MESSAGE_TYPES, type MessageType, OPTIONS, type Route, writeOption} from './options.ts'
import {BOOTREPLY, BROADCAST_FLAG, fitsFile, NO_ADDRESS, type Packet} from './packet.ts'
import type {DhcpPrefix} from './snapshot.ts'

type Writer = Map<number, Uint8Array>

/** @param type `INFORM` is answered with an ACK without an address or lease (RFC 2131 §4.3.5) */
export function buildReply(request: Packet, type: 'OFFER' | 'ACK' | 'INFORM', grant: Grant): Packet {
  const {boot, prefix, client} = grant
  const options = startOptions(type === 'OFFER' ? 'OFFER' : 'ACK', grant.server)
  if (type !== 'INFORM') writeLease(options, grant.lease_s)
  writeNetwork(options, prefix, client)
  writeBoot(options, boot, client, request)
  if (client.asked.includes(OPTIONS.host_name.code) && grant.host !== null) writeOption(options, 'host_name', grant.host.hostname)
  echo(options, request)
  return {
    ...blankReply(request, options),
    ciaddr: type === 'OFFER' ? NO_ADDRESS : request.ciaddr,
    yiaddr: type === 'INFORM' ? NO_ADDRESS : grant.address,
    siaddr: boot.by === 'none' ? NO_ADDRESS : boot.nextServer,
    file: boot.by !== 'none' && fitsFile(boot.file) ? boot.file : '',
  }
}

/** RFC 2131 §4.3.2: relayed, it carries the broadcast bit, for the client has no address the relay could use. */
export function buildNak(request: Packet, refusal: Refusal): Packet {
  const options = startOptions('NAK', refusal.server)
  writeOption(options, 'message', refusal.message)
  echo(options, request)
  const reply = blankReply(request, options)
  return request.giaddr === NO_ADDRESS ? reply : {...reply, flags: reply.flags | BROADCAST_FLAG}
}

function blankReply(request: Packet, options: Writer): Packet {
  return {
    op: BOOTREPLY,
    htype: request.htype,
    hlen: request.hlen,
    hops: 0,
    xid: request.xid,
    secs: 0,
    flags: request.flags,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: request.giaddr,
    chaddr: request.chaddr,
    sname: '',
    file: '',
    options,
  }
}

function startOptions(type: MessageType, server: Grant['server']): Writer {
  const options: Writer = new Map()
  writeOption(options, 'message_type', MESSAGE_TYPES.indexOf(type))
  writeOption(options, 'server_identifier', server)
  return options
}

/** T1 and T2 at the usual half and seven eighths (RFC 2131 §4.4.5); a lease without an end has neither. */
function writeLease(options: Writer, lease_s: number): void {
  writeOption(options, 'lease_time', lease_s)
  if (lease_s === INFINITE_LEASE_S) return
  writeOption(options, 'renewal_time', Math.floor(lease_s / 2))
  writeOption(options, 'rebinding_time', Math.floor((lease_s * 7) / 8))
}

/** What a prefix says about its network, encoded once: all clients get `always`, each gets what it asks for of `asked`. */
type NetworkOptions = {
  readonly always: readonly (readonly [number, Uint8Array])[]
  readonly asked: readonly (readonly [number, Uint8Array])[]
}

const encodedNetworks = new WeakMap<DhcpPrefix, {readonly plain: NetworkOptions; readonly routed: NetworkOptions}>()

function writeNetwork(options: Writer, prefix: DhcpPrefix, client: Client): void {
  let encoded = encodedNetworks.get(prefix)
  if (encoded === undefined) {
    encoded = {plain: encodeNetwork(prefix, false), routed: encodeNetwork(prefix, true)}
    encodedNetworks.set(prefix, encoded)
  }
  const {always, asked} = client.asked.includes(OPTIONS.classless_routes.code) ? encoded.routed : encoded.plain
  for (const [code, value] of always) options.set(code, value)
  for (const [code, value] of asked) if (client.asked.includes(code)) options.set(code, value)
}

/** @param asksRoutes RFC 3442: a client that reads 121 ignores 3, so 121 repeats the default route and 3 stays home */
function encodeNetwork(prefix: DhcpPrefix, asksRoutes: boolean): NetworkOptions {
  const {gateway, dns, routes = [], domain, mtu, ntp = []} = prefix
  const always: Writer = new Map()
  writeOption(always, 'subnet_mask', netmask(prefix.cidr))
  if (asksRoutes && routes.length > 0) writeOption(always, 'classless_routes', withDefault(routes, gateway))
  else if (gateway !== null) writeOption(always, 'routers', [gateway])
  if (dns.length > 0) writeOption(always, 'dns_servers', dns)
  writeOption(always, 'broadcast_address', broadcastAddress(prefix.cidr))
  const asked: Writer = new Map()
  if (domain !== undefined) writeOption(asked, 'domain_name', domain)
  if (mtu !== undefined) writeOption(asked, 'interface_mtu', mtu)
  if (ntp.length > 0) writeOption(asked, 'ntp_servers', ntp)
  return {always: [...always], asked: [...asked]}
}

function withDefault(routes: readonly Route[], gateway: DhcpPrefix['gateway']): readonly Route[] {
  const everywhere = parseCidr('0.0.0.0/0')
  if (gateway === null || everywhere === undefined) return routes
  if (routes.some(route => route.destination === everywhere)) return routes
  return [{destination: everywhere, via: gateway}, ...routes]
}

/**
 * `file` and 66/67 agree. Option 60 goes only to HTTP clients, who demand it back; a PXE ROM that saw `PXEClient` in an offer would look
 * for a boot server on port 4011 instead of taking the file.
 */
function writeBoot(options: Writer, boot: BootFile, client: Client, request: Packet): void {
  if (boot.by === 'none') return
  if (boot.by === 'http') writeOption(options, 'vendor_class', 'HTTPClient')
  if (boot.by === 'script') writeOption(options, 'ipxe', new Map([[IPXE_NO_PROXY, Uint8Array.of(1)]]))
  if (boot.by === 'http' || !fitsFile(boot.file) || client.asked.includes(OPTIONS.boot_file_name.code)) {
    writeOption(options, 'boot_file_name', boot.file)
  }
  if (boot.by !== 'tftp') return
  if (client.asked.includes(OPTIONS.tftp_server_addresses.code)) writeOption(options, 'tftp_server_addresses', [boot.nextServer])
  if (client.asked.includes(OPTIONS.tftp_server_name.code)) writeOption(options, 'tftp_server_name', boot.nextServer)
  copyPxeOptions(options, request)
}

/** RFC 4578 §2: 93, 94 and 97 belong in the server's packets too; only well-formed ones go back. */
function copyPxeOptions(options: Writer, request: Packet): void {
  const lengths = [
    [OPTIONS.client_architecture.code, (length: number) => length > 0 && length % 2 === 0],
    [OPTIONS.client_network_interface.code, (length: number) => length === 3],
    [OPTIONS.client_machine_identifier.code, (length: number) => length === 17],
  ] as const
  for (const [code, isRight] of lengths) {
    const value = request.options.get(code)
    if (value !== undefined && isRight(value.length)) options.set(code, value)
  }
}

/** RFC 6842 §3: the client identifier comes back if it was sent. RFC 3046 §2.2: so does option 82. */
function echo(options: Writer, request: Packet): void {
  for (const code of [OPTIONS.client_identifier.code, OPTIONS.relay_agent_information.code]) {
    const value = request.options.get(code)
    if (value !== undefined) options.set(code, value)
  }
}
