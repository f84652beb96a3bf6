/**
 * Builds the Debian 12 image: packages by mmdebstrap from the host's own apt sources, our units and GRUB on top, laid out on a disk that
 * boots from BIOS and UEFI, packed as `ingot-image-1`. Two cached stages: the packages (a minute and a half), and what is ours (half a minute).
 */
import {createHash} from 'node:crypto'
import {mkdir, readdir, readFile, rm, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {cached, forgetOthers, inputKey, publish} from './cache.ts'
import {layOutDisk} from './disk-layout.ts'
import {CHUNK_BYTES, type ImageManifest, manifestLines} from './manifest.ts'
import {imageFiles, packImage} from './pack.ts'
import {requireCandidates} from './packages.ts'
import type {BuildOptions} from './ramdisk.ts'
import {run, runText} from './run.ts'

export type ImageKernel = 'cloud' | 'generic'
export type ImageOptions = BuildOptions & {readonly kernel?: ImageKernel}

const SOURCES = join(import.meta.dirname, 'image')
const SUITE = 'bookworm'
const PACKAGES = [
  ...[
    'systemd-sysv',
    'udev',
    'dbus',
    'usr-is-merged',
    'systemd-resolved',
    'systemd-timesyncd',
    'kmod',
    'initramfs-tools',
    'lz4',
    'zstd',
  ],
  ...['grub-pc-bin', 'grub2-common', 'grub-efi-amd64-signed', 'shim-signed', 'e2fsprogs', 'fdisk'],
  ...['openssh-server', 'iproute2', 'iputils-ping', 'netbase', 'procps', 'curl', 'ca-certificates', 'less', 'nano', 'python3'],
]
const KERNEL_PACKAGES = {cloud: 'linux-image-cloud-amd64', generic: 'linux-image-amd64'} as const
/** GRUB for network boot and live media: 35 MB that no installed system boots from. */
const GRUB_EXCLUDES = ['monolithic/*', 'gcd*', 'grubnet*'].map(files => `path-exclude=/usr/lib/grub/x86_64-efi*/${files}`)
/** Manual pages and translations make a third of the bytes to write and nothing of the system. */
const EXCLUDES = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/locale/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  ...GRUB_EXCLUDES,
]

/** `debian-12`, with the kernel for real hardware, or `debian-12-cloud`, with the one for virtual machines. */
export function imageName(kernel: ImageKernel): string {
  return kernel === 'generic' ? 'debian-12' : 'debian-12-cloud'
}

/** Leaves `images/<name>/{manifest.json,manifest.lines,data}` in `outDir`, built only when an input changed. Needs root. */
export async function buildImage({
  outDir,
  cacheDir,
  kernel = 'generic',
  onProgress = () => undefined,
}: ImageOptions): Promise<ImageManifest> {
  const packages = await requireCandidates([KERNEL_PACKAGES[kernel], ...PACKAGES])
  const hooks = ['before-kernel.sh', 'after-packages.sh'].map(file => join(SOURCES, file))
  const rootKey = await inputKey([JSON.stringify(packages), JSON.stringify(EXCLUDES), kernel], hooks)
  const builder = ['image.ts', 'disk-layout.ts', 'pack.ts', 'manifest.ts'].map(file => join(import.meta.dirname, file))
  const key = await inputKey([rootKey, await runText('lz4', ['--version'])], [SOURCES, ...builder])
  const name = imageName(kernel)
  const folder = await cached(cacheDir, `image-${name}`, key, async scratch => {
    const rootFolder = await cached(cacheDir, `root-${name}`, rootKey, into => buildRoot(into, kernel, onProgress))
    await buildDisk({scratch, rootTar: join(rootFolder, 'root.tar'), name, key, onProgress})
    await forgetOthers(cacheDir, `root-${name}`, rootKey)
  })
  await mkdir(join(outDir, 'images'), {recursive: true})
  await publish(folder, join(outDir, 'images', name), 'manifest.json')
  await forgetOthers(cacheDir, `image-${name}`, key)
  const manifest = JSON.parse(await readFile(imageFiles(folder).manifest, 'utf8')) as ImageManifest
  onProgress(`image ${name} ${manifest.version}: ${manifest.size_bytes} bytes on disk, ${manifest.data_bytes} to transfer`)
  return manifest
}

async function buildRoot(into: string, kernel: ImageKernel, onProgress: (line: string) => void): Promise<void> {
  const hook = (file: string) => `sh '${join(SOURCES, file)}' "$1"`
  await run(
    'mmdebstrap',
    [
      ...[
        '--variant=minbase',
        '--format=tar',
        '--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr',
        `--include=${[KERNEL_PACKAGES[kernel], ...PACKAGES].join(',')}`,
      ],
      ...EXCLUDES.map(line => `--dpkgopt=${line}`),
      ...[`--essential-hook=${hook('before-kernel.sh')}`, `--customize-hook=${hook('after-packages.sh')}`],
      ...[SUITE, join(into, 'root.tar'), ...(await aptSources())],
    ],
    {
      env: {KERNEL: kernel, SOURCE_DATE_EPOCH: await sourceDate()},
      onLine: line => onProgress(`image: ${line.replace(/^I: /, '')}`),
    },
  )
}

/** The host's own sources, which the image then has too. */
async function aptSources(): Promise<readonly string[]> {
  const folder = '/etc/apt/sources.list.d'
  const files = [
    ...(await readdir(folder))
      .filter(file => file.endsWith('.sources') || file.endsWith('.list'))
      .map(file => join(folder, file)),
    '/etc/apt/sources.list',
  ]
  const found: string[] = []
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '')
    if (new RegExp(`^(Suites:|deb ).*\\b${SUITE}\\b`, 'm').test(text)) found.push(file)
  }
  if (found.length === 0) throw new Error(`no apt source of this host has ${SUITE}`)
  return found
}

/** SOURCE_DATE_EPOCH, or when the package index was made: no file of the image is younger. */
async function sourceDate(): Promise<string> {
  if (process.env.SOURCE_DATE_EPOCH) return process.env.SOURCE_DATE_EPOCH
  const lists = '/var/lib/apt/lists'
  const releases = (await readdir(lists)).filter(file => file.endsWith('InRelease'))
  const dates = await Promise.all(
    releases.map(async file => /^Date: (.+)$/m.exec(await readFile(join(lists, file), 'utf8'))?.[1]),
  )
  return String(Math.max(0, ...dates.map(date => Date.parse(date ?? '') / 1000).filter(Number.isFinite)))
}

type Disk = {
  readonly scratch: string
  readonly rootTar: string
  readonly name: string
  readonly key: string
  readonly onProgress: (line: string) => void
}

async function buildDisk({scratch, rootTar, name, key, onProgress}: Disk): Promise<void> {
  const root = join(scratch, 'root')
  const espImage = join(scratch, 'esp.img')
  const image = join(scratch, 'disk.raw')
  const rootUuid = uuidOf(`root ${key}`)
  onProgress('image: unpacking the root file system')
  await mkdir(root)
  await run('tar', ['-C', root, '--numeric-owner', '--exclude=./dev/*', '-xpf', rootTar])
  onProgress('image: boot loaders and first boot')
  await run('sh', [join(SOURCES, 'onto-disk.sh'), root, join(SOURCES, 'root'), rootUuid, espImage])
  onProgress('image: laying out the disk')
  const usedMib = Number((await runText('du', ['-sm', root])).split(/\s/)[0])
  const layout = await layOutDisk({
    ...{image, root, espImage, rootUuid, diskGuid: uuidOf(`disk ${key}`), rootMib: Math.ceil((usedMib * 1.12 + 200) / 4) * 4},
    ...{bootImage: join(root, 'boot/grub/i386-pc/boot.img'), coreImage: join(root, 'boot/grub/i386-pc/core.img')},
  })
  onProgress('image: packing')
  const files = imageFiles(scratch)
  const packed = await packImage(image, files.data)
  const manifest: ImageManifest = {
    format: 'ingot-image-1',
    name,
    version: packed.data.slice(0, 16),
    size_bytes: layout.sizeBytes,
    chunk_bytes: CHUNK_BYTES,
    firmware: ['bios', 'uefi'],
    compression: 'lz4',
    root: {offset: layout.rootOffset, bytes: layout.rootBytes, filesystem: 'ext4'},
    data: packed.data,
    data_bytes: packed.dataBytes,
    chunks: packed.chunks,
  }
  await writeFile(files.manifest, `${JSON.stringify(manifest)}\n`)
  await writeFile(files.lines, manifestLines(manifest))
  for (const path of [root, espImage, image]) await rm(path, {recursive: true})
}

/** An RFC 4122 version 8 UUID out of a text: the same image has the same UUIDs. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
