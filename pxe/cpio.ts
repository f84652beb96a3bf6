/** Writes a cpio archive in the kernel's `newc` form (Documentation/driver-api/early-userspace/buffer-format.rst), the same bytes each time. */

export type CpioEntry =
  | {readonly path: string; readonly kind: 'directory'; readonly mode?: number}
  | {readonly path: string; readonly kind: 'file'; readonly mode?: number; readonly data: Uint8Array}
  | {readonly path: string; readonly kind: 'link'; readonly target: string}

const TYPE_BITS = {directory: 0o040000, file: 0o100000, link: 0o120000} as const

/**
 * Sorted by path, owned by root, with one time for all and inode numbers in order. Parent directories are added where they are missing.
 *
 * @param entries paths without a leading slash
 * @param timeS   modification time of every entry, in seconds
 */
export function cpioArchive(entries: readonly CpioEntry[], timeS: number): Buffer {
  const byPath = new Map<string, CpioEntry>()
  for (const entry of entries) {
    for (let slash = entry.path.indexOf('/'); slash > 0; slash = entry.path.indexOf('/', slash + 1)) {
      const path = entry.path.slice(0, slash)
      if (!byPath.has(path)) byPath.set(path, {path, kind: 'directory'})
    }
    byPath.set(entry.path, entry)
  }
  const sorted = [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  const parts = sorted.flatMap((entry, index) => record(entry, index + 1, timeS))
  parts.push(...header('TRAILER!!!', 0, 0, 0, 0))
  return Buffer.concat(parts)
}

function record(entry: CpioEntry, inode: number, timeS: number): Buffer[] {
  const data = entry.kind === 'file' ? Buffer.from(entry.data) : Buffer.from(entry.kind === 'link' ? entry.target : '', 'utf8')
  const permissions = entry.kind === 'link' ? 0o777 : (entry.mode ?? (entry.kind === 'directory' ? 0o755 : 0o644))
  return [...header(entry.path, inode, TYPE_BITS[entry.kind] | permissions, timeS, data.length), data, padding(data.length)]
}

function header(name: string, inode: number, mode: number, timeS: number, bytes: number): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`, 'utf8')
  const links = (mode & 0o170000) === TYPE_BITS.directory ? 2 : 1
  const fields = [inode, mode, 0, 0, links, timeS, bytes, 0, 0, 0, 0, nameBytes.length, 0]
  const head = `070701${fields.map(field => field.toString(16).padStart(8, '0')).join('')}`
  return [Buffer.from(head, 'ascii'), nameBytes, padding(head.length + nameBytes.length)]
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((4 - (bytes % 4)) % 4)
}
