/**
 * dhcpd beside a DHCP server that nobody here wrote: that one gives the addresses, Ingot names the boot files.
 *
 *     namespace server                     namespace other
 *       br0  10.77.0.1/22 ──── to-other ──── eth0 10.77.0.3/22 (busybox udhcpd)
 *        └ tap0 ── QEMU
 */
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {fileURLToPath} from 'node:url'
import {afterAll, afterEach, beforeAll, describe, expect, it, onTestFailed} from 'vitest'
import {runCommand} from '../../lab/commands.ts'
import {createQemuMachine, type LabMachine} from '../../lab/machine.ts'
import {cleanupStale, createLabNetwork, type LabNetwork, type LabProcess} from '../../lab/network.ts'
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import type {LabServerConfig} from '../support/dhcp-lab-server.ts'

const PREFIX = `dhp-${process.pid}`
const NODE = fileURLToPath(new URL('../../bin/node.sh', import.meta.url))
const SERVER_SCRIPT = fileURLToPath(new URL('../support/dhcp-lab-server.ts', import.meta.url))
const MAC = '52:54:00:77:00:40'
const DEADLINE_MS = 180_000

const CONFIG: LabServerConfig = {
  interfaces: ['br0'],
  prefixes: [
    {
      id: 'local',
      cidr: '10.77.0.0/22' as Cidr,
      mode: 'proxy',
      interface: 'br0',
      gateway: null,
      dns: [],
      boot_url: 'http://10.77.0.1:8480',
      lease_s: 600,
      routerAdvertisement: true,
      relays: [],
      window: null,
      dynamicRanges: [],
    },
  ],
  hosts: [[MAC, {machineId: 'm', name: 'm', hostname: 'm', address: '10.77.0.60' as Ipv4, prefixId: 'local', watched: true}]],
}

type Event = {readonly event: string; readonly [key: string]: unknown}

const runDir = mkdtempSync(join(tmpdir(), 'dhp-runs-'))
const events: Event[] = []
const errors: string[] = []
let network: LabNetwork
let other: LabNetwork
let machine: LabMachine

beforeAll(async () => {
  network = await createLabNetwork({name: `${PREFIX}-server`, bridgeAddress: '10.77.0.1/22', taps: 1, runDir})
  other = await createLabNetwork({name: `${PREFIX}-other`, bridgeAddress: '192.0.2.1/32', taps: 0, runDir})
  const ends = ['name', 'to-other', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', other.name]
  await runCommand(['ip', '-n', network.name, 'link', 'add', ...ends])
  await network.exec(['ip', 'link', 'set', 'to-other', 'master', 'br0', 'up'])
  await other.exec(['ip', 'addr', 'add', '10.77.0.3/22', 'dev', 'eth0'])
  await other.exec(['ip', 'link', 'set', 'eth0', 'up'])
  await until('the bridge has its link-local address', async () => {
    const {stdout} = await network.exec(['ip', '-6', '-o', 'addr', 'show', 'dev', 'br0'])
    return /fe80::/.test(stdout) && !stdout.includes('tentative')
  })
  startOther()
  await startIngot()
})

afterAll(async () => {
  for (const each of [other, network]) await each?.close()
  await cleanupStale(PREFIX, runDir)
  rmSync(runDir, {recursive: true, force: true})
})

function startOther(): LabProcess {
  const leases = join(other.dir, 'udhcpd.leases')
  const config = join(other.dir, 'udhcpd.conf')
  writeFileSync(leases, '')
  const lines = [
    'start 10.77.1.50',
    'end 10.77.1.60',
    'interface eth0',
    `lease_file ${leases}`,
    `pidfile ${other.dir}/udhcpd.pid`,
  ]
  writeFileSync(config, [...lines, 'option subnet 255.255.252.0', 'option router 10.77.0.3', 'option lease 600', ''].join('\n'))
  return other.spawn(['busybox', 'udhcpd', '-f', config], {logFile: join(other.dir, 'udhcpd.log')})
}

async function startIngot(): Promise<void> {
  const config = join(network.dir, 'dhcp.json')
  writeFileSync(config, JSON.stringify(CONFIG))
  const {child} = network.spawn(['sh', NODE, SERVER_SCRIPT, config])
  if (child.stdout) createInterface(child.stdout).on('line', line => events.push(JSON.parse(line) as Event))
  child.stderr?.on('data', chunk => errors.push(String(chunk)))
  await until('the server listens', () => events.some(({event}) => event === 'ready')).catch(error => {
    throw new Error(errors.join(''), {cause: error})
  })
}

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`never came to pass: ${what}`)
    await sleep(50)
  }
}

async function counters(): Promise<Record<string, number>> {
  const {stdout} = await network.exec(['curl', '-sf', '-d', '{}', 'http://10.77.0.1:8480/control'])
  return (JSON.parse(stdout) as {counters: Record<string, number>}).counters
}

type Boot = {readonly seen: string[]; readonly lines: string[]}

/** Powers on and watches the wire until a line of it matches; what Ingot told the machine by then. */
async function bootUntil(firmware: 'bios' | 'uefi', what: RegExp, firmwareSettings: Record<string, string> = {}): Promise<Boot> {
  const capture = network.spawn([
    'tcpdump',
    '--immediate-mode',
    '-lni',
    'tap0',
    '-A',
    'udp port 69 or tcp port 8480 or udp port 4011',
  ])
  const lines: string[] = []
  let listening = false
  if (capture.child.stdout) createInterface(capture.child.stdout).on('line', line => lines.push(line))
  capture.child.stderr?.on('data', chunk => {
    listening ||= String(chunk).includes('listening')
  })
  onTestFailed(() => console.log([...errors.join('').split('\n').slice(-60), ...lines.slice(-40)].join('\n')))
  await until('tcpdump listens', () => listening)
  const since = events.length
  const name = `m-${firmware}-${Object.keys(firmwareSettings).length}`
  machine = await createQemuMachine({network, name, tap: 'tap0', mac: MAC, firmware, disks: [], memory_mb: 256, firmwareSettings})
  await machine.powerOn()
  await until(String(what), () => lines.some(line => what.test(line)))
  await capture.stop()
  const evidence = events.slice(since).filter(({event}) => event === 'evidence')
  const seen = [...new Set(evidence.map(({stage, message, reply, address}) => `${stage} ${message} ${reply} ${address}`))]
  return {seen, lines}
}

describe('beside another DHCP server', () => {
  afterEach(() => machine?.powerOff())

  it('W47 a client that does not netboot hears the other server alone', async () => {
    const before = await counters()
    const words = ['busybox', 'udhcpc', '-f', '-q', '-n', '-t', '4', '-T', '2', '-i', 'plain', '-s', '/bin/true']
    await runCommand([
      'ip',
      '-n',
      network.name,
      'link',
      'add',
      'to-plain',
      'type',
      'veth',
      'peer',
      'name',
      'plain',
      'netns',
      other.name,
    ])
    await network.exec(['ip', 'link', 'set', 'to-plain', 'master', 'br0', 'up'])
    await other.exec(['ip', 'link', 'set', 'plain', 'address', '52:54:00:77:00:41', 'up'])
    const {stderr} = await other.exec(words)
    expect(stderr).toMatch(/lease of 10\.77\.1\.5\d obtained/)
    const after = await counters()
    expect(after['sent.OFFER'] ?? 0).toBe(before['sent.OFFER'] ?? 0)
  })

  it('W47 W52 an iPXE ROM gets its address there and its script here', async () => {
    const {seen} = await bootUntil('bios', /GET \/boot\.ipxe/)
    expect(seen[0]).toBe('ipxe DISCOVER OFFER null')
    expect(seen.filter(line => !/^ipxe (DISCOVER OFFER null|REQUEST (ACK null|null))/.test(line))).toEqual([])
  })

  it('W47 W53 a UEFI PXE ROM gets its address there and asks here for its loader', async () => {
    const {seen, lines} = await bootUntil('uefi', /> 10\.77\.0\.1\.69: .*RRQ "snponly\.efi"/)
    expect(seen[0]).toBe('rom DISCOVER OFFER null')
    expect(lines.find(line => line.includes('RRQ'))).toMatch(/10\.77\.1\.5\d\.\d+ > /)
  })

  it('W47 W50 UEFI HTTP boot gets its address there and its loader here', async () => {
    const off = {'opt/org.tianocore/IPv4PXESupport': 'n', 'opt/org.tianocore/IPv6PXESupport': 'n'}
    const {seen} = await bootUntil('uefi', /(HEAD|GET) \/loaders\/snponly\.efi/, off)
    expect(seen[0]).toBe('http DISCOVER OFFER null')
  })
})
