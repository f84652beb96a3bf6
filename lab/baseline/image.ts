/** Turns an Ingot image into the plain compressed disk that `wget | zstd | dd` wants, with one machine's settings already inside. */
import {createHash} from 'node:crypto'
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {open} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import type {ImageManifest} from '../../pxe/manifest.ts'
import {imageFiles, unpackBlock} from '../../pxe/pack.ts'
import {runCommand} from '../commands.ts'

export type BaselineImageOptions = {
  /** An image as built: `manifest.json` and `data`. */
  readonly folder: string
  /** File to write: the disk, compressed by zstd. */
  readonly out: string
  /** Where the OS says that it is up: the URL whose `/first-boot` it POSTs to. */
  readonly url: string
  /** Line for root's authorized_keys. */
  readonly authorizedKey: string
}

export async function buildBaselineImage({folder, out, url, authorizedKey}: BaselineImageOptions): Promise<void> {
  const {manifest: manifestFile, data} = imageFiles(folder)
  const manifest = JSON.parse(readFileSync(manifestFile, 'utf8')) as ImageManifest
  const disk = `${out}.raw`
  try {
    await unpackImage(manifest, data, disk)
    await addFiles(disk, manifest.root.offset, {
      '/etc/ingot/first-boot.conf': {text: `url ${url}\ntoken none\n`, mode: '600'},
      '/root/.ssh/authorized_keys': {text: `${authorizedKey.trim()}\n`, mode: '600'},
    })
    await runCommand(['zstd', '-q', '-f', '-T0', '-6', disk, '-o', out], {timeout_ms: 600_000})
  } finally {
    rmSync(disk, {force: true})
  }
}

/** Writes the raw disk; chunks of zeros stay holes. */
async function unpackImage(manifest: ImageManifest, dataFile: string, out: string): Promise<void> {
  await using data = await open(dataFile, 'r')
  await using disk = await open(out, 'w')
  await disk.truncate(manifest.size_bytes)
  for (const [index, chunk] of manifest.chunks.entries()) {
    if (chunk === null) continue
    const [offset, length, digest] = chunk
    const start = index * manifest.chunk_bytes
    const stored = Buffer.alloc(length)
    await data.read(stored, 0, length, offset)
    if (createHash('sha256').update(stored).digest('hex') !== digest) throw new Error(`chunk ${index} of ${dataFile} is damaged`)
    const bytes = await unpackBlock(stored, Math.min(manifest.chunk_bytes, manifest.size_bytes - start))
    await disk.write(bytes, 0, bytes.length, start)
  }
}

/**
 * Puts files into the ext4 file system at `offset` of a raw disk, without mounting it.
 *
 * @param files absolute path in the image → contents and mode; folders are made where missing
 */
async function addFiles(
  disk: string,
  offset: number,
  files: Readonly<Record<string, {text: string; mode: string}>>,
): Promise<void> {
  const filesystem = `${disk}?offset=${offset}`
  const dir = mkdtempSync(join(tmpdir(), 'ingot-baseline-'))
  try {
    const commands = Object.entries(files).flatMap(([path, {text, mode}], index) => {
      const source = join(dir, String(index))
      writeFileSync(source, text)
      return [...parents(path).map(p => `mkdir ${p}`), `rm ${path}`, `write ${source} ${path}`, `sif ${path} mode 0100${mode}`]
    })
    writeFileSync(join(dir, 'commands'), `${commands.join('\n')}\n`)
    // debugfs complains of folders that exist and files that do not, and goes on: what counts is read back.
    await runCommand(['debugfs', '-w', '-f', join(dir, 'commands'), filesystem])
    for (const [path, {text}] of Object.entries(files)) {
      const {stdout} = await runCommand(['debugfs', '-R', `cat ${path}`, filesystem])
      if (stdout !== text) throw new Error(`${path} was not written into ${disk}`)
    }
  } finally {
    rmSync(dir, {recursive: true, force: true})
  }
}

/** `/a/b/c` → `/a`, `/a/b`. */
function parents(path: string): string[] {
  const parts = path.split('/').slice(1, -1)
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`)
}
