/**
 * A TFTP server on one socket: reads only, names only through the manifest it is given, one socket (and so one random transfer id) for
 * each transfer. Nothing a packet holds throws out of here; whatever is not served is counted by its reason.
 *
 * A socket bound to a unicast address never sees broadcast requests (RFC 1123 §4.2.3.5 wants them dropped), so bind it to one; a socket
 * bound to 0.0.0.0 cannot tell them apart.
 */
import type {RemoteInfo, Socket} from 'node:dgram'
import {printable} from '../../lib/bytes.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import {type ChunkMemory, createChunkMemory, type TftpFile} from './chunks.ts'
import {createHalfOpen} from './half-open.ts'
import {DEFAULT_TFTP_LIMITS, type TftpLimits} from './limits.ts'
import {createLogBudget} from './log-budget.ts'
import {negotiateOptions} from './options.ts'
import {decodePacket, encodeError, TFTP_ERROR, type TftpPacket, type TftpRequest, type UndecodableReason} from './packet.ts'
import {decideRead} from './read.ts'
import {type Client, createSession, type Session, type SessionEnd, type TransferReport} from './session.ts'
import {bindSocket, channelOf, createUdpSocket, isWildcard, type TftpSocket} from './sockets.ts'
import {beginTransfer} from './transfer.ts'

/** Everything that can become of a packet or a transfer, each counted. */
export type TftpCounter =
  | UndecodableReason
  | SessionEnd
  | 'requests'
  | 'duplicate_request'
  | 'missing'
  | 'write_refused'
  | 'mode_refused'
  | 'unknown_transfer'
  | 'unexpected_packet'
  | 'busy'
  | 'fault'

export type TftpServerOptions = {
  readonly socket: TftpSocket
  /** The manifest: a name without leading slashes to immutable bytes. It answers at once. */
  readonly files: (name: string) => TftpFile | undefined
  readonly log: Log
  readonly clock: Clock
  readonly limits?: Partial<TftpLimits>
  /** For clients behind NAT: every reply comes from the server's own port, and the client's address and port tell transfers apart. */
  readonly singlePort?: boolean
  /** Shared between the servers of one process, so that they hold a file once. */
  readonly chunks?: ChunkMemory
  /** Called once for each transfer that ended. */
  readonly observe?: (report: TransferReport) => void
}

export type TftpServer = {
  readonly address: Client
  counters(): Readonly<Partial<Record<TftpCounter, number>>>
  active(): {readonly transfers: number; readonly halfOpen: number}
  close(): Promise<void>
}

export async function createTftpServer(options: TftpServerOptions): Promise<TftpServer> {
  const {log, clock, singlePort = false} = options
  const limits: TftpLimits = {...DEFAULT_TFTP_LIMITS, ...options.limits}
  const chunks = options.chunks ?? createChunkMemory(limits)
  const counters: Partial<Record<TftpCounter, number>> = {}
  const sessions = new Set<Session>()
  /** The newest session of each client endpoint, with the request that made it. */
  const byEndpoint = new Map<string, {readonly session: Session; readonly request: Buffer}>()
  const halfOpen = createHalfOpen<Session>(limits)
  const say = createLogBudget(log, clock, limits.logLinesPerS)

  const main = await bindSocket(options.socket)
  enlargeReceiveBuffer(main, log)
  const bound = main.address()
  const localAddress = options.socket.localAddress ?? bound.address
  if (isWildcard(localAddress)) log.warn('tftp: bound to every address, so the kernel chooses where replies come from')
  // Refusals come from a port of their own too, never from 69 (RFC 1350 §4).
  const refusals = singlePort ? main : await bindSocket({address: localAddress, port: 0})
  main.on('message', (bytes, from) => guard(() => receive(bytes, from)))
  const sockets = [...new Set([main, refusals])]
  for (const socket of sockets) socket.on('error', error => log.error({err: error}, 'tftp: socket error'))

  function count(name: TftpCounter): void {
    counters[name] = (counters[name] ?? 0) + 1
  }

  function guard(work: () => TftpCounter | undefined): void {
    try {
      const counted = work()
      if (counted) count(counted)
    } catch (error) {
      count('fault')
      say('error', {err: error}, 'tftp: fault while handling a packet')
    }
  }

  function receive(bytes: Buffer, from: RemoteInfo): TftpCounter | undefined {
    if (from.port === 0) return 'unexpected_packet'
    const packet = decodePacket(bytes)
    if ('ignored' in packet) return packet.ignored
    if (packet.kind === 'rrq') return receiveRead(packet, bytes, from)
    if (packet.kind === 'wrq') return refuse(from, 'write_refused', TFTP_ERROR.accessViolation, 'this server only sends files')
    if (!singlePort) return 'unexpected_packet'
    const session = byEndpoint.get(endpointOf(from))?.session
    if (!session) return receiveStranger(packet, from, main)
    session.receive(packet)
    return undefined
  }

  function receiveRead(request: TftpRequest, bytes: Buffer, from: RemoteInfo): TftpCounter {
    const earlier = byEndpoint.get(endpointOf(from))
    if (earlier && !earlier.session.answered() && earlier.request.equals(bytes)) return 'duplicate_request'
    const read = decideRead(request, options.files)
    if ('refused' in read) {
      if (read.refused === 'missing') say('info', {file: printable(read.name), client: from.address}, 'tftp: no such file')
      return refuse(from, read.refused, read.code, read.message)
    }
    const {name, file} = read
    if (sessions.size >= limits.transfers) return 'busy'
    // Behind NAT an endpoint is all there is to tell transfers by, so a new request replaces the old one.
    if (singlePort) earlier?.session.end('evicted')
    open(name, file, request, bytes, {address: from.address, port: from.port})
    return 'requests'
  }

  function open(name: string, file: TftpFile, request: TftpRequest, bytes: Buffer, client: Client): void {
    const endpoint = endpointOf(client)
    const socket = singlePort ? main : createUdpSocket(localAddress)
    const session: Session = createSession({
      client,
      name,
      file,
      chunks,
      clock,
      channel: channelOf(socket, !singlePort),
      onAnswered: () => halfOpen.remove(client.address, session),
      onEnd(report, cause) {
        sessions.delete(session)
        halfOpen.remove(client.address, session)
        if (byEndpoint.get(endpoint)?.session === session) byEndpoint.delete(endpoint)
        count(report.end)
        sayEnd(report, cause)
        options.observe?.(report)
      },
    })
    sessions.add(session)
    byEndpoint.set(endpoint, {session, request: bytes})
    halfOpen.add(client.address, session)?.end('evicted')
    const begin = () => {
      const negotiated = negotiateOptions(request.options, file.sizeBytes, limits)
      session.start(beginTransfer(negotiated, file.sizeBytes, limits, clock.monotonicMs()))
      return undefined
    }
    if (singlePort) {
      begin()
      return
    }
    socket.on('error', () => session.end('socket_error'))
    socket.on('message', (received, from) => guard(() => receiveForTransfer(session, socket, received, from)))
    socket.bind({address: localAddress, port: 0, exclusive: true}, () => guard(begin))
  }

  function receiveForTransfer(session: Session, socket: Socket, bytes: Buffer, from: RemoteInfo): TftpCounter | undefined {
    const packet = decodePacket(bytes)
    if ('ignored' in packet) return packet.ignored
    if (from.port !== session.client.port || from.address !== session.client.address) return receiveStranger(packet, from, socket)
    session.receive(packet)
    return packet.kind === 'ack' || packet.kind === 'error' ? undefined : 'unexpected_packet'
  }

  /** A wrong transfer id gets ERROR 5 and disturbs nobody (RFC 1350 §4); an ERROR is never answered (§7). */
  function receiveStranger(packet: TftpPacket, from: RemoteInfo, socket: Socket): TftpCounter {
    if (packet.kind !== 'error' && from.port !== 0) {
      socket.send(encodeError(TFTP_ERROR.unknownTransferId, 'unknown transfer id'), from.port, from.address)
    }
    return 'unknown_transfer'
  }

  function refuse(to: RemoteInfo, counted: TftpCounter, code: number, message: string): TftpCounter {
    refusals.send(encodeError(code, message), to.port, to.address)
    return counted
  }

  function sayEnd(report: TransferReport, cause: unknown): void {
    const {name, client, ...rest} = report
    const served = report.end === 'complete' || report.end === 'unconfirmed'
    const fields = {...rest, file: printable(name), client: client.address, ...(cause ? {err: cause} : {})}
    say(served ? 'info' : report.end === 'read_failed' ? 'error' : 'debug', fields, `tftp: transfer ${report.end}`)
  }

  return {
    address: {address: bound.address, port: bound.port},
    counters: () => ({...counters}),
    active: () => ({transfers: sessions.size, halfOpen: halfOpen.size()}),
    async close() {
      for (const session of [...sessions]) session.end('shutdown')
      await Promise.all(sockets.map(socket => new Promise<void>(resolve => socket.close(resolve))))
    },
  }
}

/** A burst of requests waits in the kernel; what its buffer cannot hold is lost. */
function enlargeReceiveBuffer(socket: Socket, log: Log): void {
  try {
    socket.setRecvBufferSize(4 * 1024 * 1024)
  } catch (error) {
    log.debug({err: error}, 'tftp: the receive buffer keeps its size')
  }
}

function endpointOf(client: {readonly address: string; readonly port: number}): string {
  return `${client.address} ${client.port}`
}
