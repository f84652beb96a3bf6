/** The server on an ordinary socket: it listens, counts, survives what it is sent, and closes. Real clients are in test/lab. */
import {createSocket} from 'node:dgram'
import {afterEach, describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {createDhcpServer, type DhcpServer, type DhcpServerDeps} from '../../services/dhcpd/index.ts'
import {encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {ADDRESS, createMemoryLeases, makeRequest, makeSnapshot} from '../support/dhcp-world.ts'

const LOOPBACK = '127.0.0.1' as Ipv4
const snapshot = makeSnapshot({relays: [LOOPBACK], interface: 'none'})

let server: DhcpServer | undefined

afterEach(async () => {
  await server?.close()
  server = undefined
})

async function freePort(): Promise<number> {
  const probe = createSocket('udp4')
  await new Promise<void>(resolve => probe.bind(0, LOOPBACK, resolve))
  const {port} = probe.address()
  await new Promise<void>(resolve => probe.close(resolve))
  return port
}

function build(port: number, more: Partial<DhcpServerDeps> = {}): DhcpServer {
  return createDhcpServer({
    sockets: [{interface: 'lo', address: LOOPBACK, port}],
    snapshot: () => snapshot,
    leases: createMemoryLeases(() => snapshot, 20).leases,
    sightings: () => undefined,
    evidence: () => undefined,
    log: silentLog,
    clock: systemClock,
    ...more,
  })
}

async function send(port: number, ...packets: readonly (Packet | Buffer)[]): Promise<void> {
  const socket = createSocket('udp4')
  for (const packet of packets) {
    const bytes = Buffer.isBuffer(packet) ? packet : encodePacket(packet).bytes
    await new Promise<void>((resolve, reject) => socket.send(bytes, port, LOOPBACK, error => (error ? reject(error) : resolve())))
  }
  await new Promise<void>(resolve => socket.close(resolve))
}

describe('createDhcpServer', () => {
  it('answers a relay on the list and counts what it answered and ignored', async () => {
    const port = await freePort()
    server = build(port)
    await server.start()
    const relayed = {giaddr: LOOPBACK}
    await send(port, Buffer.from('hello'), makeRequest('DISCOVER'), makeRequest('DISCOVER', {}, relayed))
    await expect.poll(() => server?.counters().get('sent.OFFER')).toBe(1)
    expect(Object.fromEntries(server.counters())).toMatchObject({received: 3, 'ignored.too_short': 1, 'ignored.unserved_link': 1})
  })

  it('answers a packet that waits for its bind before it closes', async () => {
    const port = await freePort()
    server = build(port)
    await server.start()
    await send(port, makeRequest('REQUEST', {requested_address: ADDRESS}, {giaddr: LOOPBACK}))
    await expect.poll(() => server?.counters().get('received')).toBe(1)
    await server.close()
    expect(Object.fromEntries(server.counters())).toMatchObject({'bind.bound': 1, 'sent.ACK': 1})
  })

  it('rejects the start when its port is taken', async () => {
    const port = await freePort()
    server = build(port)
    await server.start()
    await expect(build(port).start()).rejects.toMatchObject({code: 'EADDRINUSE'})
  })
})
