/**
 * What passes between the supervisor and a child, over descriptor 3: one line of JSON down (`StartMessage`), one line up when all is
 * served (`ready`), and the end of the stream when the supervisor is gone. The sealing key comes through a pipe of its own, so that
 * it is in no message, argument or environment.
 */
import {Socket} from 'node:net'
import {createInterface} from 'node:readline'
import type {Service} from '../../lib/config.ts'
import {Secret} from '../../lib/secret.ts'
import type {Account} from './account.ts'
import type {OpenSocket} from './open-sockets.ts'
import type {RoleStart} from './roles.ts'

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

export function roleStart(message: StartMessage, sealingKey: Buffer | undefined): RoleStart {
  return {
    role: message.role,
    services: message.services,
    stateDir: message.stateDir,
    databaseUrl: new Secret(message.databaseUrl),
    sockets: message.sockets,
    sealingKey,
    retentionDays: message.retentionDays,
    workers: message.workers,
    leastRequestOctets: message.leastRequestOctets,
  }
}

/** Everything a pipe holds, up to its end. */
export async function readPipe(fd: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of new Socket({fd, readable: true, writable: false})) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
