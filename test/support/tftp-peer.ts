/** A hand on the wire for TFTP tests: a UDP endpoint that sends what it is told and keeps what comes, and files made of numbers. */
import {createSocket, type Socket} from 'node:dgram'
import {setTimeout as pause} from 'node:timers/promises'
import type {TftpFile} from '../../services/tftpd/chunks.ts'
import {decodePacket, encodeAck, encodeRequest, type TftpOption, type TftpPacket} from '../../services/tftpd/packet.ts'

export type Heard = {readonly packet: TftpPacket; readonly address: string; readonly port: number}

/** A file whose bytes say where they are, so that a misplaced block shows. */
export function numberedFile(digest: string, sizeBytes: number): TftpFile & {readonly bytes: Buffer} {
  const bytes = Buffer.alloc(sizeBytes)
  for (let at = 0; at + 4 <= sizeBytes; at += 4) bytes.writeUInt32BE(at ^ 0x5a5a5a5a, at)
  return {digest, sizeBytes, bytes, read: async (position, length) => bytes.subarray(position, position + length)}
}

export async function createPeer(address = '127.0.0.1') {
  const socket = createSocket('udp4')
  const heard: Heard[] = []
  socket.on('message', (bytes, from) => {
    const packet = decodePacket(bytes)
    if ('kind' in packet) heard.push({packet, address: from.address, port: from.port})
  })
  await bind(socket, address)
  const send = (bytes: Uint8Array, port: number, to = '127.0.0.1') => socket.send(bytes, port, to)
  return {
    heard,
    port: socket.address().port,
    send,
    read: (port: number, name: string, options: TftpOption[] = [], mode = 'octet') =>
      send(encodeRequest('rrq', name, mode, options), port),
    ack: (block: number, port: number) => send(encodeAck(block), port),
    broadcast: () => socket.setBroadcast(true),
    /** Waits until `count` packets have come; the deadline is generous because only the evidence counts. */
    async hear(count: number): Promise<readonly Heard[]> {
      for (let waited = 0; heard.length < count; waited += 5) {
        if (waited > 20_000) throw new Error(`heard ${heard.length} of ${count}: ${JSON.stringify(heard)}`)
        await pause(5)
      }
      return heard
    },
    close: () => new Promise<void>(resolve => socket.close(resolve)),
  }
}

/** Gives packets that should not come the time to come. */
export function settle(): Promise<void> {
  return pause(300)
}

function bind(socket: Socket, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, address, resolve)
  })
}
