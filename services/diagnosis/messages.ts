/**
 * Frames as a conversation: which are DHCP, TFTP or HTTP, which transfer or connection they belong to, and which machine they are about.
 * Pure. A capture holds what passed one wire, so replies may be missing: an address is also known from the REQUEST that asks for it.
 */
import {type Ipv4, type Mac, parseMac} from '../../lib/addresses.ts'
import {
  type DhcpClient,
  type DhcpPacket,
  decodePacket,
  identifyClient,
  MESSAGE_TYPES,
  type MessageType,
  NO_ADDRESS,
  readOption,
} from '../dhcpd/index.ts'
import {decodeTftpPacket, type TftpPacket, type TftpRequest} from '../tftpd/index.ts'
import type {Datagram, Seen} from './frame.ts'

export type Head = Pick<Seen, 'number' | 'at_us' | 'from' | 'to' | 'vlan'> & {
  /** The machine it is about; null where that cannot be told. */
  readonly mac: Mac | null
}

export type DhcpMessage = Head & {
  readonly kind: 'dhcp'
  readonly packet: DhcpPacket
  readonly type: MessageType | null
  readonly fromServer: boolean
  /** Who asks; null in replies and where it is no Ethernet client. */
  readonly client: DhcpClient | null
  readonly source: Ipv4
  readonly destination: Ipv4
  readonly port: number
  /** UDP payload. */
  readonly octets: number
  readonly fragmented: boolean
}

export type TftpMessage = Head & {
  readonly kind: 'tftp'
  readonly packet: TftpPacket
  readonly transfer: Transfer
  readonly fromServer: boolean
  /** UDP payload. */
  readonly octets: number
}

export type HttpRequest = Head & {
  readonly kind: 'http_request'
  readonly method: string
  readonly target: string
  readonly host: string | null
  readonly client: Ipv4
  readonly server: Ipv4
}

export type HttpAnswer = Head & {readonly kind: 'http_answer'; readonly status: number; readonly to_request: HttpRequest | null}

export type Message =
  | DhcpMessage
  | TftpMessage
  | HttpRequest
  | HttpAnswer
  | (Head & {readonly kind: 'connect' | 'connected' | 'reset'; readonly connection: Connection})
  | (Head & Extract<Seen, {kind: 'arp' | 'unreachable' | 'ipv6'}>)

/** One read request and what came of it; filled while the capture is walked. */
export type Transfer = {
  readonly request: TftpRequest
  readonly client: Ipv4
  readonly server: Ipv4
  readonly mac: Mac | null
  /** Packets: every RRQ, for it may be repeated. */
  readonly requests: number[]
  oack: boolean
  blockBytes: number
  /** The blocks sent since the client last acknowledged one, each with its packets. */
  readonly waiting: Map<number, number[]>
  /** Bytes in the newest block; null before the first. */
  octets: number | null
  /** The newest block the client acknowledged. */
  acknowledged: number | null
  error: {readonly code: number; readonly message: string; readonly fromServer: boolean; readonly number: number} | null
  fragmented: boolean
}

export type Connection = {
  readonly client: Ipv4
  readonly server: Ipv4
  readonly port: number
  readonly syns: number[]
  answered: boolean
  reset: boolean
}

export type Conversation = {
  readonly messages: readonly Message[]
  readonly transfers: readonly Transfer[]
  readonly connections: readonly Connection[]
  /** Frames that are none of these, by what they are. */
  readonly others: ReadonlyMap<string, number>
}

const DHCP_PORTS = [67, 68, 4011]
const TFTP_PORT = 69
const DEFAULT_BLOCK_BYTES = 512
const DATA_HEAD_OCTETS = 4

export function readConversation(frames: readonly Seen[]): Conversation {
  const messages: Message[] = []
  const transfers: Transfer[] = []
  const others = new Map<string, number>()
  const owners = new Map<Ipv4, Mac>()
  const open = new Map<string, Transfer>()
  const connections = new Map<string, Connection>()
  const asked = new Map<string, HttpRequest>()

  const ownerOf = (address: Ipv4, link: string | null): Mac | null =>
    owners.get(address) ?? (link === null ? null : (parseMac(link) ?? null))
  const other = (what: string) => void others.set(what, (others.get(what) ?? 0) + 1)

  function addDhcp(head: Omit<Head, 'mac'>, it: Datagram): boolean {
    const packet = decodePacket(it.payload)
    if ('ignored' in packet) return false
    const fromServer = packet.op === 2
    const identified = identifyClient(packet)
    const client = 'ignored' in identified ? null : identified
    const mac = client?.mac ?? null
    const type = MESSAGE_TYPES[readOption(packet.options, 'message_type') ?? 0] || null
    if (mac !== null) for (const address of addressesOf(packet, fromServer)) owners.set(address, mac)
    const {source, destination, destinationPort: port, fragmented} = it
    messages.push({
      ...head,
      kind: 'dhcp',
      mac,
      packet,
      type,
      fromServer,
      client: fromServer ? null : client,
      source,
      destination,
      port,
      octets: it.octets,
      fragmented,
    })
    return true
  }

  function addTftp(head: Omit<Head, 'mac'>, it: Datagram): boolean {
    const toClient = open.get(`${it.destination}:${it.destinationPort}`)
    const fromClient = open.get(`${it.source}:${it.sourcePort}`)
    if (it.destinationPort !== TFTP_PORT && !toClient && !fromClient) return false
    const packet = decodeTftpPacket(it.payload)
    if ('ignored' in packet) return false
    let transfer = fromClient ?? toClient
    if (packet.kind === 'rrq' || packet.kind === 'wrq') {
      if (it.destinationPort !== TFTP_PORT) return false
      const again = fromClient && fromClient.request.name === packet.name && fromClient.octets === null && !fromClient.oack
      if (!again || !fromClient) {
        transfer = startTransfer(packet, it, ownerOf(it.source, head.from))
        open.set(`${it.source}:${it.sourcePort}`, transfer)
        transfers.push(transfer)
      }
    }
    if (transfer === undefined) return false
    const fromServer = transfer !== fromClient && packet.kind !== 'rrq' && packet.kind !== 'wrq'
    advance(transfer, packet, head.number, fromServer, it)
    messages.push({...head, kind: 'tftp', mac: transfer.mac, packet, transfer, fromServer, octets: it.octets})
    return true
  }

  function addTcp(head: Omit<Head, 'mac'>, it: Extract<Seen, {kind: 'tcp'}>): boolean {
    const forth = `${it.source}:${it.sourcePort} ${it.destination}:${it.destinationPort}`
    const back = `${it.destination}:${it.destinationPort} ${it.source}:${it.sourcePort}`
    if (it.syn && !it.ack) {
      const known = connections.get(forth)
      const connection = known ?? {
        client: it.source,
        server: it.destination,
        port: it.destinationPort,
        syns: [],
        answered: false,
        reset: false,
      }
      connection.syns.push(head.number)
      connections.set(forth, connection)
      messages.push({...head, kind: 'connect', mac: ownerOf(it.source, head.from), connection})
      return true
    }
    const answered = connections.get(back)
    if (answered && (it.rst || (it.syn && it.ack))) {
      if (it.rst) answered.reset = answered.reset || !answered.answered
      else answered.answered = true
      messages.push({...head, kind: it.rst ? 'reset' : 'connected', mac: ownerOf(it.destination, head.to), connection: answered})
      return true
    }
    const request = readRequestLine(it.payload)
    if (request) {
      const mac = ownerOf(it.source, head.from)
      const message: HttpRequest = {...head, kind: 'http_request', mac, ...request, client: it.source, server: it.destination}
      asked.set(forth, message)
      messages.push(message)
      return true
    }
    const status = readStatusLine(it.payload)
    if (status === undefined) return false
    messages.push({
      ...head,
      kind: 'http_answer',
      mac: ownerOf(it.destination, head.to),
      status,
      to_request: asked.get(back) ?? null,
    })
    return true
  }

  for (const seen of frames) {
    const {number, at_us, from, to, vlan} = seen
    const head = {number, at_us, from, to, vlan}
    if (seen.kind === 'udp') {
      const isDhcp = DHCP_PORTS.includes(seen.destinationPort) || DHCP_PORTS.includes(seen.sourcePort)
      if (isDhcp && seen.cut && !seen.fragmented) other('DHCP that was cut when it was captured')
      else if (!(isDhcp && addDhcp(head, seen)) && !addTftp(head, seen)) other('UDP')
    } else if (seen.kind === 'tcp') {
      if (!addTcp(head, seen)) other('TCP')
    } else if (seen.kind === 'arp') {
      const mac = parseMac(seen.senderMac) ?? null
      if (mac !== null && seen.sender !== NO_ADDRESS && !owners.has(seen.sender)) owners.set(seen.sender, mac)
      messages.push({...seen, mac})
    } else if (seen.kind === 'ipv6') {
      if (seen.what === 'other') other('IPv6')
      else messages.push({...seen, mac: ownOrNull(seen.what === 'router_advertisement' ? null : from)})
    } else if (seen.kind === 'unreachable') messages.push({...seen, mac: ownerOf(seen.destination, to)})
    else other(seen.kind === 'fragment' ? 'IP fragments' : seen.what)
  }
  return {messages, transfers, connections: [...connections.values()], others}
}

function ownOrNull(link: string | null): Mac | null {
  return link === null ? null : (parseMac(link) ?? null)
}

function addressesOf(packet: DhcpPacket, fromServer: boolean): readonly Ipv4[] {
  const requested = fromServer ? packet.yiaddr : readOption(packet.options, 'requested_address')
  return [packet.ciaddr, requested].flatMap(address => (address === undefined || address === NO_ADDRESS ? [] : [address]))
}

function startTransfer(request: TftpRequest, it: Datagram, mac: Mac | null): Transfer {
  return {
    request,
    client: it.source,
    server: it.destination,
    mac,
    requests: [],
    oack: false,
    blockBytes: DEFAULT_BLOCK_BYTES,
    waiting: new Map(),
    octets: null,
    acknowledged: null,
    error: null,
    fragmented: false,
  }
}

function advance(transfer: Transfer, packet: TftpPacket, number: number, fromServer: boolean, it: Datagram): void {
  if (packet.kind === 'rrq' || packet.kind === 'wrq') transfer.requests.push(number)
  else if (packet.kind === 'oack') {
    transfer.oack = true
    const size = packet.options.find(([name]) => name.toLowerCase() === 'blksize')?.[1]
    if (size !== undefined && Number(size) > 0) transfer.blockBytes = Number(size)
  } else if (packet.kind === 'ack' && !fromServer) {
    transfer.acknowledged = packet.block
    transfer.waiting.clear()
  } else if (packet.kind === 'error') {
    transfer.error = {code: packet.code, message: packet.message, fromServer, number}
  } else if (packet.kind === 'data') {
    transfer.fragmented ||= it.fragmented
    transfer.octets = it.octets - DATA_HEAD_OCTETS
    const sent = transfer.waiting.get(packet.block)
    if (sent === undefined) transfer.waiting.set(packet.block, [number])
    else sent.push(number)
  }
}

const METHODS = /^(GET|HEAD|POST|PUT) (\S{1,2048}) HTTP\/1\.[01]\r?\n/

function readRequestLine(payload: Uint8Array): {method: string; target: string; host: string | null} | undefined {
  if (payload.length < 14) return undefined
  const text = latin1(payload.subarray(0, 4096))
  const line = METHODS.exec(text)
  if (!line) return undefined
  const host = /\r?\nhost:[ \t]*([^\r\n]{1,255})/i.exec(text)?.[1] ?? null
  return {method: line[1] ?? '', target: line[2] ?? '', host}
}

function readStatusLine(payload: Uint8Array): number | undefined {
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(latin1(payload.subarray(0, 16)))?.[1]
  return status === undefined ? undefined : Number(status)
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
