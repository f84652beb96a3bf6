/**
 * Reads what a machine's disk really holds, while the machine is off: `qemu-img map` says where the data lies, and it is read from there.
 * Only what the map calls zero is taken as zero without reading; allocated clusters are read, whatever they hold.
 */
import {createHash} from 'node:crypto'
import {open} from 'node:fs/promises'
import {runCommand} from './commands.ts'

export type DiskFormat = 'qcow2' | 'raw'
export type DiskFile = {readonly path: string; readonly format: DiskFormat; readonly size_bytes: number}
export type ByteRange = {readonly offset: number; readonly length: number}

type Extent = {start: number; length: number; zero: boolean; data: boolean; offset?: number; compressed?: boolean}

const READ_BYTES = 4 * 1024 * 1024

/** @returns where the first byte that is not zero lies; null when the whole disk is zero */
export async function firstNonZeroByte(disk: DiskFile): Promise<number | null> {
  for await (const {offset, bytes} of readRange(disk, wholeDisk(disk))) {
    if (bytes === null || bytes.equals(ZEROS.subarray(0, bytes.length))) continue
    return offset + bytes.findIndex(byte => byte !== 0)
  }
  return null
}

/** @returns SHA-256, in hex, of the disk's contents as the machine sees them (all of it, or one range) */
export async function digestDisk(disk: DiskFile, range: ByteRange = wholeDisk(disk)): Promise<string> {
  const hash = createHash('sha256')
  for await (const {length, bytes} of readRange(disk, range)) hash.update(bytes ?? ZEROS.subarray(0, length))
  return hash.digest('hex')
}

const ZEROS = Buffer.alloc(READ_BYTES)

/** Pieces of at most 4 MiB in order, without gaps; `bytes` is null where the image itself says zero. */
async function* readRange(
  disk: DiskFile,
  range: ByteRange,
): AsyncGenerator<{offset: number; length: number; bytes: Buffer | null}, void, undefined> {
  const end = range.offset + range.length
  if (range.offset < 0 || end > disk.size_bytes) throw new RangeError(`the disk ends at ${disk.size_bytes}, not at ${end}`)
  const extents = await mapDisk(disk)
  await using file = await open(disk.path, 'r')
  let next = range.offset
  for (const extent of extents) {
    const extentEnd = extent.start + extent.length
    while (next < Math.min(extentEnd, end) && next >= extent.start) {
      const length = Math.min(READ_BYTES, extentEnd - next, end - next)
      const bytes = extent.zero ? null : await readFully(file, (extent.offset ?? 0) + (next - extent.start), length, disk.path)
      yield {offset: next, length, bytes}
      next += length
    }
  }
  if (next !== end) throw new Error(`qemu-img map of ${disk.path} stops at ${next}, before ${end}`)
}

async function mapDisk(disk: DiskFile): Promise<Extent[]> {
  // Without force-share: a running QEMU holds the image's lock, and this fails rather than read a half-written map.
  const {stdout} = await runCommand(['qemu-img', 'map', '--output=json', '-f', disk.format, disk.path])
  const extents = JSON.parse(stdout) as Extent[]
  const unreadable = extents.find(extent => !extent.zero && (extent.offset === undefined || extent.compressed))
  if (unreadable) throw new Error(`${disk.path}: the extent at ${unreadable.start} has no plain place in the file`)
  return extents
}

async function readFully(
  file: Awaited<ReturnType<typeof open>>,
  position: number,
  length: number,
  path: string,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  let done = 0
  while (done < length) {
    const {bytesRead} = await file.read(bytes, done, length - done, position + done)
    // A raw file may end inside its last block; the guest sees zeros there.
    if (bytesRead === 0) return bytes.fill(0, done)
    done += bytesRead
  }
  if (done !== length) throw new Error(`${path}: read ${done} of ${length} bytes`)
  return bytes
}

function wholeDisk(disk: DiskFile): ByteRange {
  return {offset: 0, length: disk.size_bytes}
}
