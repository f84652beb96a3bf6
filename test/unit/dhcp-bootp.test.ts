/** BOOTP by policy (RFC 951, 1542, 1534): nothing, or known machines their address for good. */
import {describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {compileOptions, type DhcpScope} from '../../services/dhcpd/option-values.ts'
import {describeOptions} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, replyLimit} from '../../services/dhcpd/packet.ts'
import {buildBootpReply} from '../../services/dhcpd/reply.ts'
import type {DhcpPrefix} from '../../services/dhcpd/snapshot.ts'
import {
  ADDRESS,
  ARRIVAL,
  HOST,
  MAC,
  makeRequest,
  makeSnapshot,
  NOW,
  OPEN_WINDOW,
  SERVER,
  STRANGER,
} from '../support/dhcp-world.ts'

const STATIC: Partial<DhcpPrefix> = {bootp: 'static'}
const RELAY = '10.77.0.254' as Ipv4

const answerTo = (prefix: Partial<DhcpPrefix>, request = makeRequest(null)) =>
  decide(request, ARRIVAL, makeSnapshot(prefix), {}, NOW).answer

function sent(prefix: Partial<DhcpPrefix>, request = makeRequest(null)) {
  const answer = answerTo(prefix, request)
  if (!('bootp' in answer)) throw new Error(JSON.stringify(answer))
  const {bytes, omitted} = encodePacket(buildBootpReply(request, answer.bootp), replyLimit(request), false)
  const packet = decodePacket(bytes)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return {...packet, bytes, omitted, named: describeOptions(packet.options)}
}

function scope(values: Record<string, unknown>, loaders = {}): DhcpScope {
  const stored = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, {value, always: false}]))
  return {kind: 'prefix', name: 'p', options: compileOptions(stored).options, loaders}
}

describe('BOOTP', () => {
  it('W44 is ignored unless the prefix says static, and then serves known machines only, window or not', () => {
    expect(answerTo({})).toEqual({ignored: 'bootp'})
    expect(answerTo({bootp: 'ignored'})).toEqual({ignored: 'bootp'})
    expect(answerTo({...STATIC, window: OPEN_WINDOW}, makeRequest(null, {}, {mac: STRANGER}))).toEqual({ignored: 'bootp'})
    expect(answerTo({...STATIC, mode: 'proxy'})).toEqual({ignored: 'bootp'})
    expect(answerTo(STATIC)).toMatchObject({bootp: {address: ADDRESS, machineId: 'm1'}})
  })

  it('W44 gives the machine’s address without a lease, a server identifier or any option that only DHCP knows', () => {
    const reply = sent(STATIC, makeRequest(null, {client_identifier: Buffer.from('01', 'hex')}))
    expect(reply).toMatchObject({op: 2, yiaddr: ADDRESS, siaddr: '0.0.0.0', file: '', xid: 0x01020304})
    expect(reply.named).toEqual({
      subnet_mask: '255.255.252.0',
      routers: ['10.77.0.1'],
      dns_servers: ['10.77.0.2'],
      broadcast_address: '10.77.3.255',
      host_name: 'server0001',
    })
  })

  it('W44 a packet whose message type is malformed is no BOOTP', () => {
    const request = makeRequest(null)
    expect(answerTo(STATIC, {...request, options: new Map([[53, Uint8Array.of(1, 1)]])})).toEqual({
      ignored: 'unknown_message_type',
    })
  })

  it('W46 W30 is answered with exactly 300 octets, never with option 52; what has no room is left out', () => {
    const long = scope({root_path: 'x'.repeat(40), merit_dump_file: 'y'.repeat(21)})
    const reply = sent({...STATIC, scopes: [long]})
    expect(reply.bytes).toHaveLength(300)
    expect(reply.omitted).toEqual([17])
    expect(reply.options.has(52)).toBe(false)
    expect(reply.named).toMatchObject({routers: ['10.77.0.1'], host_name: 'server0001'})
    expect(reply).toMatchObject({file: '', sname: ''})
  })

  it('names a boot file only where one is set for BOOTP clients', () => {
    const reply = sent({...STATIC, scopes: [scope({}, {bootp: 'undionly.kpxe', bios: 'other'})]})
    expect(reply).toMatchObject({file: 'undionly.kpxe', siaddr: SERVER})
  })

  it('W7 W34 goes back through its relay, with what the relay added', () => {
    const relay_agent_information = new Map([[1, Buffer.from('eth1')]])
    const reply = sent({...STATIC, relays: [RELAY]}, makeRequest(null, {relay_agent_information}, {giaddr: RELAY}))
    expect(reply).toMatchObject({giaddr: RELAY, yiaddr: ADDRESS})
    expect(reply.options.get(82)).toEqual(Buffer.from('010465746831', 'hex'))
  })

  it('W44 of a machine whose prefix is elsewhere, or that is not Ethernet, hears nothing', () => {
    const away = makeSnapshot(STATIC, [[MAC, {...HOST, prefixId: 'away'}]])
    expect(decide(makeRequest(null), ARRIVAL, away, {}, NOW).answer).toEqual({ignored: 'bootp'})
    expect(answerTo(STATIC, makeRequest(null, {}, {htype: 6}))).toEqual({ignored: 'hardware_type'})
  })
})
