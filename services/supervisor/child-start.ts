/**
 * What passes between the supervisor and a child, over descriptor 3: one line of JSON down (`StartMessage`), one line up when all is
 * served (`ready`), and the end of the stream when the supervisor is gone. The sealing keys come through a pipe of their own, so that
 * they are in no message, argument or environment: one frame (length in four bytes, then the ring) at the start, another whenever they
 * change.
 */
import {Socket} from 'node:net'
import {createInterface} from 'node:readline'
import type {Service} from '../../lib/config.ts'
import {type Keyring, parseKeyring} from '../../lib/keyring.ts'
import {Secret} from '../../lib/secret.ts'
import type {Account} from './account.ts'
import type {OpenSocket} from './open-sockets.ts'
import type {RoleStart, SealingKeys} from './roles.ts'

export const CONTROL_FD = 3
export const FIRST_PASSED_FD = 4
export const READY = '{"ready":true}\n'

export type StartMessage = {
  readonly role: string
  /** URL of the module that exports `prepare`. */
  readonly module: string
  readonly supervisorPid: number
  /** Undefined when the supervisor is not root itself: there is nothing to give up. */
  readonly account: Account | undefined
  readonly services: readonly Service[]
  readonly stateDir: string
  readonly databaseUrl: string
  readonly sockets: readonly OpenSocket[]
  readonly sealingKeyFd: number | undefined
  readonly retentionDays: number
  readonly workers: number
  readonly leastRequestOctets: number
}

export type SupervisorLink = {
  readonly message: StartMessage
  tellReady(): void
  /** Calls back when the supervisor is gone. */
  onGone(listener: () => void): void
}

/** The child's side: reads the start message. */
export async function openSupervisorLink(): Promise<SupervisorLink> {
  const socket = new Socket({fd: CONTROL_FD, readable: true, writable: true})
  const lines = createInterface({input: socket})
  const message = await new Promise<StartMessage>((resolve, reject) => {
    lines.once('line', line => resolve(JSON.parse(line) as StartMessage))
    lines.once('close', () => reject(new Error('the supervisor ended before it sent the start message')))
  })
  return {
    message,
    tellReady: () => void socket.write(READY),
    onGone: listener => {
      socket.once('error', listener)
      lines.once('close', listener)
      if (socket.readableEnded) listener()
    },
  }
}

export function roleStart(message: StartMessage, sealingKeys: SealingKeys | undefined): RoleStart {
  return {
    role: message.role,
    services: message.services,
    stateDir: message.stateDir,
    databaseUrl: new Secret(message.databaseUrl),
    sockets: message.sockets,
    sealingKeys,
    retentionDays: message.retentionDays,
    workers: message.workers,
    leastRequestOctets: message.leastRequestOctets,
  }
}

/** A frame of the sealing keys' pipe. */
export function encodeFrame(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** Resolves with the first ring; later ones replace it under whoever holds what was returned. */
export async function openKeyPipe(fd: number): Promise<SealingKeys> {
  const listeners = new Set<() => void>()
  const first = Promise.withResolvers<void>()
  let ring: Keyring | undefined
  let held = Buffer.alloc(0)
  const socket = new Socket({fd, readable: true, writable: false})
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk])
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const end = 4 + held.readUInt32BE(0)
      const next = parseKeyring(held.subarray(4, end))
      held = held.subarray(end)
      if (!next) continue
      ring = next
      first.resolve()
      for (const listener of listeners) listener()
    }
  })
  const gone = () => first.reject(new Error('the supervisor ended before it sent the sealing keys'))
  socket.once('error', gone).once('close', gone)
  await first.promise
  return {
    current() {
      if (!ring) throw new Error('there are no sealing keys')
      return ring
    },
    onChange: listener => void listeners.add(listener),
  }
}
