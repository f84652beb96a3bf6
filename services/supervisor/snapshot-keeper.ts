/**
 * Keeps dhcpd's snapshot: loaded whole from ipam, inventory and lifecycle, again at each change hint, and on a period in case a hint was
 * lost. With the database away the last one stays: that is what lets known machines go on.
 */
import type {Client} from 'pg'
import {type Ipv4, type Mac, parseIpv4, parseMac} from '../../lib/addresses.ts'
import {type Clock, sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type DhcpHost, type DhcpPrefix, type DhcpSnapshot, indexClientKeys} from '../dhcpd/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import {compileScopes} from './dhcp-scopes.ts'

/** What dhcpd's evidence needs to know of a machine's open job. */
export type WatchedJob = {readonly jobId: string; readonly fence: number}

export type SnapshotParts = {
  readonly ipam: Pick<Ipam, 'snapshot'>
  readonly inventory: Pick<Inventory, 'interfaces' | 'machineIdentities' | 'openWindows' | 'dhcpScopes' | 'clientKeys'>
  readonly openJobs: () => Promise<readonly {id: string; machine_id: string; fence: number}[]>
  /** The profile each machine has, or is about to get. */
  readonly profiles: () => Promise<ReadonlyMap<string, string>>
  readonly now: () => Promise<Date>
}

export type Snapshots = {
  current(): DhcpSnapshot
  jobOf(machineId: string): WatchedJob | undefined
  /** Resolves after the first load. */
  ready: Promise<void>
  stop(): Promise<void>
}

const FULL_EVERY_MS = 5_000
const SETTLE_MS = 20
/** However often hints come, loading takes at most this share of the time. */
const LOAD_SHARE = 1 / 4
const RECONNECT_MS = 1_000

export async function loadSnapshot(parts: SnapshotParts): Promise<{snapshot: DhcpSnapshot; jobs: Map<string, WatchedJob>}> {
  const [{prefixes, reservations}, interfaces, identities, scopeRows, keys, openJobs, now] = await Promise.all([
    parts.ipam.snapshot(),
    parts.inventory.interfaces(),
    parts.inventory.machineIdentities(),
    parts.inventory.dhcpScopes(),
    parts.inventory.clientKeys(),
    parts.openJobs(),
    parts.now(),
  ])
  const windows = await parts.inventory.openWindows(now)
  const scopes = compileScopes(scopeRows, scopeRows.some(row => row.profile !== null) ? await parts.profiles() : new Map())
  const jobs = new Map(openJobs.map(job => [job.machine_id, {jobId: job.id, fence: job.fence}]))
  const bootReservations = new Map(reservations.filter(row => row.purpose === 'boot').map(row => [row.machineId, row]))
  const hosts = new Map<Mac, DhcpHost>()
  for (const row of interfaces) {
    const mac = parseMac(row.mac)
    const reservation = bootReservations.get(row.machine_id)
    const identity = identities.get(row.machine_id)
    if (!mac || !reservation || identity === undefined || row.kind !== 'host') continue
    const {name, uuid} = identity
    const own = scopes.ofMachine(row.machine_id, name)
    hosts.set(mac, {
      machineId: row.machine_id,
      name,
      hostname: name,
      address: reservation.address,
      prefixId: reservation.prefixId,
      ...(uuid === null ? {} : {uuid}),
      ...(own === undefined ? {} : {scopes: own}),
      watched: jobs.has(row.machine_id) || windows.some(window => window.prefix_id === reservation.prefixId),
    })
  }
  const served = prefixes.flatMap(prefix => {
    if (prefix.boot_url === null || prefix.dhcp === 'off' || prefix.kind !== 'host') return []
    const window = windows.findLast(row => row.prefix_id === prefix.id)
    const told = scopes.ofPrefix(prefix.id, prefix.cidr)
    const view: DhcpPrefix = {
      id: prefix.id,
      cidr: prefix.cidr,
      gateway: prefix.gateway === null ? null : (parseIpv4(prefix.gateway) ?? null),
      dns: prefix.dns.flatMap(address => parseIpv4(address) ?? []),
      boot_url: prefix.boot_url,
      lease_s: prefix.lease_s,
      mode: prefix.dhcp,
      bootp: prefix.bootp,
      ...(told === undefined ? {} : {scopes: told}),
      routerAdvertisement: prefix.router_advertisement,
      relays: prefix.relays.flatMap(address => parseIpv4(address) ?? []),
      window: window ? {id: window.id, until: window.until} : null,
      dynamicRanges: prefix.ranges
        .filter(range => range.kind === 'dynamic')
        .map(range => ({first: range.first as Ipv4, last: range.last as Ipv4})),
    }
    return [view]
  })
  const declared = keys.map(row => ({...row, machineId: row.machine_id, relay: row.relay as Ipv4 | null}))
  return {snapshot: {prefixes: served, hosts, keys: indexClientKeys(hosts.values(), declared)}, jobs}
}

/** @param connect opens a connection for LISTEN; it is opened again whenever it is lost */
export function keepSnapshot(parts: SnapshotParts, connect: () => Promise<Client>, clock: Clock, log: Log): Snapshots {
  const stopping = new AbortController()
  const first = Promise.withResolvers<void>()
  let state: Awaited<ReturnType<typeof loadSnapshot>> = {snapshot: {prefixes: [], hosts: new Map()}, jobs: new Map()}
  let hinted = Promise.withResolvers<void>()
  const loops = [reload(), listen()]

  async function reload(): Promise<void> {
    while (!stopping.signal.aborted) {
      const startedMs = clock.monotonicMs()
      try {
        hinted = Promise.withResolvers<void>()
        state = await loadSnapshot(parts)
        first.resolve()
        log.debug(
          {hosts: state.snapshot.hosts.size, prefixes: state.snapshot.prefixes.length, ms: clock.monotonicMs() - startedMs},
          'snapshot',
        )
      } catch (error) {
        log.warn({reason: messageOf(error)}, 'the snapshot could not be loaded; the last one stays')
        await sleep(RECONNECT_MS, stopping.signal)
      }
      const tookMs = clock.monotonicMs() - startedMs
      await Promise.race([hinted.promise, sleep(FULL_EVERY_MS, stopping.signal)])
      // Changes come in bursts: one load a burst is enough.
      await sleep(Math.min(Math.max(SETTLE_MS, tookMs * (1 / LOAD_SHARE - 1)), FULL_EVERY_MS), stopping.signal)
    }
  }

  async function listen(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const client = await connect()
        const lost = new Promise<void>(resolve => {
          client.on('error', () => resolve())
          client.on('end', () => resolve())
        })
        try {
          client.on('notification', () => hinted.resolve())
          await client.query('LISTEN ingot_snapshot')
          hinted.resolve()
          await Promise.race([lost, aborted(stopping.signal)])
        } finally {
          await client.end().catch(error => log.debug({reason: messageOf(error)}, 'the hint connection did not end cleanly'))
        }
      } catch (error) {
        log.debug({reason: messageOf(error)}, 'change hints are not heard; the periodic load goes on')
      }
      await sleep(RECONNECT_MS, stopping.signal)
    }
  }

  return {
    current: () => state.snapshot,
    jobOf: machineId => state.jobs.get(machineId),
    ready: first.promise,
    async stop() {
      stopping.abort()
      hinted.resolve()
      await Promise.all(loops)
    },
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), {once: true})
  })
}
