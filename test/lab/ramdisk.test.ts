/**
 * The ramdisk and the image in emulated machines, BIOS and UEFI, against a boot service that only speaks the protocol. The kernel is handed
 * over by QEMU; the network boot before it has tests of its own. Artefacts are built once into `.cache/` and used again.
 */
import {execFile, execFileSync} from 'node:child_process'
import {createHash, randomBytes} from 'node:crypto'
import {mkdirSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {createServer} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {promisify} from 'node:util'
import {afterAll, afterEach, beforeAll, describe, expect, test} from 'vitest'
import {buildImage, buildRamdisk, imageName} from '../../pxe/build.ts'
import {CHUNK_BYTES, type ImageManifest, manifestLines} from '../../pxe/manifest.ts'
import {packImage} from '../../pxe/pack.ts'
import {type Answers, BOOT_TOKEN, type FakeBoot, FIRST_BOOT_TOKEN, SESSION, startFakeBoot} from '../support/fake-boot.ts'
import {MAC, type Machine, type MachineOptions, startMachine} from '../support/machine.ts'
import {ustar} from '../support/ustar.ts'

const MIB = 1_048_576
const CACHE = join(import.meta.dirname, '../../.cache/pxe')
const OUT = join(CACHE, 'out')
const IMAGE = join(OUT, 'images', imageName('cloud'))
const SERIAL = 'S"\\\u0001N<é>$(id)'

let folder: string
let manifest: ImageManifest
const machines: Machine[] = []
const servers: FakeBoot[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ingot-ramdisk-'))
  await buildRamdisk({outDir: OUT, cacheDir: CACHE, onProgress: console.log})
  manifest = await buildImage({outDir: OUT, cacheDir: CACHE, kernel: 'cloud', onProgress: console.log})
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'key')])
})

afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.stop()
  for (const server of servers.splice(0)) await server.kill()
})

afterAll(() => rmSync(folder, {recursive: true, force: true}))

describe.each(['bios', 'uefi'] as const)('on %s', firmware => {
  test('inspects without writing, and says hostile strings as plain JSON', async () => {
    const disk = filledDisk(`inspect-${firmware}.raw`, 64)
    const before = digestOf(disk)
    const boot = await serve({stage: 'inspect'})
    const machine = start(`inspect-${firmware}`, boot, {
      firmware,
      disks: [
        {file: disk, format: 'raw', serial: 'D"\\$(id)`'},
        {file: blankDisk('blank.qcow2'), format: 'qcow2'},
      ],
      smbios: {manufacturer: 'A "quoted" \\ maker', product: '{"disks":[]}', serial: SERIAL},
    })
    await machine.ended
    report(`inspect ${firmware}`, machine, boot, {hello: '/ramdisk/hello', facts: '/ramdisk/facts'})
    expect(boot.bodies('/ramdisk/hello')[0]).toMatchObject({mac: MAC, firmware})
    const [facts] = boot.bodies('/ramdisk/facts')
    expect(facts).toMatchObject({
      version: 1,
      firmware,
      boot_mac: MAC,
      bmc: null,
      cpu: {threads: 2},
      memory_bytes: 512 * MIB,
      dmi: {manufacturer: 'A "quoted" \\ maker', product: '{"disks":[]}', serial: SERIAL},
      disks: [
        {name: 'vda', size_bytes: 64 * MIB, serial: 'D"\\$(id)`', signature: 'unknown', transport: 'virtio'},
        {name: 'vdb', size_bytes: 4096 * MIB, serial: null, signature: null},
      ],
      nics: [{mac: MAC, link: true, driver: 'virtio_net'}],
    })
    expect(digestOf(disk)).toBe(before)
  })

  test('wipes every disk to zeros and says how it read them back', async () => {
    const disks = [filledDisk(`wipe-a-${firmware}.raw`, 96), filledDisk(`wipe-b-${firmware}.raw`, 32)]
    const boot = await serve({stage: 'clean', claim: {lines: ['action clean', 'wipe full', 'disk all']}})
    const machine = start(`wipe-${firmware}`, boot, {
      firmware,
      disks: disks.map((file, index) => ({file, format: 'raw' as const, serial: `W${index}`})),
    })
    await machine.ended
    report(`wipe ${firmware}`, machine, boot, {claim: '/ramdisk/claim'})
    expect(boot.events('wiped')).toMatchObject([
      {
        disks: [
          {name: 'vda', serial: 'W0', size_bytes: 96 * MIB, verified: 'read_back', sample_or_full: 'full'},
          {name: 'vdb', serial: 'W1', size_bytes: 32 * MIB, verified: 'read_back', sample_or_full: 'full'},
        ],
      },
    ])
    for (const disk of disks) expect(readFileSync(disk).every(byte => byte === 0)).toBe(true)
  })

  test('installs through a server that dies on the way, boots the disk, phones home, and lets the key in', async () => {
    const disk = blankDisk(`install-${firmware}.qcow2`, 4)
    const boot = await serve({})
    boot.answers.stage = 'install'
    boot.answers.afterDone = 'reboot'
    boot.answers.artefacts = imageArtefacts()
    boot.answers.claim = {
      lines: ['action install', `image /artefacts/${linesDigest()}`, 'disk serial=ROOT', 'config /ramdisk/config'],
    }
    boot.answers.config = machineFiles(boot)
    const sshPort = await freePort()
    const options = {firmware, disks: [{file: disk, format: 'qcow2', serial: 'ROOT'}], sshPort} as const
    const machine = start(`install-${firmware}`, boot, options)
    await boot.until('the download to be under way', () => boot.requests.filter(request => request.range).length > 10)
    await boot.kill()
    await new Promise(resolve => setTimeout(resolve, 2000))
    await boot.restart()
    await machine.ended
    report(`install ${firmware}`, machine, boot, {hello: '/ramdisk/hello', claim: '/ramdisk/claim'})
    expect(boot.events('disk_written')).toMatchObject([
      {disk: 'vda', serial: 'ROOT', bytes: manifest.size_bytes, image_digest: linesDigest()},
    ])
    expect(boot.events('local_boot_set')).toMatchObject([{method: firmware === 'uefi' ? 'efi_boot_entry' : 'firmware_order'}])

    const installed = startMachine({folder: join(folder, `install-${firmware}`), ...options})
    machines.push(installed)
    await boot.until('the phone-home', () => boot.bodies('/first-boot').length > 0, 600_000)
    report(`first boot ${firmware}`, installed, boot, {phone_home: '/first-boot'})
    expect(boot.bodies('/first-boot')[0]).toMatchObject({
      facts: {hostname: 'node-7', root_disk: 'vda', addresses: expect.arrayContaining(['10.0.2.15/24'])},
      ssh_host_keys: [expect.stringMatching(/^ecdsa-sha2-nistp256 /), expect.stringMatching(/^ssh-ed25519 /)],
      user_data: [{name: '10-hello', exit_code: 3, output_tail: 'said "hello" \t\\o me'}],
    })
    const key = (boot.bodies('/first-boot')[0]!.ssh_host_keys as string[])[1]
    const answer = await ssh(
      sshPort,
      `${key}`,
      'cat /etc/machine-id; df --output=size -BM / | tail -n 1; test -e /etc/ingot/first-boot.conf || echo gone',
    )
    expect(answer).toMatch(/^[0-9a-f]{32}\n\s*3[0-9]{3}M\ngone$/)
    console.log(`ssh ${firmware}: ${((performance.now() - installed.startedMs) / 1000).toFixed(1)} s after power-on`)
  })
})

test('burns itself in, reads its disks without writing, and says what they reached', async () => {
  const disk = filledDisk('burn.raw', 16)
  const before = digestOf(disk)
  const order = ['end poweroff', 'seconds 1', 'memory_percent 10', 'min_memory_mb_s 1', 'min_cpu_mb_s 1', 'min_disk_mb_s 1']
  const boot = await serve({stage: 'test', order})
  const machine = start('burn', boot, {firmware: 'bios', disks: [{file: disk, format: 'raw', serial: 'B0'}]})
  await machine.ended
  report('burn-in', machine, boot, {hello: '/ramdisk/hello'})
  const speed = {threads: 2, bytes: expect.any(Number), mb_s: expect.any(Number)}
  const [tested] = boot.events('tested')
  expect(tested).toMatchObject({memory: speed, cpu: speed, disks: [{name: 'vda', serial: 'B0', mb_s: expect.any(Number)}]})
  expect((tested!.disks as {bytes: number}[])[0]!.bytes).toBeGreaterThanOrEqual(16 * MIB)
  expect(digestOf(disk)).toBe(before)
})

test('stays for a rescue: lets in the key that the job names and no other, and leaves when it is told', async () => {
  const tools = readFileSync(join(OUT, 'ramdisk/tools'))
  const digest = createHash('sha256').update(tools).digest('hex')
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'stranger')])
  const boot = await serve({
    stage: 'rescue',
    order: ['end reboot', `key ${readFileSync(join(folder, 'key.pub'), 'utf8').trim()}`, `tools /artefacts/${digest}`],
    artefacts: new Map([[digest, {bytes: tools}]]),
  })
  const sshPort = await freePort()
  const machine = start('rescue', boot, {firmware: 'bios', disks: [], sshPort})
  await boot.until('the rescue to be ready', () => boot.events('ready').length > 0)
  report('rescue', machine, boot, {hello: '/ramdisk/hello'})
  const [ready] = boot.events('ready')
  expect(ready).toMatchObject({address: '10.0.2.15', ssh_host_key: expect.stringMatching(/^ssh-ed25519 \S+$/)})
  expect(await ssh(sshPort, String(ready!.ssh_host_key), 'id -u; cat /proc/1/comm')).toBe('0\ninit')
  await expect(ssh(sshPort, String(ready!.ssh_host_key), 'true', 'stranger')).rejects.toThrow('Permission denied')
  boot.answers.stage = 'leave'
  await machine.ended
  expect(boot.events('left')).toHaveLength(1)
})

test('a refused claim leaves the disk as it was', async () => {
  const disk = filledDisk('refused.raw', 64)
  const before = digestOf(disk)
  const boot = await serve({stage: 'install', claim: {refused: 'FENCED'}})
  const machine = start('refused', boot, {firmware: 'bios', disks: [{file: disk, format: 'raw'}]})
  await machine.ended
  expect(boot.requests.map(request => request.path)).toEqual(['/ramdisk/hello', '/ramdisk/claim'])
  expect(machine.serial()).toContain('claim refused: FENCED')
  expect(digestOf(disk)).toBe(before)
})

test('a chunk that was changed on the way is never written, and the disk cannot boot', async () => {
  const disk = filledDisk('corrupt.raw', 64)
  const image = await smallImage()
  const bad = image.manifest.chunks[3]
  if (!bad) throw new Error('chunk 3 of the small image is not stored')
  const boot = await serve({
    stage: 'install',
    artefacts: image.artefacts,
    claim: {lines: ['action install', `image /artefacts/${image.linesDigest}`, 'disk smallest', 'config /ramdisk/config']},
    tamper: (sha256, start, bytes) => {
      const at = bad[0] + 100 - start
      if (sha256 === image.manifest.data && at >= 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ 1
    },
  })
  const machine = start('corrupt', boot, {firmware: 'bios', disks: [{file: disk, format: 'raw'}]})
  await boot.until('the log of the failure', () => boot.requests.some(request => request.path === '/ramdisk/log'))
  expect(boot.events('failed')).toMatchObject([{cause: 'IMAGE_CHECKSUM', detail: expect.stringContaining('chunk 3')}])
  expect(boot.requests.at(-1)?.body).toContain('ingot.token=(removed)')
  expect(boot.requests.at(-1)?.body).not.toContain(BOOT_TOKEN)
  await machine.stop()
  expect(readPart(disk, 0, MIB).every(byte => byte === 0)).toBe(true)
  const third = readPart(disk, 3 * CHUNK_BYTES, CHUNK_BYTES)
  expect(third.every(byte => byte === 0xa5)).toBe(true)
})

test('finds cards and disks by the drivers of real hardware, and takes no stick for a disk', async () => {
  const disk = (name: string, device: string) => [
    ...['-drive', `if=none,id=${name},file=${filledDisk(`${name}.raw`, 16)},format=raw,cache=unsafe`],
    ...['-device', `${device},drive=${name}`],
  ]
  const boot = await serve({stage: 'inspect'})
  const machine = start('drivers', boot, {
    ...{firmware: 'uefi', disks: [], card: 'e1000e'},
    extraArgs: [
      ...['rtl8139', 'vmxnet3', 'e1000'].flatMap((card, index) => [
        '-netdev',
        `user,id=m${index}`,
        '-device',
        `${card},netdev=m${index},romfile=`,
      ]),
      ...disk('sata', 'ide-hd,bus=ide.0,serial=SATA-1'),
      ...disk('nvme', 'nvme,serial=NVME-1'),
      ...['-device', 'megasas,id=raid', ...disk('mega', 'scsi-hd,bus=raid.0,serial=MEGA-1,wwn=0x5000c50012345678')],
      ...['-device', 'pvscsi,id=pv', ...disk('vmware', 'scsi-hd,bus=pv.0,serial=PV-1')],
      ...['-device', 'lsi53c895a,id=lsi', ...disk('lsi0', 'scsi-hd,bus=lsi.0,serial=LSI-1')],
      ...['-device', 'virtio-scsi-pci,id=vs', ...disk('virtio', 'scsi-hd,bus=vs.0,serial=VS-1')],
      ...['-device', 'usb-ehci,id=usb', ...disk('stick', 'usb-storage,bus=usb.0,removable=on')],
    ],
  })
  await machine.ended
  const [facts] = boot.bodies('/ramdisk/facts') as {
    disks: {serial: string; transport: string; wwn: string | null}[]
    nics: {driver: string}[]
  }[]
  const disks = new Map(facts?.disks.map(({serial, transport}) => [serial, transport]))
  expect(Object.fromEntries(disks)).toEqual({
    ...{'SATA-1': 'ata', 'NVME-1': 'nvme', 'MEGA-1': 'scsi', 'PV-1': 'scsi', 'LSI-1': 'scsi', 'VS-1': 'virtio'},
  })
  expect(facts?.disks.find(({serial}) => serial === 'MEGA-1')?.wwn).toBe('naa.5000c50012345678')
  expect(facts?.nics.map(({driver}) => driver).sort()).toEqual(['8139cp', 'e1000', 'e1000e', 'vmxnet3'])
})

test('a disk that cannot be written fails the wipe, by name', async () => {
  const disks = [
    {file: filledDisk('writable.raw', 32), format: 'raw'},
    {file: filledDisk('locked.raw', 32), format: 'raw', readOnly: true},
  ] as const
  const boot = await serve({stage: 'clean', claim: {lines: ['action clean', 'wipe full', 'disk all']}})
  start('locked', boot, {firmware: 'bios', disks})
  await boot.until('the failure', () => boot.events('failed').length > 0)
  expect(boot.events('failed')).toMatchObject([{cause: 'WIPE_FAILED', detail: expect.stringContaining('vdb')}])
  expect(boot.events('wiped')).toEqual([])
})

test('writes nothing when the disk that the rule names is not there', async () => {
  const disk = filledDisk('absent.raw', 64)
  const before = digestOf(disk)
  const image = await smallImage()
  const boot = await serve({
    stage: 'install',
    artefacts: image.artefacts,
    claim: {
      lines: ['action install', `image /artefacts/${image.linesDigest}`, 'disk serial=SOMEBODY-ELSE', 'config /ramdisk/config'],
    },
  })
  start('absent', boot, {firmware: 'bios', disks: [{file: disk, format: 'raw', serial: 'ME'}]})
  await boot.until('the failure', () => boot.events('failed').length > 0)
  expect(boot.events('failed')).toMatchObject([{cause: 'DISK_NOT_FOUND'}])
  expect(digestOf(disk)).toBe(before)
})

async function serve(answers: Partial<Answers>): Promise<FakeBoot> {
  const server = await startFakeBoot(answers)
  servers.push(server)
  return server
}

function start(name: string, boot: FakeBoot, options: Omit<MachineOptions, 'folder' | 'kernel'>): Machine {
  const own = join(folder, name)
  mkdirSync(own, {recursive: true})
  const commandLine = `console=ttyS0,115200 quiet panic=10 ingot.url=${boot.guestUrl} ingot.token=${BOOT_TOKEN} ingot.mac=${MAC}`
  const kernel = {vmlinuz: join(OUT, 'ramdisk/vmlinuz'), initrd: join(OUT, 'ramdisk/initrd'), commandLine}
  const machine = startMachine({folder: own, kernel, ...options})
  machines.push(machine)
  return machine
}

/** Seconds after power-on of the first request for each path: for people; nothing is asserted about time. */
function report(what: string, machine: Machine, boot: FakeBoot, paths: Readonly<Record<string, string>>): void {
  const at = (ms: number) => ((ms - machine.startedMs) / 1000).toFixed(1)
  const seen = Object.entries(paths).map(([name, path]) => {
    const first = boot.requests.find(request => request.path === path && request.atMs > machine.startedMs)
    return `${name} ${first ? at(first.atMs) : '–'} s`
  })
  const kinds = boot.requests.filter(request => request.path === '/ramdisk/events' && request.atMs > machine.startedMs)
  const events = kinds.map(request => ({kind: (JSON.parse(request.body) as {kind: string}).kind, atMs: request.atMs}))
  const told = events.filter(event => event.kind !== 'progress').map(event => `${event.kind} ${at(event.atMs)} s`)
  console.log(`${what}: ${[...seen, ...told].join(', ')}`)
}

function blankDisk(name: string, gib = 4): string {
  const file = join(folder, name)
  rmSync(file, {force: true})
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file, `${gib}G`])
  return file
}

/** A raw disk with something on every byte. */
function filledDisk(name: string, mib: number): string {
  const file = join(folder, name)
  writeFileSync(file, Buffer.alloc(mib * MIB, 0xa5))
  return file
}

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

function readPart(file: string, at: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes)
  readSync(openSync(file, 'r'), buffer, 0, bytes, at)
  return buffer
}

function linesDigest(): string {
  return digestOf(join(IMAGE, 'manifest.lines'))
}

function imageArtefacts(): Answers['artefacts'] {
  const data = join(IMAGE, 'data')
  return new Map([
    [linesDigest(), {bytes: readFileSync(join(IMAGE, 'manifest.lines'))}],
    [manifest.data, {file: data, sizeBytes: statSync(data).size}],
  ])
}

/** Sixteen MiB of noise and sixteen of zeros, packed: enough for what goes wrong before anything boots. */
async function smallImage() {
  const raw = join(folder, 'small.raw')
  const data = join(folder, 'small.data')
  writeFileSync(raw, Buffer.concat([randomBytes(16 * MIB), Buffer.alloc(16 * MIB)]))
  const packed = await packImage(raw, data)
  const small: ImageManifest = {
    ...{...manifest, name: 'small', version: '1', size_bytes: 32 * MIB},
    ...{
      root: {offset: 2 * MIB, bytes: 8 * MIB, filesystem: 'ext4'},
      data: packed.data,
      data_bytes: packed.dataBytes,
      chunks: packed.chunks,
    },
  }
  const lines = Buffer.from(manifestLines(small))
  const digest = createHash('sha256').update(lines).digest('hex')
  const artefacts: Answers['artefacts'] = new Map([
    [digest, {bytes: lines}],
    [packed.data, {file: data, sizeBytes: packed.dataBytes}],
  ])
  return {manifest: small, linesDigest: digest, artefacts}
}

function machineFiles(boot: FakeBoot): Buffer {
  return ustar([
    {path: 'etc/hostname', data: 'node-7\n'},
    {
      path: 'etc/systemd/network/10-ingot.network',
      data: `[Match]\nMACAddress=${MAC}\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n`,
    },
    {path: 'root/.ssh/', mode: 0o700},
    {path: 'root/.ssh/authorized_keys', mode: 0o600, data: readFileSync(join(folder, 'key.pub'))},
    {path: 'etc/ingot/', mode: 0o700},
    {path: 'etc/ingot/first-boot.conf', mode: 0o600, data: `url ${boot.guestUrl}\ntoken ${FIRST_BOOT_TOKEN}\n`},
    {path: 'etc/ingot/user-data.d/'},
    {path: 'etc/ingot/user-data.d/10-hello', mode: 0o755, data: '#!/bin/sh\necho \'said "hello" \t\\o me\'\nexit 3\n'},
  ])
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

/** Runs a command as root, trusting only the host key that the machine reported. */
async function ssh(port: number, hostKey: string, command: string, identity = 'key'): Promise<string> {
  const known = join(folder, `known-${port}`)
  writeFileSync(known, `[127.0.0.1]:${port} ${hostKey}\n`)
  const options = [
    'BatchMode=yes',
    'IdentitiesOnly=yes',
    'StrictHostKeyChecking=yes',
    `UserKnownHostsFile=${known}`,
    'ConnectTimeout=60',
    'ConnectionAttempts=10',
  ]
  const args = [
    ...options.flatMap(option => ['-o', option]),
    '-i',
    join(folder, identity),
    '-p',
    String(port),
    'root@127.0.0.1',
    command,
  ]
  const {stdout} = await promisify(execFile)('ssh', args)
  return stdout.trim()
}

test('asks for everything with the boot token, and with the session once it has one', async () => {
  const boot = await serve({stage: 'clean', claim: {lines: ['action clean', 'wipe fast', 'disk all']}})
  const machine = start('bearer', boot, {firmware: 'bios', disks: [{file: blankDisk('bearer.qcow2'), format: 'qcow2'}]})
  await machine.ended
  expect(boot.requests.map(request => [request.path, request.bearer]).filter(([path]) => path !== '/ramdisk/events')).toEqual([
    ['/ramdisk/hello', BOOT_TOKEN],
    ['/ramdisk/claim', BOOT_TOKEN],
  ])
  expect(boot.requests.filter(request => request.path === '/ramdisk/events').every(request => request.bearer === SESSION)).toBe(
    true,
  )
  expect(boot.events('wiped')).toMatchObject([{disks: [{method: 'discard+zeroout', sample_or_full: 'sample'}]}])
})
