/**
 * The responder on real sockets: one UDP socket per interface, usually adopted from a privileged parent by its fd. A socket that fails is
 * counted and logged; it never ends the process.
 */
import {createSocket, type Socket} from 'node:dgram'
import {networkInterfaces} from 'node:os'
import {type Ipv4, parseIpv4} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {Blocks} from './blocks.ts'
import {createCounters, type DhcpMetrics} from './counters.ts'
import {CLIENT_PORT, type Destination, PROXY_PORT, SERVER_PORT} from './destination.ts'
import type {Leases} from './leases.ts'
import type {Arrival} from './link.ts'
import type {DhcpEvidence, Sighting} from './observations.ts'
import {createResponder, type Send} from './responder.ts'
import {createRouterAdvertiser} from './router-advertisement.ts'
import type {DhcpSnapshot} from './snapshot.ts'
import type {Alert} from './watch.ts'

/** `fd` is a UDP socket bound to port 67 of one interface (SO_BINDTODEVICE); `address` opens an ordinary one. */
export type DhcpSocket = {readonly interface: string} & (
  | {readonly fd: number}
  | {readonly address: string; readonly port?: number}
)

export type DhcpServerDeps = {
  readonly sockets: readonly DhcpSocket[]
  /** As `sockets`, on port 4011: for PXE clients beside another DHCP server. */
  readonly proxySockets?: readonly DhcpSocket[]
  readonly snapshot: () => DhcpSnapshot
  readonly leases: Leases
  /** Dynamic ranges in blocks; without it each offer is asked for at `leases`. */
  readonly blocks?: Blocks
  readonly sightings: (sighting: Sighting) => void
  readonly evidence: (evidence: DhcpEvidence) => void
  readonly alerts?: (alert: Alert) => void
  /** Raw ICMPv6 sockets, connected to ff02::1 on their interface, hop limit 255. */
  readonly raSockets?: readonly {readonly interface: string; readonly fd: number}[]
  readonly log: Log
  readonly clock: Clock
  readonly metrics?: DhcpMetrics
  readonly offline_lease_s?: number
  readonly leastRequestOctets?: number
}

export type DhcpServer = {
  /** Resolves when every socket listens. */
  start(): Promise<void>
  /** Takes no more packets, answers those that wait for a bind, then closes. */
  close(): Promise<void>
  /** `received`, `sent.OFFER`, `ignored.unknown_mac` … since start. */
  counters(): ReadonlyMap<string, number>
}

const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024
const ADDRESSES_FOR_MS = 5_000
const LINK_BROADCAST = '255.255.255.255'

export function createDhcpServer(deps: DhcpServerDeps): DhcpServer {
  const {log, clock} = deps
  const counters = createCounters(deps.metrics)
  const advertisers = new Map(
    (deps.raSockets ?? []).map(({interface: name, fd}) => [name, createRouterAdvertiser(fd, clock, raFailed)] as const),
  )
  const responder = createResponder({
    ...deps,
    counters,
    advertise(name) {
      const advertiser = advertisers.get(name)
      if (advertiser === undefined) return
      counters.add('router_advertisement', name)
      advertiser.advertise()
    },
  })
  const readAddresses = createAddressReader(clock)
  let open: Socket[] = []
  let closing = false

  function raFailed(error: Error): void {
    counters.add('send_failed', 'router_advertisement')
    log.warn({error: error.message}, 'a router advertisement could not be sent')
  }

  function listen(source: DhcpSocket, port: typeof SERVER_PORT | typeof PROXY_PORT): Promise<Socket> {
    // Every destination is a literal address: answering the lookup at once saves a turn of the loop for each reply.
    const socket = createSocket({type: 'udp4', lookup: (host, _options, done) => done(null, host, 4)})
    const send: Send = (bytes, destination) => {
      const to = endpointOf(destination)
      socket.send(bytes, to.port, to.address)
    }
    const isProxy = port === PROXY_PORT
    socket.on('message', (bytes, from) => {
      if (closing) return
      const arrival = readAddresses(source.interface)
      const proxyFrom = {address: from.address as Ipv4, port: from.port}
      responder.receive(bytes, isProxy ? {...arrival, proxyFrom} : arrival, send)
    })
    const {promise, resolve, reject} = Promise.withResolvers<Socket>()
    socket.once('error', reject)
    socket.once('listening', () => {
      socket.off('error', reject)
      socket.on('error', error => {
        counters.add('send_failed', (error as NodeJS.ErrnoException).code ?? 'unknown')
        log.warn({interface: source.interface, error: messageOf(error)}, 'a DHCP reply could not be sent')
      })
      socket.setBroadcast(true)
      // An adopted socket was widened past net.core.rmem_max by its opener; setting it here would shrink it to that.
      if (!('fd' in source)) socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES)
      const granted_bytes = socket.getRecvBufferSize()
      log.info({interface: source.interface, port, receive_buffer_bytes: granted_bytes}, 'DHCP is served')
      resolve(socket)
    })
    if ('fd' in source) socket.bind({fd: source.fd})
    else socket.bind({address: source.address, port: source.port ?? port})
    return promise
  }

  return {
    async start() {
      await responder.start()
      open = await Promise.all([
        ...deps.sockets.map(source => listen(source, SERVER_PORT)),
        ...(deps.proxySockets ?? []).map(source => listen(source, PROXY_PORT)),
      ])
    },
    async close() {
      closing = true
      for (const advertiser of advertisers.values()) advertiser.close()
      await responder.stop()
      await Promise.all(open.map(socket => new Promise<void>(resolve => socket.close(() => resolve()))))
      open = []
    },
    counters: () => counters.read(),
  }
}

function endpointOf(destination: Destination): {address: string; port: number} {
  return destination.via === 'link' ? {address: LINK_BROADCAST, port: CLIENT_PORT} : destination.to
}

/** Our addresses by interface, read again every few seconds: they may change while we run, and reading them costs too much per packet. */
function createAddressReader(clock: Clock): (name: string) => Arrival {
  let readMs = Number.NEGATIVE_INFINITY
  let arrivals = new Map<string, Arrival>()
  return name => {
    if (clock.monotonicMs() - readMs > ADDRESSES_FOR_MS) {
      readMs = clock.monotonicMs()
      arrivals = readArrivals()
    }
    return arrivals.get(name) ?? {interface: name, addresses: [], ownAddresses: []}
  }
}

function readArrivals(): Map<string, Arrival> {
  const byName = Object.entries(networkInterfaces()).map(([name, infos]) => [name, ipv4Of(infos ?? [])] as const)
  const ownAddresses = byName.flatMap(([, addresses]) => addresses)
  return new Map(byName.map(([name, addresses]) => [name, {interface: name, addresses, ownAddresses}]))
}

function ipv4Of(infos: readonly {readonly family: string; readonly address: string}[]): readonly Ipv4[] {
  return infos.flatMap(info => (info.family === 'IPv4' ? (parseIpv4(info.address) ?? []) : []))
}
