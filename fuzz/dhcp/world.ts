/**
 * What the fuzzed responder lives in: links, relays, machines known and unknown, an open window, and a leases port that answers, is away,
 * or misbehaves. All of it is small and bounded, so that what grows is the responder's.
 */
import {type Cidr, type Ipv4, intToIpv4, ipv4ToInt, type Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import type {DhcpHost, DhcpPrefix, DhcpSnapshot, Leases, StoredLease} from '../../services/dhcpd/index.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import type {DhcpScope} from '../../services/dhcpd/option-values.ts'
import type {Random} from '../random.ts'

export const SERVER = '10.77.0.1' as Ipv4
export const RELAY = '10.78.0.254' as Ipv4
const START_MS = Date.parse('2026-01-02T03:04:05Z')
const WINDOW = {id: 'w1', until: new Date(START_MS + 86_400_000 * 365)}

type Machine = {readonly mac: Mac; readonly address: Ipv4; readonly prefixId: string}

/** The first two are the clients of the captures. */
export const MACHINES: readonly Machine[] = [
  machine('52:54:00:77:00:10', '10.77.0.50', 'lab'),
  machine('52:54:00:77:00:11', '10.77.0.51', 'lab'),
  machine('52:54:00:77:01:01', '10.78.0.20', 'remote'),
  machine('52:54:00:77:01:02', '10.79.0.200', 'open'),
  machine('52:54:00:77:01:03', '10.80.0.9', 'beside'),
]
export const STRANGERS: readonly Mac[] = ['52:54:00:aa:bb:01', '52:54:00:aa:bb:02', '52:54:00:aa:bb:03'].map(mac => mac as Mac)

function machine(mac: string, address: string, prefixId: string): Machine {
  return {mac: mac as Mac, address: address as Ipv4, prefixId}
}

const PREFIX: DhcpPrefix = {
  id: 'lab',
  cidr: '10.77.0.0/22' as Cidr,
  gateway: SERVER,
  dns: ['10.77.0.2' as Ipv4],
  boot_url: 'http://10.77.0.1:8480',
  lease_s: 600,
  interface: 'br0',
  routerAdvertisement: true,
  relays: [],
  window: null,
  dynamicRanges: [],
}

/** More than a client with little room can be sent. */
const OPTIONS_SET: DhcpScope = {
  name: 'the site',
  kind: 'site',
  options: new Map([
    [43, {name: 'vendor_specific', bytes: Buffer.alloc(300, 7), always: true}],
    [119, {name: 'option-119', bytes: Buffer.alloc(200, 1), always: false}],
    [224, {name: 'option-224', bytes: Buffer.alloc(64, 2), always: true}],
  ]),
  loaders: {},
}

/** Every shape a prefix has: closed and open, bare and with all it can say, relayed, sharing a relay, with a lease that never ends, beside another server. */
export const PREFIXES: readonly DhcpPrefix[] = [
  {...PREFIX, bootp: 'static', scopes: [OPTIONS_SET]},
  {
    ...PREFIX,
    id: 'open',
    cidr: '10.79.0.0/24' as Cidr,
    gateway: '10.79.0.1' as Ipv4,
    dns: ['10.79.0.2' as Ipv4, '10.79.0.3' as Ipv4],
    boot_url: 'http://boot.lab.example:8480',
    interface: 'br1',
    window: WINDOW,
    dynamicRanges: [range('10.79.0.10', '10.79.0.40')],
    domain: 'lab.example',
    mtu: 9000,
    ntp: ['10.79.0.4' as Ipv4],
    routes: [{destination: '10.0.0.0/8' as Cidr, via: '10.79.0.5' as Ipv4}],
  },
  {
    ...PREFIX,
    id: 'remote',
    cidr: '10.78.0.0/24' as Cidr,
    gateway: RELAY,
    interface: 'none',
    relays: [RELAY],
    window: WINDOW,
    dynamicRanges: [range('10.78.0.100', '10.78.0.120')],
  },
  {
    ...PREFIX,
    id: 'endless',
    cidr: '10.78.1.0/24' as Cidr,
    gateway: null,
    dns: [],
    lease_s: 0xffffffff,
    interface: 'none',
    serverAddress: '192.0.2.67' as Ipv4,
    relays: [RELAY],
    window: WINDOW,
    dynamicRanges: [range('10.78.1.1', '10.78.1.254')],
  },
  {...PREFIX, id: 'beside', cidr: '10.80.0.0/24' as Cidr, gateway: null, interface: 'br2', mode: 'proxy', window: WINDOW},
]

function range(first: string, last: string) {
  return {first: first as Ipv4, last: last as Ipv4}
}

const OWN: readonly Ipv4[] = [SERVER, '10.79.0.1' as Ipv4, '10.88.0.1' as Ipv4]
const BESIDE = {interface: 'br2', addresses: ['10.80.0.1' as Ipv4], ownAddresses: OWN}
/** `stray` has no address and no prefix; `uplink` is where relays come in. */
export const ARRIVALS: readonly [Arrival, Arrival, ...Arrival[]] = [
  {interface: 'br0', addresses: [SERVER], ownAddresses: OWN},
  {interface: 'br1', addresses: ['10.79.0.1' as Ipv4], ownAddresses: OWN},
  {interface: 'uplink', addresses: ['10.88.0.1' as Ipv4], ownAddresses: OWN},
  {interface: 'stray', addresses: [], ownAddresses: OWN},
  BESIDE,
  {...BESIDE, proxyFrom: {address: '10.80.0.77' as Ipv4, port: 4011}},
]

export const SNAPSHOT: DhcpSnapshot = {
  prefixes: PREFIXES,
  hosts: new Map(MACHINES.map(({mac, address, prefixId}, index) => [mac, describeHost(mac, address, prefixId, index)])),
}

function describeHost(mac: Mac, address: Ipv4, prefixId: string, index: number): DhcpHost {
  const name = `server000${index}`
  const uuid = index % 2 === 0 ? {uuid: '11223344-5566-7788-99aa-bbccddeeff00'} : {}
  return {machineId: `m-${mac}`, name, hostname: name, address, prefixId, watched: true, ...uuid}
}

export type FuzzClock = Clock & {advance(ms: number): void}

export function createFuzzClock(): FuzzClock {
  let elapsedMs = 0
  return {
    now: () => new Date(START_MS + elapsedMs),
    monotonicMs: () => elapsedMs,
    advance(ms) {
      elapsedMs += ms
    },
  }
}

/** How the leases port behaves for a while. `short` answers a bind for fewer than asked; `broken` fails as a programming error would. */
export const MOODS = ['well', 'well', 'well', 'slow', 'away', 'broken', 'short', 'full', 'contrary'] as const
export type Mood = (typeof MOODS)[number]

export type FuzzLeases = {
  readonly port: Leases
  /** For whom an address was committed since the mood was last set, whatever became of it since, and until when on the fuzz clock. */
  committed(address: Ipv4): {readonly mac: Mac; readonly untilMs: number} | undefined
  /** Until when a client was granted an address, whoever holds it now: it may be renewed for its rest while nothing can be committed. */
  grantedUntilMs(mac: Mac, address: Ipv4): number | undefined
  setMood(mood: Mood, random: Random): void
}

const MOST_HELD = 4096

/** @param complain told of every request to the port that no port should get */
export function createFuzzLeases(clock: Clock, complain: (what: string) => void): FuzzLeases {
  const held = new Map<Ipv4, {mac: Mac; untilMs: number}>()
  const leases = new Map<Mac, StoredLease>()
  const committed = new Map<Ipv4, {mac: Mac; untilMs: number}>()
  const granted = new Map<string, number>()
  let mood: Mood = 'well'
  let random: Random | undefined

  async function behave(): Promise<void> {
    for (let turns = mood === 'slow' ? (random?.below(20) ?? 0) : 0; turns > 0; turns--) await undefined
    if (mood === 'away') throw new IngotError('DATABASE_AWAY', 'switched off by the fuzzer')
    if (mood === 'broken') throw new TypeError('broken by the fuzzer')
  }

  function forget(mac: Mac, address: Ipv4): void {
    leases.delete(mac)
    if (held.get(address)?.mac === mac) held.delete(address)
  }

  const port: Leases = {
    async bind(requests) {
      complainOfBinds(requests, complain)
      await behave()
      const results = requests.map(({mac, address, prefixId, kind, machineId, lease_s, now}) => {
        const holder = held.get(address)
        const isTaken = holder !== undefined && holder.mac !== mac && holder.untilMs > clock.monotonicMs()
        if (mood === 'contrary' && random?.oneIn(2)) return {refused: 'gone'} as const
        if (isTaken) return {refused: 'taken'} as const
        const holding = {mac, untilMs: clock.monotonicMs() + lease_s * 1000}
        remember(held, address, holding)
        committed.set(address, holding)
        remember(granted, `${mac} ${address}`, holding.untilMs)
        remember(leases, mac, {address, prefixId, kind, machineId, expires_at: new Date(now.getTime() + lease_s * 1000)})
        return {bound: true} as const
      })
      return mood === 'short' ? results.slice(0, -1) : results
    },
    async offerDynamic({mac, prefixId, requested}) {
      if (mood === 'full') return 'full'
      await behave()
      const pool = PREFIXES.find(prefix => prefix.id === prefixId)?.dynamicRanges[0]
      if (pool === undefined) return 'full'
      const first = ipv4ToInt(pool.first)
      const size = ipv4ToInt(pool.last) - first + 1
      const wish = requested === null ? -1 : ipv4ToInt(requested) - first
      return intToIpv4(first + (wish >= 0 && wish < size ? wish : hash(mac) % size))
    },
    async find(mac) {
      await behave()
      return leases.get(mac) ?? null
    },
    async release({mac, address}) {
      await behave()
      forget(mac, address)
    },
    async decline({mac, address}) {
      await behave()
      forget(mac, address)
    },
  }
  return {
    port,
    committed: address => committed.get(address),
    grantedUntilMs: (mac, address) => granted.get(`${mac} ${address}`),
    setMood(next, source) {
      committed.clear()
      mood = next
      random = source
    },
  }
}

function complainOfBinds(requests: Parameters<Leases['bind']>[0], complain: (what: string) => void): void {
  if (requests.length === 0) complain('a bind of nothing')
  if (new Set(requests.map(({mac}) => mac)).size !== requests.length) complain('a bind that holds a MAC twice')
  for (const {address, prefixId, lease_s, clientId, kind, mac} of requests) {
    const prefix = PREFIXES.find(({id}) => id === prefixId)
    if (prefix === undefined) complain(`a bind in a prefix that is not there: ${prefixId}`)
    if (!Number.isInteger(lease_s) || lease_s < 1 || lease_s > (prefix?.lease_s ?? 0)) complain(`a bind for ${lease_s} s`)
    if (clientId !== null && clientId.length > MOST_CLIENT_ID_TEXT) complain(`a bind with ${clientId.length} octets of client id`)
    const reserved = MACHINES.find(known => known.address === address)
    if (kind === 'reserved' && reserved?.mac !== mac) complain(`${address} bound as reserved for ${mac}`)
  }
}

/** 255 octets in hexadecimal with colons, and a mark that it was cut. */
const MOST_CLIENT_ID_TEXT = 255 * 3 + 1

function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key)
  map.set(key, value)
  if (map.size <= MOST_HELD) return
  const [oldest] = map.keys()
  if (oldest !== undefined) map.delete(oldest)
}

function hash(text: string): number {
  let sum = 0
  for (let at = 0; at < text.length; at++) sum = (sum * 31 + text.charCodeAt(at)) >>> 0
  return sum
}
