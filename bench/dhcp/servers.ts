/** The peers, as Debian ships them: how each is configured and started, on empty state. One row adds one. */
import {chmodSync, mkdirSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import type {LabProcess} from '../../lab/network.ts'
import {startKeaDatabase} from './kea-database.ts'
import {SERVER, SERVER_LINK, type Wires} from './wires.ts'

export type Running = {
  readonly pid: number
  /** A database beside it, whose use is counted apart. */
  readonly databasePid: number | null
  /** By command line: the process that answers DHCP, where others belong to the server too; its memory is what counts. */
  readonly answers?: (command: string) => boolean
  stop(): Promise<void>
}

export type Peer = {
  readonly name: string
  /** Gets the 8 MiB receive buffer that an administrator would give it. */
  readonly tuned: boolean
  /** Where the search for its highest rate begins, DORA/s. */
  readonly from: number
  start(wires: Wires, dir: string, env: Readonly<Record<string, string>>): Promise<Running>
}

const FIRST = '10.77.1.0'
const LAST = '10.77.255.254'
const LEASE_S = 3600

export const PEERS: readonly Peer[] = [
  {name: 'kea memfile tuned', tuned: true, from: 5000, start: kea({backend: 'memfile', threads: false})},
  {name: 'kea memfile', tuned: false, from: 1500, start: kea({backend: 'memfile', threads: true})},
  {name: 'kea postgresql tuned', tuned: true, from: 600, start: kea({backend: 'postgresql', threads: true})},
  {name: 'kea postgresql', tuned: false, from: 250, start: kea({backend: 'postgresql', threads: true})},
  {name: 'dnsmasq', tuned: true, from: 250, start: dnsmasq},
  {name: 'isc dhcpd', tuned: true, from: 500, start: isc},
]

type KeaWay = {readonly backend: 'memfile' | 'postgresql'; readonly threads: boolean}

/** Single-threaded it is fastest where it has one core, and with PostgreSQL its threads pay. */
function kea({backend, threads}: KeaWay): Peer['start'] {
  return async (wires, dir, env) => {
    const database = backend === 'postgresql' ? await startKeaDatabase(wires, join(dir, 'database')) : undefined
    const leases = database?.settings ?? {type: 'memfile', persist: true, name: join(dir, 'leases.csv'), 'lfc-interval': 3600}
    const config = {
      'interfaces-config': {interfaces: [SERVER_LINK], 'dhcp-socket-type': 'udp'},
      'lease-database': leases,
      'multi-threading': {'enable-multi-threading': threads, 'thread-pool-size': 2, 'packet-queue-size': 64},
      'valid-lifetime': LEASE_S,
      'option-data': [{name: 'domain-name-servers', data: SERVER}],
      'next-server': SERVER,
      'boot-file-name': 'ipxe.efi',
      subnet4: [
        {
          id: 1,
          subnet: '10.77.0.0/16',
          pools: [{pool: `${FIRST}-${LAST}`}],
          'option-data': [{name: 'routers', data: SERVER}],
        },
      ],
      loggers: [{name: 'kea-dhcp4', output_options: [{output: join(dir, 'kea.log')}], severity: 'ERROR'}],
    }
    const file = join(dir, 'kea.json')
    writeFileSync(file, JSON.stringify({Dhcp4: config}))
    const places = {KEA_PIDFILE_DIR: dir, KEA_LOCKFILE_DIR: 'none', KEA_LOGGER_DESTINATION: join(dir, 'kea.log')}
    const server = wires.startServer(['kea-dhcp4', '-c', file], {env: {...env, ...places}, logFile: join(dir, 'out.log')})
    return {
      pid: server.pid,
      databasePid: database?.pid ?? null,
      async stop() {
        await server.stop()
        await database?.stop()
      },
    }
  }
}

/** It pings each address before it offers it, a second a time, unless told not to. */
async function dnsmasq(wires: Wires, dir: string, env: Readonly<Record<string, string>>): Promise<Running> {
  const options = [
    '--conf-file=/dev/null',
    '--keep-in-foreground',
    '--user=root',
    '--port=0',
    `--interface=${SERVER_LINK}`,
    '--bind-interfaces',
    '--no-ping',
    `--dhcp-range=${FIRST},${LAST},255.255.0.0,${LEASE_S}`,
    '--dhcp-lease-max=70000',
    `--dhcp-leasefile=${join(dir, 'leases')}`,
    '--dhcp-authoritative',
    `--dhcp-boot=ipxe.efi,boot,${SERVER}`,
    `--log-facility=${join(dir, 'dnsmasq.log')}`,
    '--quiet-dhcp',
    `--pid-file=${join(dir, 'pid')}`,
  ]
  return running(wires.startServer(['dnsmasq', ...options], {env, logFile: join(dir, 'out.log')}))
}

/** With delayed acknowledgements, its own way of committing in groups. */
async function isc(wires: Wires, dir: string, env: Readonly<Record<string, string>>): Promise<Running> {
  const file = join(dir, 'dhcpd.conf')
  const leases = join(dir, 'leases')
  writeFileSync(leases, '')
  writeFileSync(
    file,
    `authoritative; ping-check false; default-lease-time ${LEASE_S}; max-lease-time ${LEASE_S}; log-facility local7;
delayed-ack 28; max-ack-delay 250000;
subnet 10.77.0.0 netmask 255.255.0.0 {
  range ${FIRST} ${LAST}; option routers ${SERVER}; option domain-name-servers ${SERVER};
  next-server ${SERVER}; filename "ipxe.efi";
}
`,
  )
  const command = ['dhcpd', '-4', '-f', '-q', '-cf', file, '-lf', leases, '-pf', join(dir, 'pid'), SERVER_LINK]
  return running(wires.startServer(command, {env, logFile: join(dir, 'out.log')}))
}

export function makeStateDir(wires: Wires, name: string): string {
  const dir = join(wires.dir, name.replaceAll(/\W+/g, '-'))
  mkdirSync(dir, {recursive: true})
  // What gives up root must still reach its files.
  for (const path of [wires.dir, dir]) chmodSync(path, 0o755)
  return dir
}

function running(server: LabProcess): Running {
  return {pid: server.pid, databasePid: null, stop: () => server.stop()}
}
