/**
 * Builds the ramdisk: Debian's generic kernel, the modules of `ramdisk/modules.list`, busybox, our own program and our own shell files.
 * Same inputs, same bytes: sorted archive, one time for all files (SOURCE_DATE_EPOCH, else 0), no paths of this machine in the program.
 */
import {createHash} from 'node:crypto'
import {chmod, copyFile, mkdir, readdir, readFile, rm, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {promisify} from 'node:util'
import {constants, gzip, zstdCompress} from 'node:zlib'
import {cached, forgetOthers, inputKey, publish} from './cache.ts'
import {type CpioEntry, cpioArchive} from './cpio.ts'
import {chooseModules, parseModuleList} from './modules.ts'
import {candidates, dependencyOf, download, type PackageVersion, requireCandidates, unpack} from './packages.ts'
import {run, runText} from './run.ts'
import {packTools, TOOL_PACKAGES} from './tools.ts'

export type BuildOptions = {readonly outDir: string; readonly cacheDir: string; readonly onProgress?: (line: string) => void}

export type RamdiskManifest = {
  readonly format: 'ingot-ramdisk-1'
  readonly key: string
  readonly kernel: string
  readonly packages: Readonly<Record<string, string>>
  readonly files: Readonly<Record<'vmlinuz' | 'initrd' | 'tools', {readonly sha256: string; readonly size_bytes: number}>>
  readonly modules: readonly string[]
  readonly firmware: readonly string[]
}

const SOURCES = join(import.meta.dirname, 'ramdisk')
/** Debian's `non-free-firmware`; taken when the host's sources have it. bnx2, bnx2x and some tg3 cards are mute without. */
const FIRMWARE_PACKAGES = [
  'firmware-bnx2',
  'firmware-bnx2x',
  'firmware-misc-nonfree',
  'firmware-realtek',
  'firmware-qlogic',
  'firmware-netronome',
]
const LARGE_MODULE_BYTES = 131_072
const COMPILE = [
  '-std=c17',
  '-O2',
  '-static',
  '-pthread',
  '-D_GNU_SOURCE',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-Wno-format-truncation',
  '-Wl,--build-id=none',
  '-s',
]

/** Leaves `ramdisk/{vmlinuz,initrd,tools,manifest.json}` in `outDir`, built only when an input changed. */
export async function buildRamdisk({outDir, cacheDir, onProgress = () => undefined}: BuildOptions): Promise<RamdiskManifest> {
  const kernelPackage = await dependencyOf('linux-image-amd64', /^linux-image-\d/)
  const packages = [
    ...(await requireCandidates([kernelPackage, 'busybox-static', ...TOOL_PACKAGES])),
    ...(await candidates(FIRMWARE_PACKAGES)),
  ]
  const compiler = await runText('dpkg-query', ['-W', '-f', '${Package}=${Version} ', 'gcc', 'libc6-dev', 'kmod'])
  const timeS = Number(process.env.SOURCE_DATE_EPOCH ?? 0)
  const builder = ['ramdisk.ts', 'tools.ts', 'cpio.ts', 'modules.ts'].map(file => join(import.meta.dirname, file))
  const key = await inputKey([JSON.stringify(packages), compiler, String(timeS), process.version], [SOURCES, ...builder])
  const folder = await cached(cacheDir, 'ramdisk', key, scratch =>
    build({scratch, cacheDir, key, packages, kernelPackage, timeS, onProgress}),
  )
  await mkdir(outDir, {recursive: true})
  await publish(folder, join(outDir, 'ramdisk'), 'manifest.json')
  await forgetOthers(cacheDir, 'ramdisk', key)
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as RamdiskManifest
  onProgress(`ramdisk ${key}: kernel ${manifest.kernel}, initrd ${manifest.files.initrd.size_bytes} bytes`)
  return manifest
}

type Build = {
  readonly scratch: string
  readonly cacheDir: string
  readonly key: string
  readonly packages: readonly PackageVersion[]
  readonly kernelPackage: string
  readonly timeS: number
  readonly onProgress: (line: string) => void
}

async function build({scratch, cacheDir, key, packages, kernelPackage, timeS, onProgress}: Build): Promise<void> {
  const tree = join(scratch, 'tree')
  for (const wanted of packages) {
    onProgress(`ramdisk: ${wanted.name} ${wanted.version}`)
    await unpack(
      await download(wanted, join(cacheDir, 'debs')),
      join(tree, wanted.name.startsWith('firmware-') ? 'firmware' : wanted.name),
    )
  }
  const kernel = kernelPackage.replace(/^linux-image-/, '')
  onProgress(`ramdisk: modules of ${kernel}`)
  const modules = await moduleFiles(join(tree, kernelPackage), kernel, scratch)
  const firmware = await firmwareFiles(join(tree, 'firmware'), modules.paths)
  onProgress('ramdisk: compiling ingot-ramdisk')
  const program = await compile(scratch)
  const entries = [...(await agentFiles(program, join(tree, 'busybox-static/bin/busybox'))), ...modules.entries, ...firmware]

  onProgress('ramdisk: packing')
  const initrd = await promisify(zstdCompress)(cpioArchive(entries, timeS), {params: {[constants.ZSTD_c_compressionLevel]: 12}})
  const vmlinuz = await readFile(join(tree, kernelPackage, 'boot', `vmlinuz-${kernel}`))
  const tools = await packTools(tree)
  const manifest: RamdiskManifest = {
    format: 'ingot-ramdisk-1',
    key,
    kernel,
    packages: Object.fromEntries(packages.map(({name, version}) => [name, version])),
    files: {vmlinuz: describe(vmlinuz), initrd: describe(initrd), tools: describe(tools)},
    modules: modules.names,
    firmware: firmware.map(entry => entry.path.replace('lib/firmware/', '')),
  }
  await rm(scratch, {recursive: true})
  await mkdir(scratch)
  await writeFile(join(scratch, 'vmlinuz'), vmlinuz)
  await writeFile(join(scratch, 'initrd'), initrd)
  await writeFile(join(scratch, 'tools'), tools)
  await writeFile(join(scratch, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

/**
 * The chosen modules with indexes made for just these: the fewer aliases, the quicker busybox's modprobe. Large ones are compressed one by
 * one and unpacked by `ramdisk/modprobe` when the hardware asks: unpacking all of them costs an emulated machine a second at each boot.
 */
async function moduleFiles(
  tree: string,
  kernel: string,
  scratch: string,
): Promise<{entries: CpioEntry[]; names: string[]; paths: string[]}> {
  const from = join(tree, 'lib/modules', kernel)
  await run('depmod', ['-b', tree, kernel])
  const files = await chooseModules(from, parseModuleList(await readFile(join(SOURCES, 'modules.list'), 'utf8')))
  const subset = join(scratch, 'modules')
  const into = join(subset, 'lib/modules', kernel)
  for (const file of [...files, 'modules.order', 'modules.builtin']) {
    await mkdir(join(into, file, '..'), {recursive: true})
    await copyFile(join(from, file), join(into, file))
  }
  await run('depmod', ['-b', subset, kernel])
  const entries = await Promise.all(
    [...files, 'modules.dep', 'modules.alias', 'modules.symbols', 'modules.builtin'].map(async (file): Promise<CpioEntry> => {
      const data = await readFile(join(into, file))
      const path = `lib/modules/${kernel}/${file}`
      if (!file.endsWith('.ko') || data.length < LARGE_MODULE_BYTES) return {path, kind: 'file', data}
      return {path: `${path}.gz`, kind: 'file', data: await promisify(gzip)(data, {level: 9})}
    }),
  )
  return {entries, names: files.map(file => file.replace(/^.*\/|\.ko$/g, '')), paths: files.map(file => join(from, file))}
}

/** Of the firmware that the modules name, what the unpacked packages have. */
async function firmwareFiles(folder: string, modulePaths: readonly string[]): Promise<CpioEntry[]> {
  const wanted = new Set((await runText('modinfo', ['-F', 'firmware', ...modulePaths])).split('\n').filter(Boolean))
  const entries: CpioEntry[] = []
  for (const name of [...wanted].sort()) {
    const data = await readFile(join(folder, 'lib/firmware', name)).catch(() => undefined)
    if (data) entries.push({path: `lib/firmware/${name}`, kind: 'file', data})
  }
  return entries
}

/** Compiled in a folder of its own by relative names, so that the program carries no path of this machine. */
async function compile(scratch: string): Promise<Buffer> {
  const sources = (await readdir(join(SOURCES, 'src'))).filter(file => file.endsWith('.c')).sort()
  const program = join(scratch, 'ingot-ramdisk')
  await run('gcc', [...COMPILE, '-o', program, ...sources], {cwd: join(SOURCES, 'src')})
  return readFile(program)
}

async function agentFiles(program: Buffer, busybox: string): Promise<CpioEntry[]> {
  await chmod(busybox, 0o755)
  const applets = (await runText(busybox, ['--list'])).split('\n').filter(applet => applet !== 'busybox' && applet !== 'modprobe')
  const library = (await readdir(join(SOURCES, 'lib'))).sort()
  const entries: CpioEntry[] = [
    ...['dev', 'proc', 'sys', 'run', 'tmp', 'mnt', 'etc'].map(path => ({path, kind: 'directory' as const})),
    {path: 'init', kind: 'file', mode: 0o755, data: await readFile(join(SOURCES, 'init'))},
    {path: 'bin/modprobe', kind: 'file', mode: 0o755, data: await readFile(join(SOURCES, 'modprobe'))},
    {path: 'bin/busybox', kind: 'file', mode: 0o755, data: await readFile(busybox)},
    {path: 'bin/ingot-ramdisk', kind: 'file', mode: 0o755, data: program},
    {path: 'sbin', kind: 'link', target: 'bin'}, // the kernel calls /sbin/modprobe by itself
    ...applets.map(applet => ({path: `bin/${applet}`, kind: 'link' as const, target: 'busybox'})),
  ]
  for (const file of library) {
    entries.push({
      path: `lib/ingot/${file}`,
      kind: 'file',
      mode: file === 'udhcpc.sh' ? 0o755 : 0o644,
      data: await readFile(join(SOURCES, 'lib', file)),
    })
  }
  return entries
}

function describe(data: Buffer): {sha256: string; size_bytes: number} {
  return {sha256: createHash('sha256').update(data).digest('hex'), size_bytes: data.length}
}
