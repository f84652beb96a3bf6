/** What one machine did, in order: its exchanges with DHCP servers, its transfers, its requests. Pure. */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {type DhcpClient, type DhcpStage, type ExplainedPacket, readOption} from '../dhcpd/index.ts'
import type {Connection, Conversation, DhcpMessage, HttpAnswer, HttpRequest, Message, Transfer} from './messages.ts'

export type Arp = Extract<Message, {kind: 'arp'}>

/** One walk from DISCOVER (or a REQUEST out of nowhere) to ACK, as far as the capture shows it. */
export type Exchange = {
  readonly client: DhcpClient
  readonly stage: DhcpStage
  /** Number of its first packet. */
  readonly began: number
  readonly discovers: DhcpMessage[]
  readonly offers: DhcpMessage[]
  readonly requests: DhcpMessage[]
  readonly acks: DhcpMessage[]
  readonly naks: DhcpMessage[]
}

export type Story = {
  readonly mac: Mac
  readonly messages: readonly Message[]
  readonly exchanges: readonly Exchange[]
  readonly declines: readonly DhcpMessage[]
  readonly transfers: readonly Transfer[]
  readonly connections: readonly Connection[]
  readonly requests: readonly HttpRequest[]
  readonly answers: readonly HttpAnswer[]
  /** What Ingot would have answered to a packet of this machine. */
  readonly ingot: (number: number) => ExplainedPacket | undefined
  /** Whoever says by ARP that an address is its own. */
  readonly arpsOf: (address: Ipv4) => readonly Arp[]
  /** A router advertised itself to anybody. */
  readonly advertised: boolean
  /** When the capture ends, whoever spoke last. */
  readonly ends_us: number
}

export function tellStories(
  conversation: Conversation,
  ingot: ReadonlyMap<number, ExplainedPacket>,
  ends_us: number,
): readonly Story[] {
  const byMac = Map.groupBy(
    conversation.messages.filter(message => message.mac !== null),
    message => message.mac,
  )
  const transfers = Map.groupBy(conversation.transfers, transfer => transfer.mac)
  const connections = Map.groupBy(conversation.connections, connection => connection.client)
  const arps = Map.groupBy(
    conversation.messages.filter(message => message.kind === 'arp'),
    arp => arp.sender,
  )
  const advertised = conversation.messages.some(it => it.kind === 'ipv6' && it.what === 'router_advertisement')
  return [...byMac].flatMap(([mac, all]): Story[] => {
    if (mac === null || !all.some(isOfMachine)) return []
    const messages = all.slice(0, MESSAGES_AT_MOST)
    const last = messages.at(-1)?.number ?? 0
    const dhcp = messages.filter(message => message.kind === 'dhcp')
    return [
      {
        mac,
        messages,
        exchanges: findExchanges(dhcp),
        declines: dhcp.filter(message => message.type === 'DECLINE'),
        transfers: (transfers.get(mac) ?? []).filter(({requests: [first = 0]}) => first <= last),
        connections: [...new Set(messages.flatMap(clientAddress))].flatMap(address => connections.get(address) ?? []),
        requests: messages.filter(message => message.kind === 'http_request'),
        answers: messages.filter(message => message.kind === 'http_answer'),
        ingot: number => ingot.get(number),
        arpsOf: address => arps.get(address) ?? [],
        advertised,
        ends_us,
      },
    ]
  })
}

/** The finders compare a machine's packets with each other: more than a whole install sends are not looked at. */
export const MESSAGES_AT_MOST = 1_000

/** A server or a router also sends ARP and replies; only who asks for an address or a file is a machine to tell of. */
function isOfMachine(message: Message): boolean {
  if (message.kind === 'dhcp') return true
  if (message.kind === 'ipv6') return message.what === 'dhcpv6'
  return message.kind === 'tftp' || message.kind === 'http_request'
}

function clientAddress(message: Message): readonly Ipv4[] {
  if (message.kind === 'http_request') return [message.client]
  if (message.kind === 'tftp') return [message.transfer.client]
  if (message.kind === 'connect') return [message.connection.client]
  return []
}

/**
 * A DISCOVER joins the exchange that is still looking for offers, else begins another: `xid` alone does not tell, for some firmware uses
 * one for ever. An ACK or NAK ends the exchange.
 */
function findExchanges(messages: readonly DhcpMessage[]): readonly Exchange[] {
  const exchanges: Exchange[] = []
  let current: Exchange | undefined
  const begin = (message: DhcpMessage): Exchange | undefined => {
    if (message.client === null) return undefined
    const {client, number} = message
    const started = {client, stage: client.stage, began: number, discovers: [], offers: [], requests: [], acks: [], naks: []}
    exchanges.push(started)
    return started
  }
  for (const message of messages) {
    const {type} = message
    if (type === 'DISCOVER') {
      const goesOn = current && current.requests.length === 0 && current.stage === message.client?.stage
      if (!goesOn) current = begin(message)
      current?.discovers.push(message)
    } else if (type === 'REQUEST') {
      if (!current || current.stage !== message.client?.stage) current = begin(message)
      current?.requests.push(message)
    } else if (type === 'OFFER') current?.offers.push(message)
    else if (type === 'ACK' || type === 'NAK') {
      const ended = current ?? exchanges.at(-1)
      if (type === 'ACK') ended?.acks.push(message)
      else ended?.naks.push(message)
      current = undefined
    }
  }
  return exchanges
}

/** The file a reply names: the field, else option 67. */
export function fileOf({packet}: DhcpMessage): string {
  return packet.file || readOption(packet.options, 'boot_file_name') || ''
}

export function serverOf({packet}: DhcpMessage): Ipv4 | undefined {
  return readOption(packet.options, 'server_identifier')
}

export function numbersOf(messages: readonly {readonly number: number}[]): readonly number[] {
  return messages.map(({number}) => number)
}
