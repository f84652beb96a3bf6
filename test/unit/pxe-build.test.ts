/** The pure parts of the builders, and the shell files they ship. */
import {execFileSync} from 'node:child_process'
import {createHash} from 'node:crypto'
import {globSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import fc from 'fast-check'
import {afterAll, expect, test} from 'vitest'
import {cached, inputKey, publish} from '../../pxe/cache.ts'
import {cpioArchive} from '../../pxe/cpio.ts'
import {CHUNK_BYTES, manifestLines} from '../../pxe/manifest.ts'
import {parseDependencies, parseModuleList} from '../../pxe/modules.ts'
import {packImage, unpackBlock} from '../../pxe/pack.ts'

const PXE = join(import.meta.dirname, '../../pxe')
const folder = mkdtempSync(join(tmpdir(), 'ingot-pxe-'))
afterAll(() => rmSync(folder, {recursive: true, force: true}))

test('an archive has the same bytes whatever the order of its entries, and cpio reads it', () => {
  const entries = [
    {path: 'init', kind: 'file', mode: 0o755, data: Buffer.from('#!/bin/sh\n')},
    {path: 'lib/deep/file', kind: 'file', data: Buffer.from('x')},
    {path: 'sbin', kind: 'link', target: 'bin'},
  ] as const
  const archive = cpioArchive(entries, 0)
  expect(cpioArchive(entries.toReversed(), 0).equals(archive)).toBe(true)
  const list = execFileSync('cpio', ['-itv', '--quiet', '-n'], {input: archive}).toString('utf8')
  expect(list.split('\n').map(line => line.replace(/ +/g, ' ').replace(/ 0 0 .*19(70|69) /, ' '))).toEqual([
    '-rwxr-xr-x 1 init',
    'drwxr-xr-x 2 lib',
    'drwxr-xr-x 2 lib/deep',
    '-rw-r--r-- 1 lib/deep/file',
    'lrwxrwxrwx 1 sbin -> bin',
    '',
  ])
})

test('packs an image so that every chunk comes back whole, with its digest, and zeros take no space', async () => {
  const chunk = fc.oneof(
    fc.constant(Buffer.alloc(CHUNK_BYTES)),
    fc.string({minLength: 1, maxLength: 9}).map(text => Buffer.alloc(CHUNK_BYTES, text)),
    fc.infiniteStream(fc.nat(255)).map(stream => {
      const block = Buffer.from(Array.from(stream.take(4096)))
      return Buffer.alloc(CHUNK_BYTES, block)
    }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(chunk, {minLength: 1, maxLength: 20}), async chunks => {
      const [raw, data] = [join(folder, 'raw'), join(folder, 'data')]
      writeFileSync(raw, Buffer.concat(chunks))
      const packed = await packImage(raw, data)
      const stored = readFileSync(data)
      expect(packed.data).toBe(createHash('sha256').update(stored).digest('hex'))
      expect(packed.chunks.length).toBe(chunks.length)
      let next = 0
      for (const [index, row] of packed.chunks.entries()) {
        const original = chunks[index] as Buffer
        expect(row === null).toBe(original.every(byte => byte === 0))
        if (row === null) continue
        expect(row[0]).toBe(next)
        const block = stored.subarray(row[0], row[0] + row[1])
        expect(row[2]).toBe(createHash('sha256').update(block).digest('hex'))
        expect((await unpackBlock(block, CHUNK_BYTES)).equals(original)).toBe(true)
        next += row[1]
      }
      expect(next).toBe(packed.dataBytes)
    }),
    {numRuns: 6},
  )
})

test('the line form of a manifest ends in a line that says it is whole', () => {
  const lines = manifestLines({
    ...{
      format: 'ingot-image-1',
      name: 'n',
      version: 'v',
      size_bytes: 2 * CHUNK_BYTES,
      chunk_bytes: CHUNK_BYTES,
      firmware: ['bios', 'uefi'],
    },
    ...{compression: 'lz4', root: {offset: 1, bytes: 2, filesystem: 'ext4'}, data: 'd'.repeat(64), data_bytes: 3},
    chunks: [[0, 3, 'c'.repeat(64)], null],
  })
  expect(lines.split('\n').slice(-4)).toEqual([`chunk 0 3 ${'c'.repeat(64)}`, 'zero', 'end', ''])
})

test('reads module lists with comments, and names with either dash', () => {
  expect(parseModuleList('# cards\ne1000 igb # two\n\n  virtio_net\n')).toEqual(['e1000', 'igb', 'virtio_net'])
  const dependencies = parseDependencies('kernel/a/crc32c-intel.ko:\nkernel/b/ext4.ko: kernel/b/jbd2.ko kernel/b/crc16.ko\n')
  expect(dependencies.get('crc32c_intel')).toEqual(['kernel/a/crc32c-intel.ko'])
  expect(dependencies.get('ext4')).toEqual(['kernel/b/ext4.ko', 'kernel/b/jbd2.ko', 'kernel/b/crc16.ko'])
})

test('a result is built once for its inputs, and a failed build leaves nothing behind', async () => {
  const key = await inputKey(['a'], [join(PXE, 'manifest.ts')])
  expect(key).not.toBe(await inputKey(['b'], [join(PXE, 'manifest.ts')]))
  await expect(cached(folder, 'thing', key, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  let builds = 0
  const build = async (scratch: string) => {
    builds++
    writeFileSync(join(scratch, 'stamp'), key)
  }
  const built = await Promise.all([cached(folder, 'thing', key, build), cached(folder, 'thing', key, build)])
  expect(builds).toBe(1)
  await publish(built[0], join(folder, 'published'), 'stamp')
  expect(readFileSync(join(folder, 'published/stamp'), 'utf8')).toBe(key)
})

test('every shell file that is shipped passes shellcheck', () => {
  const dash = globSync(['ramdisk/init', 'ramdisk/modprobe', 'ramdisk/lib/*.sh'], {cwd: PXE})
  const posix = globSync(['image/*.sh', 'image/root/usr/lib/ingot/*'], {cwd: PXE})
  expect(dash.length).toBeGreaterThan(8)
  expect(posix.length).toBeGreaterThan(5)
  expect(execFileSync('shellcheck', ['-s', 'dash', '-e', 'SC1091', ...dash], {cwd: PXE}).toString()).toBe('')
  expect(execFileSync('shellcheck', posix, {cwd: PXE}).toString()).toBe('')
})
