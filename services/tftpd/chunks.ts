/**
 * A bounded memory of file pieces, shared by every transfer: sixty-four machines that fetch one loader read it from disk once.
 *
 * A piece that is there is handed out at once, so that the usual block costs no promise.
 */

/** A file as the server sees it: immutable bytes under a digest. */
export type TftpFile = {
  readonly digest: string
  readonly sizeBytes: number
  /** Reads exactly `length` bytes; rejects when it cannot. */
  read(position: number, length: number): Promise<Uint8Array>
}

export type Chunk = {readonly start: number; readonly bytes: Uint8Array}

export type ChunkMemory = {
  /** The chunk that holds `position`; a promise when it must be read first. */
  at(file: TftpFile, position: number): Chunk | Promise<Chunk>
  /** Begins to read the chunk that holds `position`, if it lies in the file and is not there yet. */
  prefetch(file: TftpFile, position: number): void
  heldBytes(): number
}

export function createChunkMemory(limits: {readonly chunkBytes: number; readonly cacheBytes: number}): ChunkMemory {
  const held = new Map<string, Chunk>()
  const loading = new Map<string, Promise<Chunk>>()
  let heldBytes = 0

  function keep(key: string, chunk: Chunk): void {
    held.set(key, chunk)
    heldBytes += chunk.bytes.length
    for (const [oldest, old] of held) {
      if (heldBytes <= limits.cacheBytes || oldest === key) return
      held.delete(oldest)
      heldBytes -= old.bytes.length
    }
  }

  async function load(key: string, file: TftpFile, start: number): Promise<Chunk> {
    const length = Math.min(limits.chunkBytes, file.sizeBytes - start)
    const bytes = await file.read(start, length)
    if (bytes.length !== length) throw new Error(`read ${bytes.length} of ${length} bytes at ${start} of ${file.digest}`)
    const chunk = {start, bytes}
    keep(key, chunk)
    return chunk
  }

  function at(file: TftpFile, position: number): Chunk | Promise<Chunk> {
    const start = position - (position % limits.chunkBytes)
    const key = `${file.digest}/${start}`
    const chunk = held.get(key)
    if (chunk) {
      // Moved to the end: a Map keeps insertion order, so the front is what was used longest ago.
      held.delete(key)
      held.set(key, chunk)
      return chunk
    }
    const running = loading.get(key)
    if (running) return running
    const started = load(key, file, start).finally(() => loading.delete(key))
    loading.set(key, started)
    return started
  }

  return {
    at,
    prefetch(file, position) {
      if (position >= file.sizeBytes) return
      const chunk = at(file, position)
      // A failed read-ahead is not an error yet: the transfer that really needs the chunk asks again and sees it.
      if (chunk instanceof Promise) chunk.catch(() => undefined)
    },
    heldBytes: () => heldBytes,
  }
}
