/**
 * dhcpd as a process for lab tests: `node dhcp-lab-server.ts CONFIG.json` inside a network namespace. Real sockets, a snapshot from the
 * file, leases in memory, and a boot HTTP server of two lines. Says what happens as JSON lines on standard output.
 *
 * `POST /control {"away": true, "window": true, "routerAdvertisement": false}` on the boot port changes the world.
 */
import {readFileSync} from 'node:fs'
import {createServer} from 'node:http'
import type {Mac} from '../../lib/addresses.ts'
import {systemClock} from '../../lib/clock.ts'
import {createLog} from '../../lib/log.ts'
import {createDhcpServer, type DhcpHost, type DhcpPrefix, type DhcpSnapshot} from '../../services/dhcpd/index.ts'
import {openDhcpSocket, openProxyDhcpSocket, openRouterAdvertisementSocket} from '../../services/supervisor/sockets.ts'
import {createMemoryLeases} from './dhcp-world.ts'

export type LabServerConfig = {
  readonly interfaces: readonly string[]
  readonly prefixes: readonly DhcpPrefix[]
  readonly hosts: readonly (readonly [string, DhcpHost])[]
}

const HOUR_MS = 3_600_000
const config = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as LabServerConfig
const hosts = new Map(config.hosts as readonly (readonly [Mac, DhcpHost])[])
let snapshot: DhcpSnapshot = {prefixes: config.prefixes, hosts}

function say(event: string, detail: object = {}): void {
  process.stdout.write(`${JSON.stringify({event, at_ms: Date.now(), ...detail})}\n`)
}

const {leases, state} = createMemoryLeases(() => snapshot)
const server = createDhcpServer({
  sockets: config.interfaces.map(name => ({interface: name, fd: openDhcpSocket(name)})),
  proxySockets: config.interfaces.map(name => ({interface: name, fd: openProxyDhcpSocket(name)})),
  raSockets: config.interfaces.flatMap(name => {
    const fd = openRouterAdvertisementSocket(name)
    return fd === undefined ? [] : [{interface: name, fd}]
  }),
  snapshot: () => snapshot,
  leases: {
    ...leases,
    async bind(requests) {
      const results = await leases.bind(requests)
      for (const [index, request] of requests.entries()) say('bind', {request, result: results[index]})
      return results
    },
  },
  sightings: sighting => say('sighting', sighting),
  evidence: evidence => say('evidence', evidence),
  log: createLog('dhcp-lab', 'debug'),
  clock: systemClock,
})

type Control = {
  readonly away?: boolean
  readonly window?: boolean
  readonly routerAdvertisement?: boolean
  readonly lease_s?: number
}

function control({away, window, routerAdvertisement, lease_s}: Control): void {
  if (away !== undefined) state.away = away
  const prefixes = snapshot.prefixes.map(prefix => ({
    ...prefix,
    ...(window === undefined ? {} : {window: window ? {id: 'lab', until: new Date(Date.now() + HOUR_MS)} : null}),
    ...(routerAdvertisement === undefined ? {} : {routerAdvertisement}),
    ...(lease_s === undefined ? {} : {lease_s}),
  }))
  snapshot = {prefixes, hosts}
}

const http = createServer((request, response) => {
  say('http', {method: request.method, url: request.url})
  if (request.method !== 'POST') return response.end('#!ipxe\necho lab script\npoweroff\n')
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    control(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Control)
    response.end(
      JSON.stringify({counters: Object.fromEntries(server.counters()), released: state.released, declined: state.declined}),
    )
  })
})

await server.start()
http.listen(8480, '0.0.0.0', () => say('ready'))
process.on('SIGTERM', () => {
  http.close()
  void server.close().then(() => process.exit(0))
})
