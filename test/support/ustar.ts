/** A minimal POSIX ustar writer for tests: files and directories owned by root. */

export type TarEntry = {readonly path: string; readonly data?: string | Buffer; readonly mode?: number}

/** An entry without data is a directory; its path ends in `/`. */
export function ustar(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = []
  for (const {path, data, mode} of entries) {
    const body = Buffer.from(data ?? '')
    const header = Buffer.alloc(512)
    header.write(path, 0)
    header.write((mode ?? (data === undefined ? 0o755 : 0o644)).toString(8).padStart(7, '0'), 100)
    header.write('0000000', 108)
    header.write('0000000', 116)
    header.write(body.length.toString(8).padStart(11, '0'), 124)
    header.write('00000000000', 136)
    header.write('        ', 148)
    header.write(data === undefined ? '5' : '0', 156)
    header.write('ustar\0', 257)
    header.write('00', 263)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    parts.push(header, body, Buffer.alloc((512 - (body.length % 512)) % 512))
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)])
}
