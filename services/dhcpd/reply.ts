/**
 * The reply packet for a decision. Pure.
 *
 * Fields after RFC 2131 table 3. Options go out in order of need, so that a client with little room gets the important ones; lease and
 * boot options always, the rest as the client asked. Never 50, 55, 57. Option 82 is echoed whole; `encodePacket` puts it last.
 */
import type {BootFile} from './boot-file.ts'
import type {Client} from './client.ts'
import type {Grant, ProxyGrant, Refusal} from './decision.ts'
import {INFINITE_LEASE_S} from './leases.ts'
import {networkOptions, writeEntries} from './network-options.ts'
import {IPXE_NO_PROXY, MESSAGE_TYPES, type MessageType, OPTIONS, writeOption} from './options.ts'
import {BOOTREPLY, BROADCAST_FLAG, fitsFile, NO_ADDRESS, type Packet} from './packet.ts'
import {decodePxeVendor, encodePxeVendor, USE_THIS_BOOT_FILE} from './pxe-vendor.ts'

type Writer = Map<number, Uint8Array>

/** @param type `INFORM` is answered with an ACK without an address or lease (RFC 2131 §4.3.5) */
export function buildReply(request: Packet, type: 'OFFER' | 'ACK' | 'INFORM', grant: Grant): Packet {
  const {boot} = grant
  const options = startOptions(type === 'OFFER' ? 'OFFER' : 'ACK', grant.server)
  if (type !== 'INFORM') writeLease(options, grant.lease_s)
  writeSettings(options, grant, request)
  echo(options, request)
  return {
    ...blankReply(request, options),
    ciaddr: type === 'OFFER' ? NO_ADDRESS : request.ciaddr,
    yiaddr: type === 'INFORM' ? NO_ADDRESS : grant.address,
    ...bootFields(boot),
  }
}

/** RFC 951 and 1542: an address for good, and no option that only DHCP knows. */
export function buildBootpReply(request: Packet, grant: Grant): Packet {
  const options: Writer = new Map()
  writeSettings(options, grant, request, true)
  const relay = request.options.get(OPTIONS.relay_agent_information.code)
  if (relay !== undefined) options.set(OPTIONS.relay_agent_information.code, relay)
  return {...blankReply(request, options), ciaddr: request.ciaddr, yiaddr: grant.address, ...bootFields(grant.boot)}
}

/**
 * Beside another server (PXE 2.1 §2.2): no address, no lease; option 60 says whose answer it is, 43.6 that the boot file is here. A
 * client that chose an item of a menu (43.71) gets its choice back.
 */
export function buildProxyReply(request: Packet, {type, client, server, boot}: ProxyGrant): Packet {
  const options = startOptions(type, server)
  writeBoot(options, boot, client, request)
  if (client.stage === 'http') writeOption(options, 'vendor_class', 'HTTPClient')
  else {
    writeOption(options, 'vendor_class', 'PXEClient')
    const asked = decodePxeVendor(request.options.get(OPTIONS.vendor_specific.code) ?? new Uint8Array())
    const item = asked?.item === undefined ? {} : {item: asked.item}
    options.set(OPTIONS.vendor_specific.code, encodePxeVendor({discoveryControl: USE_THIS_BOOT_FILE, ...item}))
    copyPxeOptions(options, request)
  }
  echo(options, request)
  return {...blankReply(request, options), ciaddr: type === 'ACK' ? request.ciaddr : NO_ADDRESS, ...bootFields(boot)}
}

function writeSettings(options: Writer, {boot, prefix, host, client}: Grant, request: Packet, all = false): void {
  const network = networkOptions(prefix, host, client)
  writeEntries(options, network.core, client, all)
  writeBoot(options, boot, client, request)
  const isNamed = host !== null && !network.namesHost
  if (!isNamed && network.hostName !== undefined) writeEntries(options, [network.hostName], client, all)
  if (isNamed && (all || client.asked.includes(OPTIONS.host_name.code))) writeOption(options, 'host_name', host.hostname)
  writeEntries(options, network.rest, client, all)
}

function bootFields(boot: BootFile): Pick<Packet, 'siaddr' | 'file'> {
  if (boot.by === 'none') return {siaddr: NO_ADDRESS, file: ''}
  return {siaddr: boot.nextServer, file: fitsFile(boot.file) ? boot.file : ''}
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
