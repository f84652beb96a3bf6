/**
 * Chooses how a reply travels. Pure.
 *
 * Order (RFC 2131 §4.1): giaddr:67; else, for a NAK, broadcast; else ciaddr:68; else the broadcast bit; else the link address. A client
 * without an address answers no ARP, so a plain unicast to yiaddr would vanish without an error.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {MESSAGE_TYPES, readOption} from './options.ts'
import {BROADCAST_FLAG, NO_ADDRESS, type Packet} from './packet.ts'

export type Endpoint = {readonly address: Ipv4; readonly port: number}
export type Destination =
  | {readonly via: 'relay' | 'unicast' | 'broadcast'; readonly to: Endpoint}
  /** To a client that has no address yet, by its MAC. Sent as broadcast, which §4.1 allows, where no link-level socket is at hand. */
  | {readonly via: 'link'; readonly mac: Mac; readonly to: Endpoint}

export const SERVER_PORT = 67
export const CLIENT_PORT = 68
/** Where PXE clients ask a proxyDHCP server (PXE 2.1 §2.2). */
export const PROXY_PORT = 4011
const BROADCAST: Endpoint = {address: '255.255.255.255' as Ipv4, port: CLIENT_PORT}
const NAK = MESSAGE_TYPES.indexOf('NAK')

/**
 * Port 4011 is answered by unicast, to the port that asked (PXE 2.1 §2.2.5). The client has its address from the other server by then,
 * so it answers ARP.
 */
export function proxyDestination(request: Packet, from: Endpoint): Destination {
  return {via: 'unicast', to: {address: request.ciaddr === NO_ADDRESS ? from.address : request.ciaddr, port: from.port}}
}

/**
 * @param request decoded client packet
 * @param reply   packet to send, yiaddr set
 * @param mac     the client's
 * @returns how and where; never throws
 */
export function replyDestination(request: Packet, reply: Packet, mac: Mac): Destination {
  if (request.giaddr !== NO_ADDRESS) return {via: 'relay', to: {address: request.giaddr, port: SERVER_PORT}}
  if (readOption(reply.options, 'message_type') === NAK) return {via: 'broadcast', to: BROADCAST}
  if (request.ciaddr !== NO_ADDRESS) return {via: 'unicast', to: {address: request.ciaddr, port: CLIENT_PORT}}
  if ((request.flags & BROADCAST_FLAG) !== 0 || reply.yiaddr === NO_ADDRESS) return {via: 'broadcast', to: BROADCAST}
  return {via: 'link', mac, to: {address: reply.yiaddr, port: CLIENT_PORT}}
}
