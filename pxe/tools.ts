/**
 * What a ramdisk that stays fetches beside itself: an SSH server and the libraries that it needs, out of Debian packages, as one archive
 * to be unpacked over the root. Same inputs, same bytes.
 */
import {readFile} from 'node:fs/promises'
import {join} from 'node:path'
import {promisify} from 'node:util'
import {gzip} from 'node:zlib'
import {type TarFile, writeTar} from '../lib/tar.ts'

export const TOOL_PACKAGES = ['dropbear-bin', 'libtomcrypt1', 'libtommath1', 'libgmp10', 'zlib1g', 'libcrypt1', 'libc6'] as const

const LIBRARIES = 'lib/x86_64-linux-gnu'

/** From its place in a package to its place in the archive; links are followed, so that each name is a file. */
const FILES: readonly (readonly [name: (typeof TOOL_PACKAGES)[number], from: string, to: string])[] = [
  ['dropbear-bin', 'usr/sbin/dropbear', 'bin/dropbear'],
  ['dropbear-bin', 'usr/bin/dropbearkey', 'bin/dropbearkey'],
  ['libtomcrypt1', `usr/${LIBRARIES}/libtomcrypt.so.1`, `${LIBRARIES}/libtomcrypt.so.1`],
  ['libtommath1', `usr/${LIBRARIES}/libtommath.so.1`, `${LIBRARIES}/libtommath.so.1`],
  ['libgmp10', `usr/${LIBRARIES}/libgmp.so.10`, `${LIBRARIES}/libgmp.so.10`],
  ['zlib1g', `${LIBRARIES}/libz.so.1`, `${LIBRARIES}/libz.so.1`],
  ['libcrypt1', `${LIBRARIES}/libcrypt.so.1`, `${LIBRARIES}/libcrypt.so.1`],
  ['libc6', `${LIBRARIES}/libc.so.6`, `${LIBRARIES}/libc.so.6`],
  ['libc6', `${LIBRARIES}/ld-linux-x86-64.so.2`, 'lib64/ld-linux-x86-64.so.2'],
]

/** @param tree a folder for each package, named after it */
export async function packTools(tree: string): Promise<Buffer> {
  const folders = ['bin/', 'lib/', `${LIBRARIES}/`, 'lib64/'].map((path): TarFile => ({path, mode: 0o755, body: ''}))
  const files = await Promise.all(
    FILES.map(
      async ([name, from, to]): Promise<TarFile> => ({path: to, mode: 0o755, body: await readFile(join(tree, name, from))}),
    ),
  )
  return promisify(gzip)(writeTar([...folders, ...files]), {level: 9})
}
