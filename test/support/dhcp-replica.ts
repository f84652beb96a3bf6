/**
 * One dhcpd without sockets, over the leases and blocks of a real database, in a process of its own that the test may kill at any moment:
 * `fork(dhcp-replica.ts, [JSON of ReplicaConfig])`. Packets come and go as messages. Its time runs `speed` times as fast as ours.
 */
import {randomUUID} from 'node:crypto'
import type {Ipv4} from '../../lib/addresses.ts'
import {createDb} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLog} from '../../lib/log.ts'
import {createCounters} from '../../services/dhcpd/counters.ts'
import {createResponder} from '../../services/dhcpd/responder.ts'
import type {DhcpPrefix} from '../../services/dhcpd/snapshot.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {createBlockPort, createLeasePort} from '../../services/supervisor/lease-port.ts'

export type ReplicaConfig = {
  readonly databaseUrl: string
  readonly address: Ipv4
  /** `window` without its end, which JSON cannot carry: it is open. */
  readonly prefix: Omit<DhcpPrefix, 'window'>
  /** When the fast time began, and by how much it is faster. */
  readonly began: {readonly wallMs: number; readonly realMs: number}
  readonly speed: number
}

export type ToReplica = {readonly packet: Uint8Array} | {readonly away: boolean}
export type FromReplica = {readonly ready: true} | {readonly reply: Uint8Array}

/** Milliseconds of the fast time. The real clock is the same in all processes of a host. */
export function fastMs({began, speed}: Pick<ReplicaConfig, 'began' | 'speed'>): number {
  return began.wallMs + (Date.now() - began.realMs) * speed
}

if (process.argv[1] === import.meta.filename) await runReplica(JSON.parse(process.argv[2] ?? '') as ReplicaConfig)

async function runReplica(config: ReplicaConfig): Promise<void> {
  const log = createLog('replica', 'error')
  const now = () => new Date(fastMs(config))
  const clock = {now, monotonicMs: () => fastMs(config)}
  const db = createDb({url: config.databaseUrl, applicationName: 'replica', log, maxConnections: 6})
  const ipam = createIpam({db, clock, log})
  const owner = randomUUID()
  let away = false
  const whileThere = <T extends object>(port: T): T =>
    new Proxy(port, {
      get(target, name, receiver) {
        const value: unknown = Reflect.get(target, name, receiver)
        if (typeof value !== 'function') return value
        return (...args: unknown[]): unknown =>
          away ? Promise.reject(new IngotError('DATABASE_AWAY', 'switched off by the test')) : value.apply(target, args)
      },
    })
  const blocks = createBlockPort(ipam, owner, now)
  const prefix = {...config.prefix, window: {id: 'w', until: new Date(8.64e15)}}
  const snapshot = {prefixes: [prefix], hosts: new Map()}
  const responder = createResponder({
    snapshot: () => snapshot,
    leases: whileThere(createLeasePort(ipam, log, owner, now)),
    blocks: whileThere({...blocks, prolongEvery_ms: blocks.prolongEvery_ms / config.speed}),
    sightings: () => undefined,
    evidence: () => undefined,
    advertise: () => undefined,
    log,
    clock,
    counters: createCounters(),
  })
  await responder.start()
  const arrival = {interface: 'test', addresses: [config.address], ownAddresses: [config.address]}
  const say = (message: FromReplica) => process.send?.(message)
  process.on('message', (message: ToReplica) => {
    if ('away' in message) away = message.away
    else responder.receive(message.packet, arrival, bytes => say({reply: bytes}))
  })
  process.on('disconnect', () => process.exit())
  say({ready: true})
}
