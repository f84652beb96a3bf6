/**
 * Every kind of machine the lab has, from power-on to its boot script, served by Ingot as an operator runs it: option ROMs of three cards
 * and the firmware's own clients, BIOS and UEFI; and two that cannot get so far, and how far they do get.
 *
 * The machines run two at a time, for that is what the smallest host has processors for; each test waits for its own.
 */
import {chmodSync, existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, it, onTestFailed} from 'vitest'
import {importLabArtefacts} from '../../lab/artefacts.ts'
import {createLabIngot, type LabIngot} from '../../lab/ingot.ts'
import {createQemuMachine, type LabMachine, type MachineOptions} from '../../lab/machine.ts'
import {cleanupStale, createLabNetwork, type LabNetwork} from '../../lab/network.ts'
import {waitFor} from '../../lab/walk.ts'
import {collectLoaders} from '../../pxe/loaders.ts'

const NAME = `ingot-firmware-${process.pid}`
const LONG_MS = 600_000
const AT_A_TIME = 2
const PXE_OFF = {'opt/org.tianocore/IPv4PXESupport': 'n', 'opt/org.tianocore/IPv6PXESupport': 'n'}

type Line = {
  readonly msg?: string
  readonly mac?: string
  readonly file?: string
  readonly client?: string
  readonly url?: string
}
type Kind = Pick<MachineOptions, 'firmware' | 'nic' | 'firmwareSettings'> & {
  /** Ends the wait: what its log lines or its console show. */
  readonly until: (lines: readonly Line[], console: string) => boolean
}
type Outcome = {readonly lines: readonly Line[]; readonly console: string}

const hasScript = (lines: readonly Line[]) => lines.some(({msg}) => msg === 'boot target')

const KINDS = {
  'bios, iPXE ROM of a virtio card': {firmware: 'bios', until: hasScript},
  'bios, iPXE ROM of an e1000': {firmware: 'bios', nic: {model: 'e1000'}, until: hasScript},
  'bios, iPXE ROM of an rtl8139': {firmware: 'bios', nic: {model: 'rtl8139'}, until: hasScript},
  'uefi, iPXE ROM': {firmware: 'uefi', nic: {ipxeRom: true}, until: hasScript},
  'uefi, its own PXE': {firmware: 'uefi', until: hasScript},
  'uefi, its own HTTP boot': {firmware: 'uefi', firmwareSettings: PXE_OFF, until: hasScript},
  'arm64 uefi, its own PXE': {firmware: 'uefi-arm64', until: lines => lines.some(({msg}) => msg === 'tftp: no such file')},
  'uefi with Secure Boot': {
    firmware: 'uefi-secure',
    until: (_lines, console) => /Access Denied|Security Violation/i.test(console),
  },
} as const satisfies Record<string, Kind>
type KindName = keyof typeof KINDS

const names = Object.keys(KINDS) as KindName[]
let network: LabNetwork
let ingot: LabIngot
type Declared = {readonly machine: LabMachine; readonly addresses: readonly string[]}
const machines = new Map<KindName, Declared>()
const outcomes = new Map<KindName, Promise<Outcome>>()

beforeAll(async () => {
  await cleanupStale('ingot-firmware-')
  network = await createLabNetwork({name: NAME, bridgeAddress: '10.77.0.1/22', ipv6: 'fd77::1/64', taps: names.length})
  // Ingot's unprivileged user must be able to pass through to its state directory.
  chmodSync(network.dir, 0o711)
  const stateDir = join(network.dir, 'state')
  ingot = await createLabIngot({network, stateDir, prefix: '10.77.0.0/22'})
  const outDir = mkdtempSync(join(tmpdir(), 'ingot-loaders-'))
  await collectLoaders({outDir})
  await importLabArtefacts(outDir, stateDir)
  rmSync(outDir, {recursive: true})
  await ingot.start()
  for (const [index, kind] of names.entries()) machines.set(kind, await declare(kind, index))
  startAll()
}, LONG_MS)

afterAll(async () => {
  await Promise.allSettled(outcomes.values())
  await ingot?.stop()
  await network?.close()
}, LONG_MS)

async function declare(kind: KindName, index: number): Promise<Declared> {
  const {until: _until, ...options}: Kind = KINDS[kind]
  const mac = `52:54:00:77:0f:0${index}`
  const name = kind.toLowerCase().replace(/\W+/g, '-')
  const {id} = await ingot.client.send<{id: string}>('POST', '/v1/machines', {name, macs: [mac]})
  const {addresses} = await ingot.client.get<{addresses: readonly {readonly address: string}[]}>(`/v1/machines/${id}`)
  const machine = await createQemuMachine({...options, network, name, mac, tap: `tap${index}`, disks: [], memory_mb: 256})
  return {machine, addresses: addresses.map(({address}) => address)}
}

/** Each takes its turn when one of those before it is done. */
function startAll(): void {
  const lanes = Array.from({length: AT_A_TIME}, () => Promise.resolve())
  for (const [index, kind] of names.entries()) {
    const outcome = (lanes[index % AT_A_TIME] ?? Promise.resolve()).then(() => boot(kind))
    lanes[index % AT_A_TIME] = outcome.then(
      () => undefined,
      () => undefined,
    )
    outcomes.set(kind, outcome)
  }
}

async function boot(kind: KindName): Promise<Outcome> {
  const declared = machines.get(kind)
  if (declared === undefined) throw new Error(`there is no machine for ${kind}`)
  const {machine} = declared
  await machine.powerOn()
  try {
    return await waitFor(kind, LONG_MS, async () => {
      const outcome: Outcome = {lines: linesAbout(declared), console: machine.serialText()}
      return KINDS[kind].until(outcome.lines, outcome.console) ? outcome : undefined
    })
  } finally {
    await machine.powerOff()
  }
}

/** What Ingot logged about a machine, by its MAC or by its address. */
function linesAbout({machine, addresses}: Declared): Line[] {
  const text = existsSync(ingot.logFile) ? readFileSync(ingot.logFile, 'utf8') : ''
  return text
    .split('\n')
    .filter(line => line.startsWith('{') && line.endsWith('}'))
    .map(line => JSON.parse(line) as Line)
    .filter(({mac, client}) => mac === machine.mac || addresses.includes(client ?? ''))
}

async function outcomeOf(kind: KindName): Promise<Outcome> {
  onTestFailed(() => {
    const declared = machines.get(kind)
    if (declared) console.log(declared.machine.serialText().slice(-3000), linesAbout(declared))
  })
  const outcome = await outcomes.get(kind)
  if (outcome === undefined) throw new Error(`${kind} was never started`)
  return outcome
}

const loadersOf = ({lines}: Outcome) => lines.flatMap(({msg, file}) => (msg === 'tftp: transfer complete' ? [file] : []))

describe('a declared machine reaches its boot script', () => {
  it.each<KindName>([
    'bios, iPXE ROM of a virtio card',
    'bios, iPXE ROM of an e1000',
    'bios, iPXE ROM of an rtl8139',
    'uefi, iPXE ROM',
    'uefi, its own HTTP boot',
  ])('%s: without TFTP', async kind => {
    const outcome = await outcomeOf(kind)
    expect(hasScript(outcome.lines)).toBe(true)
    expect(loadersOf(outcome)).toEqual([])
  })

  it('uefi, its own PXE: by the loader it fetched over TFTP', async () => {
    const outcome = await outcomeOf('uefi, its own PXE')
    expect(loadersOf(outcome)).toEqual(['snponly.efi'])
    expect(outcome.console).toContain('iPXE')
  })
})

describe('a machine that cannot reach it', () => {
  it('arm64 uefi asks for the loader of its own architecture, which Debian does not ship', async () => {
    const {lines} = await outcomeOf('arm64 uefi, its own PXE')
    expect(lines.find(({msg}) => msg === 'tftp: no such file')).toMatchObject({file: 'snponly-arm64.efi'})
  })

  it('uefi with Secure Boot fetches the unsigned loader, refuses it, and never asks for a script', async () => {
    const outcome = await outcomeOf('uefi with Secure Boot')
    expect(loadersOf(outcome)).toEqual(['snponly.efi'])
    expect(outcome.console).toMatch(/Access Denied|Security Violation/i)
    expect(hasScript(outcome.lines)).toBe(false)
  })
})
