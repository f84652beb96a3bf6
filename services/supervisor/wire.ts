/** The wire role: DHCP, TFTP and HTTP boot, on the sockets the supervisor opened. Holds no key that opens a BMC's credentials. */
import {randomUUID} from 'node:crypto'
import type {Server} from 'node:http'
import {join} from 'node:path'
import {systemClock} from '../../lib/clock.ts'
import {keepDatabaseClock} from '../../lib/database-clock.ts'
import {createClient, createDb} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import {createArtefacts} from '../artefacts/index.ts'
import {createBoot} from '../boot/index.ts'
import {createDhcpServer} from '../dhcpd/index.ts'
import {createEvidence} from '../evidence/index.ts'
import {createInventory} from '../inventory/index.ts'
import {createIpam} from '../ipam/index.ts'
import {createClaims, databaseNow, openJobsOf, profilesOf} from '../lifecycle/index.ts'
import {createTftpd} from '../tftpd/index.ts'
import {closeServer} from './healthz.ts'
import {createBlockPort, createLeasePort} from './lease-port.ts'
import {localAddressOn} from './local-address.ts'
import {createObservers} from './observers.ts'
import type {OpenSocket} from './open-sockets.ts'
import type {PreparedRole, RoleStart, RunningRole} from './roles.ts'
import {keepSnapshot} from './snapshot-keeper.ts'
import {publishCounts} from './wire-counts.ts'

/** A machine that waits for its script or a DHCP answer must not wait longer than this for a database that hangs. */
const STATEMENT_TIMEOUT_MS = 5_000

export async function prepare(start: RoleStart): Promise<PreparedRole> {
  return {start: () => serve(start)}
}

async function serve(start: RoleStart): Promise<RunningRole> {
  const {clock = systemClock, boundary} = start.seams ?? {}
  const log = createLog('wire')
  const connection = {url: start.databaseUrl, log, applicationName: 'ingot-wire', boundary}
  const db = createDb({...connection, statementTimeoutMs: STATEMENT_TIMEOUT_MS, maxConnections: 10, prefersIndexes: true})
  const evidence = createEvidence({db})
  const inventory = createInventory({db})
  const ipam = createIpam({db, clock, log})
  const artefacts = createArtefacts({dir: join(start.stateDir, 'artefacts'), log})
  const snapshots = keepSnapshot(
    {ipam, inventory, openJobs: () => openJobsOf(db), profiles: () => profilesOf(db), now: () => databaseNow(db)},
    async () => {
      const client = createClient({...connection, applicationName: 'ingot-wire-hints'})
      await client.connect()
      return client
    },
    clock,
    log,
  )
  await snapshots.ready
  const databaseClock = await keepDatabaseClock(() => databaseNow(db), clock, log)
  const owner = randomUUID()
  const observers = createObservers({evidence, inventory, jobOf: snapshots.jobOf, clock, log})

  const dhcp = createDhcpServer({
    sockets: socketsOf(start, 'dhcp'),
    proxySockets: socketsOf(start, 'proxyDhcp'),
    leastRequestOctets: start.leastRequestOctets,
    raSockets: socketsOf(start, 'routerAdvertisement'),
    snapshot: snapshots.current,
    leases: createLeasePort(ipam, log, owner, databaseClock.now),
    blocks: createBlockPort(ipam, owner, databaseClock.now),
    sightings: observers.sighting,
    evidence: observers.evidence,
    alerts: observers.alert,
    log,
    clock,
  })
  const tftpd = await createTftpd({
    sockets: socketsOf(start, 'tftp').map(socket => ({fd: socket.fd, localAddress: localAddressOn(socket)})),
    artefacts,
    log,
    clock,
  })
  await dhcp.start()
  const counts = publishCounts({
    evidence,
    interfaces: socketsOf(start, 'dhcp').map(socket => socket.interface),
    dhcp: dhcp.counters,
    tftp: tftpd.counters,
    clock,
    log,
  })
  const boot = createBoot({db, evidence, claims: createClaims({db, evidence}), artefacts, clock, log})
  const servers = await Promise.all(socketsOf(start, 'boot').map(socket => listenOn(boot.server, socket.fd)))

  return {
    async stop() {
      await Promise.all(servers.map(closeServer))
      await dhcp.close()
      await tftpd.close()
      await snapshots.stop()
      await databaseClock.stop()
      await observers.stop()
      await counts.stop()
      await db.destroy()
    },
  }
}

export function socketsOf<K extends OpenSocket['kind']>(start: RoleStart, kind: K): Extract<OpenSocket, {kind: K}>[] {
  return start.sockets.filter((socket): socket is Extract<OpenSocket, {kind: K}> => socket.kind === kind)
}

export function listenOn(server: Server, fd: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({fd}, () => resolve(server))
  })
}
