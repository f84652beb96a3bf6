/** The manifest of an image in `ingot-image-1`: JSON for the control plane, and lines for the ramdisk's C program. Pure. */

export const CHUNK_BYTES = 4_194_304

/** Where a chunk's stored bytes lie in the data file and their SHA-256; null is a chunk of zeros, which is not stored. */
export type StoredChunk = readonly [offset: number, bytes: number, sha256: string] | null

export type ImageManifest = {
  readonly format: 'ingot-image-1'
  readonly name: string
  readonly version: string
  readonly size_bytes: number
  readonly chunk_bytes: typeof CHUNK_BYTES
  readonly firmware: readonly ('bios' | 'uefi')[]
  /** One LZ4 block for each chunk; a chunk stored with exactly its own size is not compressed. */
  readonly compression: 'lz4'
  /** Where the root file system lies on the disk: the ramdisk puts the machine's own files there before it writes the partition table. */
  readonly root: {readonly offset: number; readonly bytes: number; readonly filesystem: 'ext4'}
  /** SHA-256 of the data file. */
  readonly data: string
  readonly data_bytes: number
  readonly chunks: readonly StoredChunk[]
}

/** `key value` lines, one line for each chunk in order, and `end`, so that a truncated copy is never taken for a whole one. */
export function manifestLines(manifest: ImageManifest): string {
  const lines = [
    manifest.format,
    `name ${manifest.name}`,
    `version ${manifest.version}`,
    `compression ${manifest.compression}`,
    `size_bytes ${manifest.size_bytes}`,
    `chunk_bytes ${manifest.chunk_bytes}`,
    `root_offset ${manifest.root.offset}`,
    `root_bytes ${manifest.root.bytes}`,
    `data ${manifest.data}`,
    ...manifest.chunks.map(chunk => (chunk === null ? 'zero' : `chunk ${chunk.join(' ')}`)),
    'end',
  ]
  return `${lines.join('\n')}\n`
}
