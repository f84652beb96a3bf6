/** One UDP socket (one per address family) for all BMCs. Finds which of our sessions a datagram belongs to; drops everything else. */
import {randomInt} from 'node:crypto'
import {createSocket, type RemoteInfo, type Socket} from 'node:dgram'
import type {Log} from '../../../lib/log.ts'
import type {SessionKeys} from './crypto.ts'
import {decodePacket, PAYLOAD, type Packet} from './packet.ts'

export type Peer = {readonly address: string; readonly port: number; readonly family: 4 | 6}

/** Our end of one session. */
export type Line = {
  readonly peer: Peer
  /** The id we gave the session; the BMC puts it into everything it sends. */
  readonly id: number
  /** Message tags of the handshake count from here: another number each time, so that a late answer to an earlier session is not taken for this one's. */
  readonly firstTag: number
  /** Set once the handshake is done. */
  keys: SessionKeys | undefined
  /** Gets each packet of the session while somebody waits for one. */
  listener: ((packet: Packet) => void) | undefined
}

export type IpmiSocket = {
  open(peer: Peer): Promise<Line>
  /** Sends at once, in this turn of the event loop. @param failed called when the kernel refuses */
  send(line: Line, datagram: Buffer, failed: (error: NodeJS.ErrnoException) => void): void
  drop(line: Line): void
  /** Sessions under way. */
  readonly lineCount: number
  close(): Promise<void>
}

const TAGS_OF_A_HANDSHAKE = 3
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024

export function createIpmiSocket(log: Log): IpmiSocket {
  const lines = new Map<number, Line>()
  const sockets = new Map<4 | 6, Promise<Socket>>()
  const bound = new Map<4 | 6, Socket>()
  let tags = 0

  function bind(family: 4 | 6): Promise<Socket> {
    const known = sockets.get(family)
    if (known) return known
    const binding = new Promise<Socket>((resolve, reject) => {
      const socket = createSocket({
        type: family === 4 ? 'udp4' : 'udp6',
        recvBufferSize: RECEIVE_BUFFER_BYTES,
        // Peers are literal addresses. The usual look-up would put a turn of the event loop between the guard's check and the datagram.
        lookup: (address, _options, done) => done(null, address, family),
      })
      socket.once('error', reject)
      socket.on('message', receive)
      socket.bind(0, () => {
        socket.off('error', reject)
        socket.on('error', error => log.warn({err: error}, 'the IPMI socket reports an error'))
        socket.unref()
        bound.set(family, socket)
        resolve(socket)
      })
    })
    sockets.set(family, binding)
    binding.catch(() => sockets.delete(family))
    return binding
  }

  function receive(bytes: Buffer, from: RemoteInfo): void {
    const packet = decodePacket(bytes, id => lines.get(id)?.keys)
    if ('ignored' in packet) {
      log.trace({from: from.address, reason: packet.ignored}, 'a datagram was ignored')
      return
    }
    const line = lineOf(packet, from)
    if (line && isFrom(line.peer, from)) line.listener?.(packet)
  }

  function lineOf(packet: Packet, from: RemoteInfo): Line | undefined {
    if (packet.format === 'old') return undefined
    if (packet.format === 'sealed') return lines.get(packet.sessionId)
    const id = packet.payload.length >= 8 ? packet.payload.readUInt32LE(4) : 0
    if (id !== 0 || packet.type !== PAYLOAD.openResponse) return lines.get(id)
    // A refusal to open may leave our id out; then the peer tells, and whoever waits compares the tag.
    return lines.values().find(line => line.listener !== undefined && line.keys === undefined && isFrom(line.peer, from))
  }

  return {
    async open(peer) {
      await bind(peer.family)
      let id = 0
      do id = randomInt(1, 2 ** 32)
      while (lines.has(id))
      tags = (tags + TAGS_OF_A_HANDSHAKE) & 0xff
      const line: Line = {peer, id, firstTag: tags, keys: undefined, listener: undefined}
      lines.set(id, line)
      return line
    },
    send(line, datagram, failed) {
      bound.get(line.peer.family)?.send(datagram, line.peer.port, line.peer.address, error => {
        if (error) failed(error)
      })
    },
    drop(line) {
      lines.delete(line.id)
    },
    get lineCount() {
      return lines.size
    },
    async close() {
      const opening = await Promise.allSettled(sockets.values())
      sockets.clear()
      bound.clear()
      for (const result of opening) {
        if (result.status === 'fulfilled') await new Promise<void>(resolve => result.value.close(() => resolve()))
      }
    },
  }
}

function isFrom(peer: Peer, from: RemoteInfo): boolean {
  return peer.port === from.port && peer.address === from.address
}
