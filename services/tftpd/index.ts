/** TFTP: one server for each socket it is given, all serving the artefacts and sharing one memory of them. */
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import type {Artefacts} from '../artefacts/index.ts'
import {createChunkMemory} from './chunks.ts'
import {artefactFiles} from './files.ts'
import {DEFAULT_TFTP_LIMITS, type TftpLimits} from './limits.ts'
import {createTftpServer, type TftpCounter, type TftpServer} from './server.ts'
import type {Client, TransferReport} from './session.ts'
import type {TftpSocket} from './sockets.ts'

export type {TftpFile} from './chunks.ts'
export {artefactFiles} from './files.ts'
export {DEFAULT_TFTP_LIMITS, type TftpLimits} from './limits.ts'
export {decodePacket as decodeTftpPacket, type TftpPacket, type TftpRequest} from './packet.ts'
export {explainRead, requestedName} from './read.ts'
export {createTftpServer, type TftpCounter, type TftpServer, type TftpServerOptions} from './server.ts'
export type {TransferReport} from './session.ts'
export type {TftpSocket} from './sockets.ts'

export type Tftpd = {
  /** Where each socket is bound, in the order given. */
  readonly addresses: readonly Client[]
  /** Summed over the sockets. */
  counters(): Readonly<Partial<Record<TftpCounter, number>>>
  active(): {readonly transfers: number; readonly halfOpen: number}
  close(): Promise<void>
}

export async function createTftpd(options: {
  readonly sockets: readonly TftpSocket[]
  readonly artefacts: Pick<Artefacts, 'lookup' | 'read'>
  readonly log: Log
  readonly clock: Clock
  readonly limits?: Partial<TftpLimits>
  readonly singlePort?: boolean
  readonly observe?: (report: TransferReport) => void
}): Promise<Tftpd> {
  const {sockets, artefacts, ...shared} = options
  const chunks = createChunkMemory({...DEFAULT_TFTP_LIMITS, ...options.limits})
  const servers: TftpServer[] = []
  try {
    for (const socket of sockets)
      servers.push(await createTftpServer({...shared, socket, chunks, files: artefactFiles(artefacts)}))
  } catch (error) {
    await Promise.all(servers.map(server => server.close()))
    throw error
  }
  return {
    addresses: servers.map(({address}) => address),
    counters: () => sumCounters(servers.map(server => server.counters())),
    active() {
      const each = servers.map(server => server.active())
      return {
        transfers: each.reduce((sum, {transfers}) => sum + transfers, 0),
        halfOpen: each.reduce((sum, {halfOpen}) => sum + halfOpen, 0),
      }
    },
    async close() {
      await Promise.all(servers.map(server => server.close()))
    },
  }
}

function sumCounters(each: readonly Readonly<Partial<Record<TftpCounter, number>>>[]): Partial<Record<TftpCounter, number>> {
  const sum: Partial<Record<TftpCounter, number>> = {}
  for (const counters of each) {
    for (const [name, value] of Object.entries(counters) as [TftpCounter, number][]) sum[name] = (sum[name] ?? 0) + value
  }
  return sum
}
