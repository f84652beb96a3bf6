/**
 * dhcpd against clients and a relay that nobody here wrote.
 *
 *     namespace server          namespace client (dhclient, udhcpc, dhcpcd, systemd-networkd)
 *       br0  10.77.0.1/22 ────── eth0
 *        └ tap0 ── QEMU         namespace relay (dhcrelay)
 *       uplink 10.88.0.1/30 ──── uplink 10.88.0.2/30 · downlink 10.78.0.254/24 ── eth1 of client
 */
import {existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {fileURLToPath} from 'node:url'
import {afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFailed} from 'vitest'
import {runCommand} from '../../lab/commands.ts'
import {createQemuMachine, type LabMachine} from '../../lab/machine.ts'
import {cleanupStale, createLabNetwork, type LabNetwork, type LabProcess} from '../../lab/network.ts'
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import type {DhcpHost, DhcpPrefix} from '../../services/dhcpd/index.ts'
import {encodePacket} from '../../services/dhcpd/packet.ts'
import type {LabServerConfig} from '../support/dhcp-lab-server.ts'
import {CLIENTS, makeRequest} from '../support/dhcp-world.ts'

const PREFIX = `dhw-${process.pid}`
const NODE = fileURLToPath(new URL('../../bin/node.sh', import.meta.url))
const SERVER_SCRIPT = fileURLToPath(new URL('../support/dhcp-lab-server.ts', import.meta.url))
const CLIENT_MAC = '52:54:00:77:00:20'
const STRANGER_MAC = '52:54:00:77:00:66'
const REMOTE_MAC = '52:54:00:77:00:21'
const QEMU_MAC = '52:54:00:77:00:30'
const QEMU_LINK_LOCAL = 'fe80::5054:ff:fe77:30'
const DEADLINE_MS = 120_000
const LEASE_S = 600
/** Short enough to see a client renew. */
const SHORT_LEASE_S = 8
const HOSTS: Readonly<Record<string, DhcpHost>> = {
  [CLIENT_MAC]: host('m-client', 'client1', '10.77.0.50', 'local'),
  [REMOTE_MAC]: host('m-remote', 'remote1', '10.78.0.50', 'remote'),
  [QEMU_MAC]: host('m-qemu', 'qemu1', '10.77.0.60', 'local'),
}

function host(machineId: string, name: string, address: string, prefixId: string): DhcpHost {
  return {machineId, name, hostname: name, address: address as Ipv4, prefixId, watched: true}
}

function prefix(id: string, cidr: string, gateway: string, more: Partial<DhcpPrefix>): DhcpPrefix {
  const range = cidr.replace(/\.\d+\.0\/\d+$/, '')
  return {
    id,
    cidr: cidr as Cidr,
    gateway: gateway as Ipv4,
    dns: [gateway as Ipv4],
    boot_url: 'http://10.77.0.1:8480',
    lease_s: LEASE_S,
    routerAdvertisement: true,
    relays: [],
    window: null,
    dynamicRanges: [{first: `${range}.1.10` as Ipv4, last: `${range}.1.20` as Ipv4}],
    domain: 'lab.example',
    ...more,
  }
}

const CONFIG: LabServerConfig = {
  interfaces: ['br0', 'uplink'],
  prefixes: [
    prefix('local', '10.77.0.0/22', '10.77.0.1', {interface: 'br0'}),
    prefix('remote', '10.78.0.0/24', '10.78.0.254', {relays: ['10.78.0.254' as Ipv4]}),
  ],
  hosts: Object.entries(HOSTS),
}

type Event = {readonly event: string; readonly at_ms: number; readonly [key: string]: unknown}
type LabServer = {
  readonly process: LabProcess
  readonly events: Event[]
  readonly errors: () => string
  /** Waits for an event after the first `since`. */
  until(what: string, match: (event: Event) => boolean, since?: number): Promise<Event>
}

const runDir = mkdtempSync(join(tmpdir(), 'dhw-runs-'))
let network: LabNetwork
let client: LabNetwork
let relay: LabNetwork
let server: LabServer

beforeAll(async () => {
  const make = (name: string, bridgeAddress: string, taps = 0) =>
    createLabNetwork({name: `${PREFIX}-${name}`, bridgeAddress, taps, runDir})
  network = await make('server', '10.77.0.1/22', 1)
  client = await make('client', '192.0.2.1/32')
  relay = await make('relay', '192.0.2.2/32')
  await connect(network, 'to-client', client, 'eth0')
  await connect(network, 'uplink', relay, 'uplink')
  await connect(relay, 'downlink', client, 'eth1')
  await network.exec(['ip', 'link', 'set', 'to-client', 'master', 'br0'])
  await network.exec(['ip', 'addr', 'add', '10.88.0.1/30', 'dev', 'uplink'])
  await network.exec(['ip', 'route', 'add', '10.78.0.0/24', 'via', '10.88.0.2'])
  await relay.exec(['ip', 'addr', 'add', '10.88.0.2/30', 'dev', 'uplink'])
  await relay.exec(['ip', 'addr', 'add', '10.78.0.254/24', 'dev', 'downlink'])
  await relay.exec(['ip', 'route', 'add', 'default', 'via', '10.88.0.1'])
  await relay.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=1'])
  await until('the bridge has its link-local address', async () => {
    const {stdout} = await network.exec(['ip', '-6', '-o', 'addr', 'show', 'dev', 'br0'])
    return /fe80::/.test(stdout) && !stdout.includes('tentative')
  })
  server = await startServer()
})

afterAll(async () => {
  for (const each of [client, relay, network]) await each?.close()
  await cleanupStale(PREFIX, runDir)
  rmSync(runDir, {recursive: true, force: true})
})

beforeEach(async () => {
  onTestFailed(() => console.log(server.errors().slice(-6000)))
  await control({away: false, window: false, routerAdvertisement: true, lease_s: LEASE_S})
  await setMac('eth0', CLIENT_MAC)
  await setMac('eth1', REMOTE_MAC)
})

async function connect(left: LabNetwork, leftName: string, right: LabNetwork, rightName: string): Promise<void> {
  const ends = ['name', leftName, 'type', 'veth', 'peer', 'name', rightName, 'netns', right.name]
  await runCommand(['ip', '-n', left.name, 'link', 'add', ...ends])
  await left.exec(['ip', 'link', 'set', leftName, 'up'])
  await right.exec(['ip', 'link', 'set', rightName, 'up'])
}

async function setMac(name: string, mac: string): Promise<void> {
  await client.exec(['ip', 'link', 'set', name, 'down'])
  await client.exec(['ip', 'link', 'set', name, 'address', mac])
  await client.exec(['ip', 'addr', 'flush', 'dev', name])
  await client.exec(['ip', 'link', 'set', name, 'up'])
}

async function startServer(): Promise<LabServer> {
  const configFile = join(network.dir, 'dhcp.json')
  writeFileSync(configFile, JSON.stringify(CONFIG))
  const running = network.spawn(['sh', NODE, SERVER_SCRIPT, configFile])
  const events: Event[] = []
  const errors: string[] = []
  if (running.child.stdout) createInterface(running.child.stdout).on('line', line => events.push(JSON.parse(line) as Event))
  running.child.stderr?.on('data', chunk => errors.push(String(chunk)))
  const started: LabServer = {
    process: running,
    events,
    errors: () => errors.join(''),
    async until(what, match, since = 0) {
      await until(what, () => events.slice(since).some(match))
      return events.slice(since).find(match) as Event
    },
  }
  await started
    .until('the server listens', ({event}) => event === 'ready')
    .catch(error => {
      throw new Error(errors.join(''), {cause: error})
    })
  return started
}

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`never came to pass: ${what}`)
    await sleep(50)
  }
}

let marks = 0

/** Evidence of what happened during `work`: the server's own output says where it begins and ends. */
async function evidenceDuring(work: () => Promise<unknown>): Promise<Event[]> {
  const mark = async () => {
    const url = `/control?${++marks}`
    await network.exec(['curl', '-sf', '-d', '{}', `http://10.77.0.1:8480${url}`])
    return server.events.indexOf(await server.until('a mark', event => event.url === url))
  }
  const from = await mark()
  await work()
  return server.events.slice(from, await mark()).filter(({event}) => event === 'evidence')
}

type Status = {counters: Record<string, number>; released: {address: string}[]; declined: {address: string}[]}

async function control(change: object): Promise<Status> {
  const {stdout} = await network.exec(['curl', '-sf', '-d', JSON.stringify(change), 'http://10.77.0.1:8480/control'])
  return JSON.parse(stdout) as Status
}

/** A script in place of the client's own, which would rewrite this host's resolv.conf: keeps what it was told, sets the address. */
function clientScript(output: string, address: string, mask: string): string {
  const path = join(client.dir, 'client-script')
  writeFileSync(
    path,
    `#!/bin/sh
env | sort >${output}.$1$reason
[ -z "${address}" ] || ip addr replace "${address}/${mask}" dev "$interface"
exit 0
`,
    {mode: 0o755},
  )
  return path
}

function readTold(path: string): Record<string, string> {
  const lines = readFileSync(path, 'utf8').split('\n')
  return Object.fromEntries(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

/** One run of busybox udhcpc; what its script was told, or undefined when it got no lease. */
async function udhcpc(device: string, ...more: string[]): Promise<Record<string, string> | undefined> {
  const output = join(client.dir, 'udhcpc')
  rmSync(`${output}.bound`, {force: true})
  const script = clientScript(output, '$ip', '$mask')
  await client.exec(['busybox', 'udhcpc', '-f', '-q', '-n', '-t', '4', '-T', '1', '-i', device, '-s', script, ...more], {
    anyExit: true,
  })
  return existsSync(`${output}.bound`) ? readTold(`${output}.bound`) : undefined
}

describe('dhclient', () => {
  const files = () => ['-lf', join(client.dir, 'leases'), '-pf', join(client.dir, 'dhclient.pid')]
  const script = () => clientScript(join(client.dir, 'dhclient'), '$new_ip_address', '$new_subnet_mask')
  const run = (...args: string[]) => client.exec(['dhclient', '-4', ...files(), '-sf', script(), ...args, 'eth0'])
  const told = (reason: string) => readTold(join(client.dir, `dhclient.${reason}`))

  afterEach(async () => {
    await run('-x').catch(() => undefined)
    rmSync(join(client.dir, 'leases'), {force: true})
  })

  it('gets the reserved address with router, DNS, domain and name', async () => {
    await run('-1')
    expect(told('BOUND')).toMatchObject({
      new_ip_address: '10.77.0.50',
      new_subnet_mask: '255.255.252.0',
      new_routers: '10.77.0.1',
      new_domain_name_servers: '10.77.0.1',
      new_domain_name: 'lab.example',
      new_host_name: 'client1',
      new_dhcp_lease_time: '600',
      new_dhcp_server_identifier: '10.77.0.1',
      new_broadcast_address: '10.77.3.255',
    })
  })

  it('W21 is confirmed in INIT-REBOOT, and gives its lease back', async () => {
    await run('-1')
    await run('-x')
    const seen = await evidenceDuring(() => run('-1'))
    expect(told('REBOOT')).toMatchObject({new_ip_address: '10.77.0.50'})
    expect(seen.map(({message, reply}) => [message, reply])).toEqual([['REQUEST', 'ACK']])
    await run('-r')
    await until('the release', async () => (await control({})).released.some(({address}) => address === '10.77.0.50'))
  })

  it('W21 is refused an address it remembers from elsewhere, and starts again', async () => {
    await run('-1')
    await run('-x')
    const leases = join(client.dir, 'leases')
    writeFileSync(leases, readFileSync(leases, 'utf8').replaceAll('10.77.0.50', '10.77.0.51'))
    const seen = await evidenceDuring(() => run('-1'))
    expect(told('BOUND')).toMatchObject({new_ip_address: '10.77.0.50'})
    expect(seen.map(({reply}) => reply)).toEqual(['NAK', 'OFFER', 'ACK'])
  })
})

describe('udhcpc', () => {
  it('W38 gets one address with no client id, with 01+MAC and with a DUID', async () => {
    const duid = '0x3d:ff00770020000200000ab1112233445566778899'
    const got: (Record<string, string> | undefined)[] = []
    const seen = await evidenceDuring(async () => {
      got.push(await udhcpc('eth0', '-C'), await udhcpc('eth0'), await udhcpc('eth0', '-C', '-x', duid))
    })
    expect(got.map(told => told?.ip)).toEqual(['10.77.0.50', '10.77.0.50', '10.77.0.50'])
    const requests = seen.filter(({message}) => message === 'REQUEST')
    expect(requests.map(({clientId}) => String(clientId).slice(0, 2))).toEqual(['nu', '01', 'ff'])
  })

  it('F2 is acknowledged for 120 s while the database is away', async () => {
    await control({away: true})
    expect(await udhcpc('eth0')).toMatchObject({ip: '10.77.0.50', lease: '120'})
    await control({away: false})
    expect(await udhcpc('eth0')).toMatchObject({lease: '600'})
  })

  it('hears nothing as a stranger, is sighted, and gets a dynamic address inside a window', async () => {
    await setMac('eth0', STRANGER_MAC)
    expect(await udhcpc('eth0')).toBeUndefined()
    await server.until('a sighting', ({event, mac}) => event === 'sighting' && mac === STRANGER_MAC)
    await control({window: true})
    expect((await udhcpc('eth0'))?.ip).toMatch(/^10\.77\.1\.1\d$/)
  })

  it('W2 is answered on port 67 only', async () => {
    const {counters: before} = await control({})
    const bytes = encodePacket(makeRequest('DISCOVER', CLIENTS.os, {mac: CLIENT_MAC as never, flags: 0x8000})).bytes
    const file = join(client.dir, 'discover')
    writeFileSync(file, bytes)
    await client.exec(['ip', 'addr', 'add', '10.77.0.99/22', 'dev', 'eth0'])
    const send = (port: number) => client.exec(['bash', '-c', `cat ${file} >/dev/udp/10.77.0.1/${port}`], {anyExit: true})
    await send(68)
    await send(67)
    await until('an OFFER', async () => ((await control({})).counters['sent.OFFER'] ?? 0) > (before['sent.OFFER'] ?? 0))
    const {counters: after} = await control({})
    expect((after.received ?? 0) - (before.received ?? 0)).toBe(1)
  })
})

/** A daemon with a /run of its own, so that it finds no other's files and leaves none. `shell` prepares what it wants to find there. */
function startDaemon(name: string, shell: string): LabProcess {
  const prepare = 'mount -t tmpfs tmpfs /run && mount -o remount,ro,bind /sys'
  return client.spawn(['unshare', '-m', 'sh', '-ec', `${prepare}; ${shell}`], {logFile: join(client.dir, `${name}.log`)})
}

/** The server's log gives the state of each REQUEST among its reasons. */
const renewals = () => server.errors().split('RENEWING or REBINDING 10.77.0.50').length - 1

/** A client sends its RELEASE and takes its address away at once: the packet would wait in vain for an answer to ARP. */
async function knowServer(): Promise<void> {
  const {stdout} = await network.exec(['ip', '-o', 'link', 'show', 'br0'])
  const mac = /link\/ether (\S+)/.exec(stdout)?.[1] ?? ''
  await client.exec(['ip', 'neigh', 'replace', '10.77.0.1', 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent'])
}

async function addressOn(device: string): Promise<string | undefined> {
  const {stdout} = await client.exec(['ip', '-4', '-o', 'addr', 'show', 'dev', device])
  return /inet ([\d.]+\/\d+) .*\bdynamic\b/.exec(stdout)?.[1]
}

async function releases(address: string): Promise<number> {
  return (await control({})).released.filter(released => released.address === address).length
}

/** What a whole visit of a client looks like: it gets its address, keeps it past T1, and gives it back when it is told to end. */
async function visit(start: () => LabProcess, end: (running: LabProcess) => Promise<unknown>): Promise<Event[]> {
  await control({lease_s: SHORT_LEASE_S})
  await knowServer()
  const before = {releases: await releases('10.77.0.50'), renewals: renewals()}
  return evidenceDuring(async () => {
    const running = start()
    try {
      await until('its address on the interface', async () => (await addressOn('eth0')) === '10.77.0.50/22')
      await until('a renewal', () => renewals() > before.renewals)
      await end(running)
      await until('the release', async () => (await releases('10.77.0.50')) > before.releases)
    } finally {
      await running.stop()
    }
  })
}

describe('dhcpcd', () => {
  const files = () => ({
    config: join(client.dir, 'dhcpcd.conf'),
    script: clientScript(join(client.dir, 'dhcpcd'), '', ''),
  })

  function start(identity: string): LabProcess {
    const {config, script} = files()
    writeFileSync(config, `${identity}\nipv4only\nnoarp\noption host_name, domain_name, domain_name_servers\n`)
    const words = `dhcpcd -4 -B -d -f ${config} -c ${script} eth0`
    return startDaemon('dhcpcd', `mkdir -p /run/dhcpcd; mount -t tmpfs tmpfs /var/lib/dhcpcd; exec ${words}`)
  }

  /** Told again until it listens: a signal that arrives while it is at work with its helper processes is lost on it. */
  async function release(running: LabProcess): Promise<void> {
    let hasEnded = false
    void running.exited.then(() => {
      hasEnded = true
    })
    await until('dhcpcd ends', async () => {
      if (!hasEnded) process.kill(running.pid, 'SIGALRM')
      await sleep(500)
      return hasEnded
    })
  }

  it('gets its address and options, renews, and releases when it is told to', async () => {
    const seen = await visit(() => start('clientid'), release)
    expect(readTold(join(client.dir, 'dhcpcd.BOUND'))).toMatchObject({
      new_ip_address: '10.77.0.50',
      new_subnet_mask: '255.255.252.0',
      new_routers: '10.77.0.1',
      new_domain_name_servers: '10.77.0.1',
      new_domain_name: 'lab.example',
      new_host_name: 'client1',
      new_dhcp_lease_time: String(SHORT_LEASE_S),
    })
    expect(seen.find(({reply}) => reply === 'ACK')?.clientId).toMatch(/^01:52:54/)
  })

  it('W38 gets the same address with a DUID', async () => {
    const seen = await visit(() => start('duid'), release)
    expect(seen.find(({reply}) => reply === 'ACK')?.clientId).toMatch(/^ff:/)
  })
})

describe('systemd-networkd', () => {
  function start(): LabProcess {
    const unit = '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nUseHostname=no\n'
    const prepare = `mkdir -p /run/systemd/network; printf '${unit.replaceAll('\n', '\\n')}' >/run/systemd/network/10-lab.network`
    return startDaemon('networkd', `${prepare}; SYSTEMD_LOG_LEVEL=debug exec /lib/systemd/systemd-networkd`)
  }

  it('W38 gets the same address as all the others, with router and DNS, renews, and releases when it ends', async () => {
    let lease = ''
    const seen = await visit(start, async running => {
      const words = ['nsenter', '-t', String(running.pid), '-m', 'sh', '-c', 'cat /run/systemd/netif/leases/*']
      lease = (await client.exec(words)).stdout
      await running.stop()
    })
    for (const line of [
      'ADDRESS=10.77.0.50',
      'ROUTER=10.77.0.1',
      'DNS=10.77.0.1',
      'DOMAINNAME=lab.example',
      'HOSTNAME=client1',
    ]) {
      expect(lease.split('\n')).toContain(line)
    }
    expect(seen.find(({reply}) => reply === 'ACK')?.clientId).toMatch(/^ff:/)
  })
})

describe('dhcrelay', () => {
  let dhcrelay: LabProcess

  beforeEach(() => {
    const words = ['dhcrelay', '-4', '-d', '-a', '-m', 'append', '-id', 'downlink', '-iu', 'uplink', '10.88.0.1']
    dhcrelay = relay.spawn(words, {logFile: join(relay.dir, 'dhcrelay.log')})
  })

  afterEach(() => dhcrelay.stop())

  it('W7 W34 carries requests and replies, with option 82, to a client on another link', async () => {
    const seen = await evidenceDuring(async () => {
      expect(await udhcpc('eth1')).toMatchObject({ip: '10.78.0.50', router: '10.78.0.254', serverid: '10.88.0.1'})
    })
    expect(seen.find(({reply}) => reply === 'ACK')).toMatchObject({
      machineId: 'm-remote',
      prefixId: 'remote',
      interface: 'uplink',
      relay: {giaddr: '10.78.0.254', circuitId: '64:6f:77:6e:6c:69:6e:6b'},
    })
  })

  it('the client behind it renews by unicast, past the relay', async () => {
    const output = join(client.dir, 'renewing')
    const words = ['busybox', 'udhcpc', '-f', '-t', '4', '-T', '1', '-i', 'eth1', '-s', clientScript(output, '$ip', '$mask')]
    const seen = await evidenceDuring(async () => {
      const running = client.spawn(words, {logFile: join(client.dir, 'udhcpc.log')})
      await until('a lease', () => existsSync(`${output}.bound`))
      await client.exec(['ip', 'route', 'replace', 'default', 'via', '10.78.0.254'])
      process.kill(running.pid, 'SIGUSR1')
      await until('the renewal', () => existsSync(`${output}.renew`))
      await running.stop()
    })
    const acks = seen.filter(({reply}) => reply === 'ACK')
    expect(acks[0]).toMatchObject({relay: {giaddr: '10.78.0.254'}})
    // dhcrelay reads frames off its interface and may send its own copy as well.
    expect(acks.slice(1)).toContainEqual(expect.objectContaining({relay: null, interface: 'uplink', address: '10.78.0.50'}))
    expect(readTold(`${output}.renew`).ip).toBe('10.78.0.50')
  })

  it('F11 is dropped and counted when it is not on the list', async () => {
    await relay.exec(['ip', 'addr', 'del', '10.78.0.254/24', 'dev', 'downlink'])
    await relay.exec(['ip', 'addr', 'add', '10.78.0.253/24', 'dev', 'downlink'])
    await dhcrelay.stop()
    const words = ['dhcrelay', '-4', '-d', '-id', 'downlink', '-iu', 'uplink', '10.88.0.1']
    dhcrelay = relay.spawn(words, {logFile: join(relay.dir, 'dhcrelay.log')})
    try {
      expect(await udhcpc('eth1')).toBeUndefined()
      expect((await control({})).counters['ignored.unlisted_relay']).toBeGreaterThan(0)
    } finally {
      await relay.exec(['ip', 'addr', 'add', '10.78.0.254/24', 'dev', 'downlink'])
      await relay.exec(['ip', 'addr', 'del', '10.78.0.253/24', 'dev', 'downlink'])
    }
  })
})

describe('a BIOS machine with an iPXE ROM', () => {
  let machine: LabMachine

  beforeAll(async () => {
    const options = {network, name: 'm0', tap: 'tap0', mac: QEMU_MAC, firmware: 'bios', disks: []} as const
    machine = await createQemuMachine({...options, memory_mb: 256})
  })

  afterEach(() => machine.powerOff())

  /** Powers on and waits for the script's fetch; counts what went over the tap until then. */
  async function bootToScript(): Promise<{seconds: number; solicitations: number; requests: number; seen: Event[]}> {
    const capture = network.spawn(['tcpdump', '--immediate-mode', '-lni', 'tap0', 'icmp6 or udp port 67'])
    const lines: string[] = []
    let listening = false
    if (capture.child.stdout) createInterface(capture.child.stdout).on('line', line => lines.push(line))
    capture.child.stderr?.on('data', chunk => {
      listening ||= String(chunk).includes('listening')
    })
    await until('tcpdump listens', () => listening)
    const since = server.events.length
    let seconds = Number.NaN
    const seen = await evidenceDuring(async () => {
      await machine.powerOn()
      const poweredMs = machine.powerEvents().findLast(({event}) => event.startsWith('on'))?.at_ms ?? Number.NaN
      const isFetch = ({event, url}: Event) => event === 'http' && url === '/boot.ipxe'
      seconds = ((await server.until('the script is fetched', isFetch, since)).at_ms - poweredMs) / 1000
    })
    await capture.stop()
    return {
      seconds,
      solicitations: lines.filter(line => line.includes(`${QEMU_LINK_LOCAL} > ff02::2`)).length,
      requests: lines.filter(line => line.includes(`Request from ${QEMU_MAC}`)).length,
      seen,
    }
  }

  // First of the two: an advertisement of the other would wait in the tap's queue for the next machine.
  it('waits for a router, asking again and again, where the prefix forbids the advertisement', async () => {
    await control({routerAdvertisement: false})
    const {seconds, solicitations, requests} = await bootToScript()
    console.log(`without advertisement: ${seconds.toFixed(1)} s, ${solicitations} router solicitations`)
    expect(requests).toBe(2)
    expect(solicitations).toBeGreaterThan(4)
  })

  it('W52 fetches its script at once: one DISCOVER, no wait for a proxy or a router', async () => {
    const {seconds, solicitations, requests, seen} = await bootToScript()
    console.log(`power-on to script: ${seconds.toFixed(1)} s, ${solicitations} router solicitations`)
    expect(requests).toBe(2)
    expect(solicitations).toBeLessThan(4)
    expect(seen.map(({stage, message, reply}) => [stage, message, reply])).toEqual([
      ['ipxe', 'DISCOVER', 'OFFER'],
      ['ipxe', 'REQUEST', 'ACK'],
    ])
    expect(seen[1]).toMatchObject({machineId: 'm-qemu', address: '10.77.0.60', file: 'http://10.77.0.1:8480/boot.ipxe'})
    expect(Object.values(seen[1]?.uuid as object)).toContain(machine.uuid)
  })
})

describe('a UEFI machine with the firmware’s own clients (edk2)', () => {
  const PXE_OFF = {'opt/org.tianocore/IPv4PXESupport': 'n', 'opt/org.tianocore/IPv6PXESupport': 'n'}
  let machine: LabMachine
  // A slow host makes it repeat itself.
  const distinct = (seen: readonly Event[]) => [...new Set(seen.map(({stage, message, reply}) => `${stage} ${message} ${reply}`))]

  async function boot(firmwareSettings: Record<string, string>): Promise<void> {
    const options = {network, tap: 'tap0', mac: QEMU_MAC, firmware: 'uefi', disks: [], memory_mb: 256} as const
    machine = await createQemuMachine({...options, name: `uefi-${Object.keys(firmwareSettings).length}`, firmwareSettings})
    await machine.powerOn()
  }

  afterEach(() => machine.powerOff())

  it('W50 boots over HTTP: takes the offer with option 60, and fetches the URL of option 67', async () => {
    const since = server.events.length
    const seen = await evidenceDuring(async () => {
      await boot(PXE_OFF)
      await server.until('the loader is fetched', ({event, url}) => event === 'http' && url === '/loaders/snponly.efi', since)
    })
    expect(distinct(seen)).toEqual(['http DISCOVER OFFER', 'http REQUEST ACK'])
    expect(seen.at(-1)).toMatchObject({architecture: 16, firmware: 'uefi', address: '10.77.0.60', clientId: null})
  })

  it('W53 boots over TFTP: asks the next server for the loader of its architecture', async () => {
    const capture = network.spawn(['tcpdump', '--immediate-mode', '-lni', 'tap0', 'udp port 69'])
    const lines: string[] = []
    if (capture.child.stdout) createInterface(capture.child.stdout).on('line', line => lines.push(line))
    const seen = await evidenceDuring(async () => {
      await boot({})
      await until('a read request', () => lines.some(line => /> 10\.77\.0\.1\.69: .*RRQ "snponly\.efi"/.test(line)))
    })
    await capture.stop()
    expect(distinct(seen)).toEqual(['rom DISCOVER OFFER', 'rom REQUEST ACK'])
    expect(seen.at(-1)).toMatchObject({architecture: 7, address: '10.77.0.60', clientId: null})
  })
})
