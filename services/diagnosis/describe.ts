/** A captured packet in one line, as people speak of it. Pure. */
import type {Ipv4} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'
import {NO_ADDRESS, readOption} from '../dhcpd/index.ts'
import type {DhcpMessage, HttpRequest, Message, TftpMessage} from './messages.ts'
import {fileOf, serverOf} from './story.ts'

export function describeMessage(message: Message): string {
  switch (message.kind) {
    case 'dhcp':
      return message.fromServer ? describeReply(message) : describeRequest(message)
    case 'tftp':
      return describeTftp(message)
    case 'http_request':
      return `${message.method} ${urlOf(message)}`
    case 'http_answer':
      return `HTTP ${message.status}`
    case 'connect':
      return `TCP SYN to ${message.connection.server}:${message.connection.port}`
    case 'connected':
      return `TCP accepted by ${message.connection.server}:${message.connection.port}`
    case 'reset':
      return `TCP reset by ${message.connection.server}:${message.connection.port}`
    case 'arp':
      return message.op === 'reply'
        ? `ARP: ${message.sender} is ${message.senderMac}`
        : describeArp(message.sender, message.target)
    case 'unreachable':
      return `ICMP from ${message.source}: unreachable (${message.what})`
    case 'ipv6':
      return IPV6[message.what]
  }
}

export function urlOf({host, server, target}: HttpRequest): string {
  return printable(/^https?:\/\//.test(target) ? target : `http://${host ?? server}${target}`, 300)
}

const IPV6 = {
  router_solicitation: 'ICMPv6 router solicitation',
  router_advertisement: 'ICMPv6 router advertisement',
  dhcpv6: 'DHCPv6',
  other: 'IPv6',
} as const

function describeRequest({type, packet, client}: DhcpMessage): string {
  const stage =
    client === null
      ? 'no Ethernet client'
      : `${STAGES[client.stage]}${client.architecture ? `, ${client.architecture.name}` : ''}`
  const requested = readOption(packet.options, 'requested_address')
  const server = readOption(packet.options, 'server_identifier')
  const parts = [
    stage,
    ...(packet.ciaddr === NO_ADDRESS ? [] : [`has ${packet.ciaddr}`]),
    ...(requested === undefined ? [] : [`asks for ${requested}`]),
    ...(server === undefined ? [] : [`of server ${server}`]),
    ...(packet.giaddr === NO_ADDRESS ? [] : [`through relay ${packet.giaddr}`]),
  ]
  return `${type ?? 'BOOTP request'}: ${parts.join(', ')}`
}

const STAGES = {rom: 'PXE firmware', http: 'UEFI HTTP boot', ipxe: 'iPXE', os: 'an operating system'} as const

function describeReply(message: DhcpMessage): string {
  const {type, packet} = message
  const file = fileOf(message)
  const server = serverOf(message)
  const text = readOption(packet.options, 'message')
  const parts = [
    ...(packet.yiaddr === NO_ADDRESS ? [] : [packet.yiaddr]),
    ...(server === undefined ? [] : [`by ${server}`]),
    ...(file === '' ? [] : [`file ${printable(file)}`]),
    ...(file === '' || packet.siaddr === NO_ADDRESS ? [] : [`at ${packet.siaddr}`]),
    ...(text === undefined ? [] : [printable(text)]),
  ]
  return `${type ?? 'BOOTP reply'} ${parts.join(', ')}`.trimEnd()
}

function describeTftp({packet, octets}: TftpMessage): string {
  switch (packet.kind) {
    case 'rrq':
    case 'wrq': {
      const options = packet.options.map(pair => printable(pair.join(' '), 64)).join(', ')
      return `TFTP ${packet.kind === 'rrq' ? 'read' : 'write'} '${printable(packet.name)}'${options === '' ? '' : `: ${options}`}`
    }
    case 'oack':
      return `TFTP OACK ${packet.options.map(pair => printable(pair.join(' '), 64)).join(', ')}`
    case 'data':
      return `TFTP DATA ${packet.block} (${octets - 4} bytes)`
    case 'ack':
      return `TFTP ACK ${packet.block}`
    case 'error':
      return `TFTP ERROR ${packet.code}: ${printable(packet.message)}`
  }
}

function describeArp(sender: Ipv4, target: Ipv4): string {
  if (sender === target) return `ARP: announces ${sender}`
  return sender === NO_ADDRESS ? `ARP: is ${target} in use?` : `ARP: who has ${target}?`
}
