/** UDP sockets as the server needs them: bound at once, or adopted from a supervisor that had the right to bind them. */
import {createSocket, type Socket} from 'node:dgram'
import {isIPv6} from 'node:net'
import type {Channel} from './session.ts'

/** `localAddress` is where replies come from; needed when the socket itself is bound to 0.0.0.0 or only to a device. */
export type TftpSocket =
  | {readonly fd: number; readonly localAddress?: string}
  | {readonly address: string; readonly port: number; readonly localAddress?: string}

export function bindSocket(where: TftpSocket): Promise<Socket> {
  const socket = createUdpSocket('fd' in where ? (where.localAddress ?? '0.0.0.0') : where.address)
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind('fd' in where ? {fd: where.fd} : {address: where.address, port: where.port, exclusive: true}, () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}

export function createUdpSocket(localAddress: string): Socket {
  return createSocket({type: isIPv6(localAddress) ? 'udp6' : 'udp4', lookup: lookupLiteral})
}

/** Sends without a callback: a datagram that does not leave is a datagram lost on the way, and the transfer's timer heals both. */
export function channelOf(socket: Socket, own: boolean): Channel {
  let open = true
  return {
    send(parts, to) {
      if (open) socket.send(parts as Uint8Array[], to.port, to.address)
    },
    close() {
      if (open && own) socket.close()
      open = false
    },
  }
}

export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || address === '::'
}

/** Addresses here are always literal, so the answer is there at once; the resolver would cost every datagram a turn of the loop. */
function lookupLiteral(address: string, family: unknown, callback?: unknown): void {
  const answer = typeof family === 'function' ? family : callback
  if (typeof answer === 'function') answer(null, address, isIPv6(address) ? 6 : 4)
}
