/** A small provisioning network for DHCP tests: one prefix, one machine, packets as clients send them, and leases kept in memory. */
import {type Cidr, type Ipv4, intToIpv4, ipv4ToInt, type Mac} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import {IngotError} from '../../lib/errors.ts'
import type {BindRequest, BindResult, Leases, ReleaseRequest, StoredLease} from '../../services/dhcpd/leases.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import {MESSAGE_TYPES, type MessageType, type OptionName, writeOption} from '../../services/dhcpd/options.ts'
import {BOOTREQUEST, NO_ADDRESS, type Packet} from '../../services/dhcpd/packet.ts'
import type {DhcpHost, DhcpPrefix, DhcpSnapshot} from '../../services/dhcpd/snapshot.ts'

export const NOW = new Date('2026-01-02T03:04:05Z')
export const MAC = '52:54:00:77:00:11' as Mac
export const STRANGER = '52:54:00:aa:bb:cc' as Mac
export const SERVER = '10.77.0.1' as Ipv4
export const ADDRESS = '10.77.0.50' as Ipv4
export const BOOT_URL = 'http://10.77.0.1:8480'

export const PREFIX: DhcpPrefix = {
  id: 'lab',
  cidr: '10.77.0.0/22' as Cidr,
  gateway: '10.77.0.1' as Ipv4,
  dns: ['10.77.0.2' as Ipv4],
  boot_url: BOOT_URL,
  lease_s: 600,
  interface: 'br0',
  routerAdvertisement: true,
  relays: [],
  window: null,
  dynamicRanges: [{first: '10.77.2.10' as Ipv4, last: '10.77.2.20' as Ipv4}],
}

export const OPEN_WINDOW = {id: 'w1', until: new Date(NOW.getTime() + 3_600_000)}

export const HOST: DhcpHost = {
  machineId: 'm1',
  name: 'server0001',
  hostname: 'server0001',
  address: ADDRESS,
  prefixId: 'lab',
  watched: true,
}

export const ARRIVAL: Arrival = {interface: 'br0', addresses: [SERVER], ownAddresses: [SERVER, '192.0.2.9' as Ipv4]}

export function makeSnapshot(prefix: Partial<DhcpPrefix> = {}, hosts: readonly (readonly [Mac, DhcpHost])[] = [[MAC, HOST]]) {
  return {prefixes: [{...PREFIX, ...prefix}], hosts: new Map(hosts)} satisfies DhcpSnapshot
}

type OptionValues = {[N in OptionName]?: Parameters<typeof writeOption<N>>[2]}

export function makeRequest(
  message: MessageType | null,
  options: OptionValues = {},
  header: Partial<Packet> & {readonly mac?: Mac} = {},
): Packet {
  const {mac = MAC, ...fields} = header
  const map = new Map<number, Uint8Array>()
  if (message !== null) writeOption(map, 'message_type', MESSAGE_TYPES.indexOf(message))
  for (const [name, value] of Object.entries(options)) writeOption(map, name as OptionName, value as never)
  return {
    op: BOOTREQUEST,
    htype: 1,
    hlen: 6,
    hops: 0,
    xid: 0x01020304,
    secs: 7,
    flags: 0,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: NO_ADDRESS,
    chaddr: Buffer.concat([parseHex(mac)!, Buffer.alloc(10)]),
    sname: '',
    file: '',
    options: map,
    ...fields,
  }
}

/** What each kind of client puts into its packets (seen in test/fixtures/pcap). */
export const CLIENTS = {
  biosRom: {vendor_class: 'PXEClient:Arch:00000:UNDI:002001', client_architecture: [0], parameter_request_list: [1, 3, 66, 67]},
  uefiRom: {vendor_class: 'PXEClient:Arch:00007:UNDI:003000', client_architecture: [7], parameter_request_list: [1, 3, 66, 67]},
  uefiHttp: {vendor_class: 'HTTPClient:Arch:00016:UNDI:003000', client_architecture: [16], parameter_request_list: [1, 3, 67]},
  ipxe: {
    vendor_class: 'PXEClient:Arch:00007:UNDI:003010',
    client_architecture: [7],
    user_class: Buffer.from('iPXE'),
    parameter_request_list: [1, 3, 6, 60, 66, 67, 175],
  },
  os: {parameter_request_list: [1, 3, 6, 12, 15]},
} satisfies Record<string, OptionValues>

/** Leases in memory: what ipam does with PostgreSQL, without its durability. `state` is open to the test. */
export function createMemoryLeases(snapshot: () => DhcpSnapshot, latency_ms = 0) {
  const state = {
    away: false,
    holders: new Map<Ipv4, Mac>(),
    offers: new Map<Mac, Ipv4>(),
    leases: new Map<Mac, StoredLease>(),
    batches: [] as (readonly BindRequest[])[],
    finds: 0,
    released: [] as ReleaseRequest[],
    declined: [] as ReleaseRequest[],
  }
  const guard = async () => {
    if (latency_ms > 0) await new Promise(resolve => setTimeout(resolve, latency_ms))
    if (state.away) throw new IngotError('DATABASE_AWAY', 'switched off by the test')
  }
  const isFree = (address: Ipv4, mac: Mac) =>
    (state.holders.get(address) ?? mac) === mac &&
    ![...state.offers].some(([other, offered]) => offered === address && other !== mac)

  function bindOne(request: BindRequest): BindResult {
    const {mac, address, prefixId, kind, machineId} = request
    if ((state.holders.get(address) ?? mac) !== mac) return {refused: 'taken'}
    state.holders.set(address, mac)
    const expires_at = new Date(request.now.getTime() + request.lease_s * 1000)
    state.leases.set(mac, {address, prefixId, kind, machineId, expires_at})
    return {bound: true}
  }

  const leases: Leases = {
    async bind(requests) {
      state.batches.push(requests)
      await guard()
      return requests.map(bindOne)
    },
    async offerDynamic({mac, prefixId, requested}) {
      if (state.away) return 'away'
      await guard()
      const ranges = snapshot().prefixes.find(prefix => prefix.id === prefixId)?.dynamicRanges ?? []
      const pool = ranges.flatMap(({first, last}) =>
        Array.from({length: ipv4ToInt(last) - ipv4ToInt(first) + 1}, (_, index) => intToIpv4(ipv4ToInt(first) + index)),
      )
      const current = state.leases.get(mac)?.address
      const wishes = [current, state.offers.get(mac), requested, ...pool].filter(wish => wish && pool.includes(wish))
      const address = wishes.find(wish => wish && isFree(wish, mac))
      if (!address) return 'full'
      state.offers.set(mac, address)
      return address
    },
    async find(mac) {
      state.finds++
      await guard()
      return state.leases.get(mac) ?? null
    },
    async release(request) {
      await guard()
      state.released.push(request)
      state.leases.delete(request.mac)
      state.offers.delete(request.mac)
      state.holders.delete(request.address)
    },
    async decline(request) {
      await guard()
      state.declined.push(request)
      state.leases.delete(request.mac)
      state.offers.delete(request.mac)
      state.holders.set(request.address, 'declined' as Mac)
    },
  }
  return {leases, state}
}
