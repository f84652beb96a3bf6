/** What mutation starts from: every DHCP datagram in the captures, and clients of each kind in each state as the fuzz world knows them. */
import type {Ipv4} from '../../lib/addresses.ts'
import {encodePacket} from '../../services/dhcpd/packet.ts'
import {CLIENTS, makeRequest} from '../../test/support/dhcp-world.ts'
import {listCaptures, readDhcp} from '../../test/support/pcap.ts'
import {MACHINES, RELAY, SERVER, STRANGERS} from './world.ts'

/** Largest payload that a seed is encoded for. */
const ROOM_OCTETS = 1472

export function collectSeeds(): readonly Buffer[] {
  const captured = listCaptures().flatMap(name => readDhcp(name).map(({payload}) => payload))
  return [...captured, ...craftRequests()]
}

function craftRequests(): Buffer[] {
  const macs = [...MACHINES.map(({mac}) => mac), ...STRANGERS.slice(0, 2)]
  const packets = macs.flatMap((mac, index) => {
    const address = MACHINES[index]?.address ?? ('10.79.0.20' as Ipv4)
    const relayed = {mac, giaddr: RELAY}
    const options82 = {relay_agent_information: new Map([[1, Buffer.from('port-7')]])}
    return Object.values(CLIENTS).flatMap(client => [
      makeRequest('DISCOVER', client, {mac}),
      makeRequest('DISCOVER', {...client, ...options82, maximum_message_size: 1472}, relayed),
      makeRequest('REQUEST', {...client, requested_address: address, server_identifier: SERVER}, {mac, flags: 0x8000}),
      makeRequest('REQUEST', {...client, requested_address: address}, {mac}),
      makeRequest(
        'REQUEST',
        {...client, client_identifier: Buffer.from('ff00770020000200000ab1', 'hex')},
        {mac, ciaddr: address},
      ),
      makeRequest('INFORM', client, {mac, ciaddr: address}),
      makeRequest('RELEASE', {server_identifier: SERVER}, {mac, ciaddr: address}),
      makeRequest('DECLINE', {server_identifier: SERVER, requested_address: address}, {mac}),
    ])
  })
  const bootp = macs.slice(0, 2).map(mac => makeRequest(null, {}, {mac}))
  return [...packets, ...bootp].map(packet => encodePacket(packet, ROOM_OCTETS).bytes)
}
