/** A deterministic ustar writer (POSIX.1-1988 §10.1.1): files, and directories whose path ends in `/`; owned by root, dated at the epoch. Pure. */

export type TarFile = {readonly path: string; readonly mode: number; readonly body: string | Uint8Array}

const BLOCK = 512

export function writeTar(files: readonly TarFile[]): Uint8Array {
  const blocks: Buffer[] = []
  for (const file of files) {
    const body = Buffer.from(file.body as string)
    blocks.push(header(file.path, file.mode, body.length), body, Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK))
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)])
}

function header(path: string, mode: number, size: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  if (Buffer.byteLength(path) > 100) throw new Error(`'${path}' is longer than the 100 bytes that ustar has for a name`)
  block.write(path, 0)
  block.write(octal(mode, 7), 100)
  block.write(octal(0, 7), 108)
  block.write(octal(0, 7), 116)
  block.write(octal(size, 11), 124)
  block.write(octal(0, 11), 136)
  block.write('        ', 148)
  block.write(path.endsWith('/') ? '5' : '0', 156)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\0 `, 148)
  return block
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}
