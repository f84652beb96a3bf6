/**
 * Packs a raw disk image into `ingot-image-1`: chunks of 4 MiB, each an LZ4 block of its own with the SHA-256 of its stored bytes.
 *
 * Compression is the host's `lz4`: with independent 4 MiB blocks a frame is a sequence of `u32 size, block` (LZ4 frame format §3), so one
 * process compresses a run of chunks and the blocks are cut out of its frame. Several runs are compressed at once.
 */
import {createHash} from 'node:crypto'
import {type FileHandle, open} from 'node:fs/promises'
import {availableParallelism} from 'node:os'
import {join} from 'node:path'
import {CHUNK_BYTES, type StoredChunk} from './manifest.ts'
import {run} from './run.ts'

const CHUNKS_PER_RUN = 16
const FRAME_MAGIC = 0x184d2204
const NOT_COMPRESSED = 0x80000000
const ZEROS = Buffer.alloc(CHUNK_BYTES)

export type Packed = {readonly data: string; readonly dataBytes: number; readonly chunks: readonly StoredChunk[]}

/** Reads `image`, writes the data file, and returns what the manifest says about it. The image's size must be a whole number of MiB. */
export async function packImage(image: string, dataFile: string): Promise<Packed> {
  const source = await open(image)
  const target = await open(dataFile, 'w')
  try {
    const {size} = await source.stat()
    if (size % 1_048_576 !== 0) throw new Error(`${image} has ${size} bytes, not a whole number of MiB`)
    return await packAll(source, target, Math.ceil(size / CHUNK_BYTES), size)
  } finally {
    await source.close()
    await target.close()
  }
}

async function packAll(source: FileHandle, target: FileHandle, count: number, size: number): Promise<Packed> {
  const chunks: StoredChunk[] = []
  const hash = createHash('sha256')
  const starts = Array.from({length: Math.ceil(count / CHUNKS_PER_RUN)}, (_, index) => index * CHUNKS_PER_RUN)
  const pending = new Map<number, Promise<readonly (Buffer | null)[]>>()
  let dataBytes = 0
  for (const [index, start] of starts.entries()) {
    for (const ahead of starts.slice(index, index + availableParallelism())) {
      if (!pending.has(ahead)) pending.set(ahead, packRun(source, ahead, Math.min(count, ahead + CHUNKS_PER_RUN), size))
    }
    for (const stored of (await pending.get(start)) ?? []) {
      if (stored) {
        chunks.push([dataBytes, stored.length, createHash('sha256').update(stored).digest('hex')])
        hash.update(stored)
        await target.write(stored)
        dataBytes += stored.length
      } else chunks.push(null)
    }
    pending.delete(start)
  }
  return {data: hash.digest('hex'), dataBytes, chunks}
}

/** The stored form of chunks `from`…`until - 1`, null for zeros. */
async function packRun(source: FileHandle, from: number, until: number, size: number): Promise<readonly (Buffer | null)[]> {
  const raw: (Buffer | null)[] = []
  for (let index = from; index < until; index++) {
    const bytes = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES)
    const chunk = Buffer.alloc(bytes)
    await source.read(chunk, 0, bytes, index * CHUNK_BYTES)
    raw.push(chunk.equals(ZEROS.subarray(0, bytes)) ? null : chunk)
  }
  const wanted = raw.filter(chunk => chunk !== null)
  if (wanted.length === 0) return raw
  const frame = await run('lz4', ['-9', '-B7', '-BI', '--no-frame-crc', '-c', '-'], {input: Buffer.concat(wanted)})
  const blocks = frameBlocks(frame)
  if (blocks.length !== wanted.length) throw new Error(`lz4 made ${blocks.length} blocks of ${wanted.length} chunks`)
  let next = 0
  return raw.map(chunk => (chunk === null ? null : (blocks[next++] ?? null)))
}

/** The blocks of one LZ4 frame, without their sizes. A block that lz4 left uncompressed is as long as its chunk: just what the format says. */
export function frameBlocks(frame: Buffer): readonly Buffer[] {
  if (frame.readUInt32LE(0) !== FRAME_MAGIC) throw new Error('not an LZ4 frame')
  const flags = frame.readUInt8(4)
  const hasBlockChecksum = (flags & 0x10) !== 0
  let at = 4 + 2 + ((flags & 0x08) !== 0 ? 8 : 0) + 1
  const blocks: Buffer[] = []
  for (;;) {
    const size = frame.readUInt32LE(at)
    at += 4
    if (size === 0) return blocks
    const bytes = (size & ~NOT_COMPRESSED) >>> 0
    blocks.push(frame.subarray(at, at + bytes))
    at += bytes + (hasBlockChecksum ? 4 : 0)
  }
}

/** Undoes one block; the packer's own check and the tests'. */
export async function unpackBlock(block: Buffer, rawBytes: number): Promise<Buffer> {
  if (block.length === rawBytes) return block
  const header = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73]) // version 01, independent blocks of at most 4 MiB, no checksums
  const size = Buffer.alloc(4)
  size.writeUInt32LE(block.length)
  return run('lz4', ['-d', '-c', '-'], {input: Buffer.concat([header, size, block, Buffer.alloc(4)])})
}

export function imageFiles(folder: string): {readonly manifest: string; readonly lines: string; readonly data: string} {
  return {manifest: join(folder, 'manifest.json'), lines: join(folder, 'manifest.lines'), data: join(folder, 'data')}
}
