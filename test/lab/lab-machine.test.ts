/** The lab itself: namespaces, QEMU machines and their BMCs, driven by the tools an operator has. */
import {type ChildProcess, spawn} from 'node:child_process'
import {once} from 'node:events'
import {existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {fileURLToPath} from 'node:url'
import {afterAll, afterEach, beforeAll, beforeEach, describe, expect, it} from 'vitest'
import {createLabBmc, type LabBmc} from '../../lab/bmc.ts'
import {createQemuMachine, type LabMachine} from '../../lab/machine.ts'
import {cleanupStale, createLabNetwork, type LabNetwork} from '../../lab/network.ts'
import {identifyProcess, processesInNamespace} from '../../lab/processes.ts'
import {sleep} from '../../lib/clock.ts'

const PREFIX = `lab-test-${process.pid}`
const runDir = mkdtempSync(join(tmpdir(), 'ingot-lab-runs-'))
const ABANDONED = fileURLToPath(new URL('../support/abandoned-lab.ts', import.meta.url))

afterAll(async () => {
  await cleanupStale(PREFIX, runDir)
  rmSync(runDir, {recursive: true})
})

describe('two machines with BMCs', () => {
  let network: LabNetwork
  let machines: LabMachine[]
  let bmcs: LabBmc[]

  beforeAll(async () => {
    network = await createLabNetwork({name: `${PREFIX}-two`, bridgeAddress: '10.77.0.1/22', ipv6: 'fd77::1/64', taps: 2, runDir})
    machines = []
    bmcs = []
    for (const index of [0, 1]) {
      const machine = await createQemuMachine({
        network,
        name: `m${index}`,
        tap: `tap${index}`,
        mac: `52:54:00:77:00:1${index}`,
        firmware: 'bios',
        memory_mb: 64,
        disks: [{size_bytes: 16 * 1024 * 1024, serial: `DISK-${index}`}],
        bmc: true,
      })
      machines.push(machine)
      bmcs.push(await createLabBmc({network, machine, address: `10.77.0.20${index + 1}`}))
    }
  })

  afterEach(async () => {
    for (const machine of machines) await machine.powerOff()
  })

  afterAll(() => network.close())

  it('gives the bridge its addresses, ready to use at once', async () => {
    const {stdout} = await network.exec(['ip', '-o', 'addr', 'show', 'dev', 'br0'])
    expect(stdout).toContain('10.77.0.1/22')
    expect(stdout).toContain('10.77.0.202/22')
    expect(stdout).toMatch(/fd77::1\/64 scope global (?!.*tentative)/)
  })

  it('starts and stops QEMU as ipmitool says, each BMC its own machine', async () => {
    expect(await powerStatus(bmcs[0]!)).toBe('Chassis Power is off')
    await bmcs[0]!.ipmitool(['power', 'on'])
    expect(await powerStatus(bmcs[0]!)).toBe('Chassis Power is on')
    expect(await powerStatus(bmcs[1]!)).toBe('Chassis Power is off')
    expect(machines.map(machine => machine.isPowered())).toEqual([true, false])
    const pid = machines[0]!.pid()!
    await bmcs[1]!.ipmitool(['power', 'on'])
    expect(machines[0]!.pid()).toBe(pid)

    await bmcs[0]!.ipmitool(['power', 'off'])
    expect(identifyProcess(pid)).toBeNull()
    expect(await powerStatus(bmcs[0]!)).toBe('Chassis Power is off')
    expect(machines.map(machine => machine.isPowered())).toEqual([false, true])
  })

  it('leaves a running machine as it is when told to power on again', async () => {
    await bmcs[0]!.ipmitool(['power', 'on'])
    const pid = machines[0]!.pid()
    await bmcs[0]!.ipmitool(['power', 'on'])
    expect(machines[0]!.pid()).toBe(pid)
  })

  it('lets a machine that was powered on ask for an address on the bridge', async () => {
    const seen = watchDhcp(network)
    await until(() => seen.stderr().includes('listening on'), 'tcpdump listens', seen.text)
    await bmcs[1]!.ipmitool(['power', 'on'])
    await until(() => seen.text().includes(machines[1]!.mac), 'a DISCOVER of m1', seen.text)
    expect(seen.text()).toMatch(/DHCP-Message \(53\), length 1: Discover/)
    expect(seen.text()).toMatch(/ARCH \(93\), length 2: 0/)
    expect(seen.text()).not.toContain(machines[0]!.mac)
    await seen.stop()
    expect(machines[1]!.serialText({sincePowerOn: true})).toContain('iPXE')
    expect(machines[1]!.usage()!.cpu_s).toBeGreaterThan(0)
  })

  it('boots the disk first once when told so, and as usual at the next reset', async () => {
    await bmcs[0]!.ipmitool(['chassis', 'bootdev', 'disk'])
    expect(await bootDevice(bmcs[0]!)).toBe('Force Boot from default Hard-Drive')
    await bmcs[0]!.ipmitool(['power', 'on'])
    expect(await bootDevice(bmcs[0]!)).toBe('No override')
    const boots = () => machines[0]!.serialText({sincePowerOn: true}).split('SeaBIOS (version').slice(1)
    await until(
      () => boots()[0]?.includes('Booting from ROM') ?? false,
      'the first boot',
      () => boots().join(''),
    )
    expect(boots()[0]).toMatch(/Booting from Hard Disk[\s\S]*Booting from ROM/)

    writeFileSync(join(machines[0]!.dir, 'monitor.in'), 'system_reset\n') // as when the guest reboots itself
    await until(
      () => boots()[1]?.includes('Booting from ROM') ?? false,
      'the second boot',
      () => boots().join(''),
    )
    expect(boots()[1]).not.toContain('Booting from Hard Disk')
  })

  it('says its own address and MAC when asked for its LAN configuration', async () => {
    const {stdout} = await bmcs[1]!.ipmitool(['lan', 'print', '1'])
    expect(stdout).toMatch(/IP Address\s+: 10\.77\.0\.202\n/)
    expect(stdout).toMatch(/Subnet Mask\s+: 255\.255\.252\.0\n/)
    expect(stdout).toContain(`MAC Address             : ${bmcs[1]!.mac}`)
  })

  it('refuses a wrong password', async () => {
    const argv = ['ipmitool', '-I', 'lanplus', '-C', '3', '-R', '1', '-H', bmcs[0]!.address, '-U', 'admin', '-E', 'power', 'on']
    const {code} = await network.exec(argv, {env: {IPMITOOL_PASSWORD: 'wrong'}, anyExit: true})
    expect(code).not.toBe(0)
    expect(machines[0]!.isPowered()).toBe(false)
  })

  it('keeps the machine running while its BMC is gone, and finds it on when the BMC is back', async () => {
    await bmcs[0]!.ipmitool(['power', 'on'])
    const pid = machines[0]!.pid()
    await bmcs[0]!.stop()
    expect(machines[0]!.pid()).toBe(pid)
    expect((await bmcs[0]!.ipmitool(['-N', '1', '-R', '1', 'power', 'status'], {anyExit: true})).code).not.toBe(0)
    await bmcs[0]!.start()
    expect(await powerStatus(bmcs[0]!)).toBe('Chassis Power is on')
  })

  it('tells a blank disk from one with a single byte in it', async () => {
    const [machine] = machines as [LabMachine]
    const blank = await machine.diskDigest()
    expect(await machine.diskIsZero()).toBe(true)
    await machine.fillDisk({offset: 9_437_183, length: 1, byte: 0x5a})
    expect(await machine.diskIsZero()).toBe(false)
    expect(await machine.diskDigest()).not.toBe(blank)
    // sha256('Z'), as sha256sum says
    const digestOfByte = await machine.diskDigest(0, {offset: 9_437_183, length: 1})
    expect(digestOfByte).toBe('bbeebd879e1dff6918546dc0c179fdde505f2a21591c9a9c96e36b054ec5af83')
    await machine.fillDisk({offset: 9_437_183, length: 1, byte: 0})
    expect(await machine.diskIsZero()).toBe(true)
    expect(await machine.diskDigest()).toBe(blank)
  })

  it('does not read a disk that a running machine may be writing', async () => {
    await machines[0]!.powerOn()
    await expect(machines[0]!.diskIsZero()).rejects.toThrow('only be read when it is off')
  })

  it('says why a machine did not start', async () => {
    const {tap, mac} = {tap: 'tap7', mac: '52:54:00:77:00:17'}
    const machine = await createQemuMachine({network, name: 'no-tap', tap, mac, firmware: 'bios', disks: [], product: 'Box'})
    writeFileSync(join(machine.dir, 'qemu.cmd'), 'echo the tap is missing >&2; exit 1')
    await expect(machine.powerOn()).rejects.toThrow('the tap is missing')
    expect(machine.isPowered()).toBe(false)
  })
})

describe('what is left behind', () => {
  let child: ChildProcess | null = null
  let name: string
  let count = 0

  beforeEach(() => {
    name = `${PREFIX}-left${count++}`
  })

  afterEach(() => {
    child?.kill('SIGKILL')
    child = null
  })

  it('is nothing after close, though a machine and its BMC were running', async () => {
    const network = await createLabNetwork({name, bridgeAddress: '10.77.0.1/22', taps: 1, runDir})
    const inode = await inodeOf(network)
    const options = {network, name: 'm0', tap: 'tap0', mac: '52:54:00:77:02:00', firmware: 'bios', memory_mb: 64} as const
    const machine = await createQemuMachine({...options, disks: [], bmc: true})
    const bmc = await createLabBmc({network, machine, address: '10.77.0.201'})
    await bmc.ipmitool(['power', 'on'])
    expect(processesInNamespace(inode)).toHaveLength(2)
    const pid = machine.pid()!

    await network.close()
    expect(identifyProcess(pid)).toBeNull()
    expect(processesInNamespace(inode)).toEqual([])
    expect(existsSync(join('/run/netns', name))).toBe(false)
    expect(existsSync(network.dir)).toBe(false)
    expect(recordsOf(name)).toEqual([])
    await network.close()
  })

  it('is cleaned up by the next run when the creating process was killed', async () => {
    const abandoned = await abandon(name)
    child = abandoned.child
    expect(identifyProcess(abandoned.qemu)).not.toBeNull()
    // Its owner lives: neither cleaned nor taken over.
    expect(await cleanupStale(name, runDir)).toEqual([])
    await expect(createLabNetwork({name, bridgeAddress: '10.78.0.1/24', taps: 0, runDir})).rejects.toThrow('exists already')

    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(identifyProcess(abandoned.qemu)).not.toBeNull()
    expect(await cleanupStale(name, runDir)).toEqual([name])
    expect(identifyProcess(abandoned.qemu)).toBeNull()
    expect(existsSync(join('/run/netns', name))).toBe(false)
    expect(existsSync(abandoned.dir)).toBe(false)
    expect(recordsOf(name)).toEqual([])
    expect(await cleanupStale(name, runDir)).toEqual([])
  })

  it('does not stand in the way of a new network of the same name', async () => {
    const abandoned = await abandon(name)
    abandoned.child.kill('SIGKILL')
    await once(abandoned.child, 'exit')
    const network = await createLabNetwork({name, bridgeAddress: '10.77.0.1/22', taps: 1, runDir})
    expect(identifyProcess(abandoned.qemu)).toBeNull()
    await network.close()
  })

  it('is not touched when someone else made it', async () => {
    const stranger = spawn('sleep', ['600'])
    const start = identifyProcess(stranger.pid!)!.start
    const record = join(runDir, `${name}.1-1.run`)
    const lines = [
      {kind: 'owner', name, pid: 999_999_999, start: '1'},
      {kind: 'process', pid: stranger.pid, start: String(Number(start) - 1), what: 'an earlier process with the same pid'},
    ]
    writeFileSync(record, lines.map(line => `${JSON.stringify(line)}\n`).join(''))
    expect(await cleanupStale(name, runDir)).toEqual([name])
    expect(identifyProcess(stranger.pid!)).not.toBeNull()
    stranger.kill('SIGKILL')
    await expect(cleanupStale('', runDir)).rejects.toThrow('too short')
  })
})

async function powerStatus(bmc: LabBmc): Promise<string> {
  return (await bmc.ipmitool(['power', 'status'])).stdout.trim()
}

async function bootDevice(bmc: LabBmc): Promise<string> {
  const {stdout} = await bmc.ipmitool(['chassis', 'bootparam', 'get', '5'])
  return /Boot Device Selector : (.*)/.exec(stdout)?.[1] ?? stdout
}

async function inodeOf(network: LabNetwork): Promise<number> {
  const {stdout} = await network.exec(['readlink', '/proc/self/ns/net'])
  return Number(/\d+/.exec(stdout)?.[0])
}

function recordsOf(name: string): string[] {
  return readdirSync(runDir).filter(file => file.startsWith(`${name}.`))
}

function watchDhcp(network: LabNetwork): {text(): string; stderr(): string; stop(): Promise<void>} {
  const dump = network.spawn(['tcpdump', '-l', '-n', '-v', '--immediate-mode', '-i', 'br0', 'udp', 'port', '67'])
  const output = {out: '', err: ''}
  dump.child.stdout!.on('data', chunk => {
    output.out += chunk
  })
  dump.child.stderr!.on('data', chunk => {
    output.err += chunk
  })
  return {text: () => output.out, stderr: () => output.err, stop: () => dump.stop()}
}

async function abandon(name: string): Promise<{child: ChildProcess; dir: string; qemu: number}> {
  const child = spawn(process.execPath, [ABANDONED, name, runDir], {stdio: ['ignore', 'pipe', 'inherit']})
  for await (const line of createInterface(child.stdout)) return {child, ...(JSON.parse(line) as {dir: string; qemu: number})}
  throw new Error('the abandoned lab ended early')
}

async function until(check: () => boolean, what: string, seen: () => string): Promise<void> {
  const end = performance.now() + 120_000
  while (!check()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}; seen: ${seen()}`)
    await sleep(100)
  }
}
