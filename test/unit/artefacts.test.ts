/** Artefacts on a real file system: imports, several processes, damage, and names that try to leave the manifest. */
import {createHash, randomBytes} from 'node:crypto'
import {mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import fc from 'fast-check'
import {afterEach, beforeEach, describe, expect, it} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {createArtefacts, parseRange} from '../../services/artefacts/index.ts'
import {withWriteLock} from '../../services/artefacts/lock.ts'

const META = {kind: 'loader', version: '1', source: 'test'} as const

let root: string
let dir: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ingot-artefacts-'))
  dir = join(root, 'artefacts')
})

afterEach(() => rm(root, {recursive: true}))

function create() {
  return createArtefacts({dir, log: silentLog})
}

async function source(bytes: string | Buffer): Promise<string> {
  const path = join(root, `source-${randomBytes(6).toString('hex')}`)
  await writeFile(path, bytes)
  return path
}

function sha256(bytes: string | Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

describe('artefacts', () => {
  it('serves what was imported, by name and by digest', async () => {
    const artefacts = create()
    const bytes = randomBytes(3_000_000)
    const imported = await artefacts.importFile('loaders/undionly.kpxe', await source(bytes), META)
    expect(imported).toEqual({name: 'loaders/undionly.kpxe', sha256: sha256(bytes), size_bytes: bytes.length, ...META})
    expect(artefacts.lookup('loaders/undionly.kpxe')).toEqual(imported)
    expect(artefacts.byDigest(imported.sha256)).toEqual(imported)
    expect(artefacts.list()).toEqual([imported])
    expect(await artefacts.read(imported.sha256, 1000, 5000)).toEqual(bytes.subarray(1000, 6000))
    expect(await artefacts.read(imported.sha256, bytes.length - 10, 5000)).toEqual(bytes.subarray(-10))
  })

  it('leaves only a content and the manifest behind, readable whatever the umask', async () => {
    const before = process.umask(0o077)
    try {
      const {sha256: digest} = await create().importFile('a', await source('bytes'), META)
      expect((await readdir(dir)).sort()).toEqual([digest, 'manifest.json'].sort())
      for (const name of [digest, 'manifest.json']) expect((await stat(join(dir, name))).mode & 0o777).toBe(0o644)
    } finally {
      process.umask(before)
    }
  })

  it('streams a range with both ends included', async () => {
    const artefacts = create()
    const {sha256: digest} = await artefacts.importFile('a', await source('0123456789'), META)
    const opened = await artefacts.open(digest)
    expect(Buffer.concat(await opened.stream({start: 2, end: 5}).toArray()).toString()).toBe('2345')
    expect(Buffer.concat(await opened.stream().toArray()).toString()).toBe('0123456789')
    await opened.close()
  })

  it('shows another process what was imported meanwhile', async () => {
    const [writer, reader] = [create(), create()]
    expect(reader.lookup('a')).toBeUndefined()
    await writer.importFile('a', await source('one'), META)
    expect(reader.lookup('a')?.sha256).toBe(sha256('one'))
    await writer.importFile('a', await source('two'), META)
    expect(reader.lookup('a')?.sha256).toBe(sha256('two'))
  })

  it('still has by digest what a name stood for before, until it is pruned', async () => {
    const artefacts = create()
    await artefacts.importFile('a', await source('one'), META)
    await artefacts.importFile('a', await source('two'), META)
    await artefacts.importFile('a', await source('three'), META)
    expect(Buffer.from(await artefacts.read(sha256('one'), 0, 10)).toString()).toBe('one')
    expect(await artefacts.prune(new Set([sha256('two')]))).toEqual([sha256('one')])
    expect(artefacts.byDigest(sha256('one'))).toBeUndefined()
    expect(artefacts.byDigest(sha256('two'))).toBeDefined()
    expect(artefacts.lookup('a')?.sha256).toBe(sha256('three'))
    expect((await readdir(dir)).filter(name => name.length === 64).sort()).toEqual([sha256('two'), sha256('three')].sort())
  })

  it('takes a name away and keeps its bytes for those who have the digest', async () => {
    const artefacts = create()
    await artefacts.importFile('a', await source('one'), META)
    expect(await artefacts.remove('a')).toBe(true)
    expect(await artefacts.remove('a')).toBe(false)
    expect(artefacts.lookup('a')).toBeUndefined()
    expect(artefacts.byDigest(sha256('one'))).toBeDefined()
  })

  it('loses nothing when many import at once', async () => {
    const names = Array.from({length: 12}, (_, index) => `images/i${index}/data`)
    await Promise.all(names.map(async name => create().importFile(name, await source(name), {...META, kind: 'image_data'})))
    expect(
      create()
        .list()
        .map(({name}) => name),
    ).toEqual([...names].sort())
    expect(await create().verify()).toEqual({checked: 12, damaged: []})
  })

  it('takes over the lock of a process that is gone, and waits for one that is not', async () => {
    await mkdir(dir)
    await withWriteLock(dir, async () => {
      const held = await readFile(join(dir, '.lock'), 'utf8')
      await writeFile(join(dir, 'dead'), held.replace(/^pid \d+ started \d+/, 'pid 4194304 started 1'))
    })
    await rename(join(dir, 'dead'), join(dir, '.lock'))
    await create().importFile('a', await source('one'), META)
    const order: string[] = []
    const inside = Promise.withResolvers<void>()
    const first = withWriteLock(dir, async () => {
      inside.resolve()
      await new Promise(resolve => setTimeout(resolve, 200))
      order.push('first')
    })
    await inside.promise
    await Promise.all([first, withWriteLock(dir, async () => void order.push('second'))])
    expect(order).toEqual(['first', 'second'])
  })

  it('verify names what is damaged, shortened or gone', async () => {
    const artefacts = create()
    for (const name of ['good', 'flipped', 'short', 'gone']) await artefacts.importFile(name, await source(`${name}-bytes`), META)
    await writeFile(join(dir, sha256('flipped-bytes')), 'FLIPPED-BYTES')
    await writeFile(join(dir, sha256('short-bytes')), 'x')
    await rm(join(dir, sha256('gone-bytes')))
    const {checked, damaged} = await artefacts.verify()
    expect(checked).toBe(4)
    expect(damaged.flatMap(({names}) => names).sort()).toEqual(['flipped', 'gone', 'short'])
    expect(damaged.find(({names}) => names.includes('flipped'))?.cause).toContain(sha256('FLIPPED-BYTES'))
    await expect(artefacts.open(sha256('short-bytes'))).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    await artefacts.importFile('flipped', await source('flipped-bytes'), META)
    expect((await artefacts.verify()).damaged).toHaveLength(2)
  })

  it('keeps the last good manifest when the file is damaged, and refuses to write on top of the damage', async () => {
    const artefacts = create()
    await artefacts.importFile('a', await source('one'), META)
    expect(artefacts.lookup('a')).toBeDefined()
    await writeFile(join(dir, 'manifest.json'), '{"format": "ingot-artefacts-1", "artefacts": {"../x": {}}')
    expect(artefacts.lookup('a')).toBeDefined()
    await expect(artefacts.importFile('b', await source('two'), META)).rejects.toMatchObject({code: 'INVALID_INPUT'})
  })

  it('refuses a manifest whose digests or names could become paths', async () => {
    await mkdir(dir)
    const entry = {sha256: 'a'.repeat(64), size_bytes: 1, ...META}
    for (const artefacts of [{'../../etc/passwd': entry}, {'/etc/passwd': entry}, {a: {...entry, sha256: '../../etc/passwd'}}]) {
      await writeFile(join(dir, 'manifest.json'), JSON.stringify({format: 'ingot-artefacts-1', artefacts, former: []}))
      expect(create().list()).toEqual([])
    }
  })

  it('says what is wrong with a name or a file', async () => {
    const artefacts = create()
    const path = await source('x')
    for (const name of ['', '..', 'a/../b', '/a', 'a//b', 'a\\b', 'a\0b', '.hidden', 'a/.b', 'x'.repeat(201), 'ü']) {
      await expect(artefacts.importFile(name, path, META), name).rejects.toMatchObject({code: 'INVALID_INPUT'})
    }
    await expect(artefacts.importFile('a', join(root, 'nowhere'), META)).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    await expect(artefacts.importFile('a', root, META)).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    await expect(artefacts.open('f'.repeat(64))).rejects.toMatchObject({code: 'NOT_FOUND'})
    expect(artefacts.list()).toEqual([])
  })
})

describe('artefact names', () => {
  it('F26 nothing outside the manifest is found, whatever is asked for', async () => {
    const artefacts = create()
    await artefacts.importFile('loaders/undionly.kpxe', await source('loader'), META)
    await writeFile(join(root, 'secret'), 'secret')
    const hostile = [
      '../secret',
      'loaders/../../secret',
      '..%2fsecret',
      '%2e%2e/secret',
      '..\\secret',
      'loaders/undionly.kpxe\0',
      'loaders/undionly.kpxe\0.txt',
      '/etc/passwd',
      `${dir}/manifest.json`,
      'manifest.json',
      './loaders/undionly.kpxe',
      'loaders//undionly.kpxe',
      'LOADERS/undionly.kpxe',
      '__proto__',
      'constructor',
    ]
    for (const name of hostile) {
      expect(artefacts.lookup(name), name).toBeUndefined()
      expect(artefacts.byDigest(name), name).toBeUndefined()
      await expect(artefacts.open(name), name).rejects.toMatchObject({code: 'NOT_FOUND'})
    }
    fc.assert(
      fc.property(fc.string({maxLength: 60}), name => {
        expect(artefacts.lookup(name) === undefined || name === 'loaders/undionly.kpxe').toBe(true)
      }),
      {seed: 2601, numRuns: 2_000},
    )
  })

  it('F26 a symbolic link in the place of a content gives no byte', async () => {
    const artefacts = create()
    const {sha256: digest} = await artefacts.importFile('a', await source('0123456789'), META)
    await writeFile(join(root, 'secret'), 'TOP-SECRET')
    await rm(join(dir, digest))
    await symlink(join(root, 'secret'), join(dir, digest))
    await expect(artefacts.open(digest)).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    await expect(artefacts.read(digest, 0, 10)).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    expect((await artefacts.verify()).damaged).toHaveLength(1)
  })

  it('F26 a symbolic link in a build is not imported', async () => {
    const out = join(root, 'out')
    await mkdir(join(out, 'ramdisk'), {recursive: true})
    await writeFile(join(out, 'ramdisk/vmlinuz'), 'kernel')
    await symlink('/etc/passwd', join(out, 'ramdisk/initrd'))
    await expect(create().importDirectory(out)).rejects.toMatchObject({code: 'INVALID_INPUT'})
    expect(create().list()).toEqual([])
  })
})

describe('a build', () => {
  async function build(overrides: {data?: string; loaderSha?: string; initrdSha?: string} = {}) {
    const out = join(root, 'out')
    for (const folder of ['loaders', 'ramdisk', 'images/debian-12']) await mkdir(join(out, folder), {recursive: true})
    const loader = {name: 'snponly.efi', sha256: overrides.loaderSha ?? sha256('loader'), version: '1.0', source: 'deb ipxe 1.0'}
    const image = {
      format: 'ingot-image-1',
      name: 'debian-12',
      version: '20260101.1',
      data: overrides.data ?? sha256('data'),
      chunks: [],
    }
    const ramdisk = {
      format: 'ingot-ramdisk-1',
      key: '05e4f17ab0f9',
      kernel: '6.1.0-56-amd64',
      files: {vmlinuz: {sha256: sha256('kernel')}, initrd: {sha256: overrides.initrdSha ?? sha256('initrd')}},
    }
    await writeFile(join(out, 'loaders/snponly.efi'), 'loader')
    await writeFile(join(out, 'loaders/loaders.json'), JSON.stringify({format: 'ingot-loaders-1', loaders: [loader]}))
    await writeFile(join(out, 'ramdisk/vmlinuz'), 'kernel')
    await writeFile(join(out, 'ramdisk/initrd'), 'initrd')
    await writeFile(join(out, 'ramdisk/build.log'), 'not an artefact')
    await writeFile(join(out, 'ramdisk/manifest.json'), JSON.stringify(ramdisk))
    await writeFile(join(out, 'images/debian-12/manifest.json'), JSON.stringify(image))
    await writeFile(join(out, 'images/debian-12/manifest.lines'), 'lines')
    await writeFile(join(out, 'images/debian-12/data'), 'data')
    return out
  }

  it('is imported whole, with kinds and versions', async () => {
    const artefacts = create()
    await artefacts.importDirectory(await build())
    expect(artefacts.list().map(({name, kind, version}) => [name, kind, version])).toEqual([
      ['images/debian-12/data', 'image_data', '20260101.1'],
      ['images/debian-12/manifest.json', 'image', '20260101.1'],
      ['images/debian-12/manifest.lines', 'image_lines', '20260101.1'],
      ['loaders/snponly.efi', 'loader', '1.0'],
      ['ramdisk/initrd', 'initrd', '05e4f17ab0f9'],
      ['ramdisk/vmlinuz', 'kernel', '05e4f17ab0f9'],
    ])
    expect(artefacts.lookup('loaders/snponly.efi')?.source).toBe('deb ipxe 1.0')
  })

  it('whose files do not match its own manifests is refused whole', async () => {
    const artefacts = create()
    await expect(artefacts.importDirectory(await build({data: 'b'.repeat(64)}))).rejects.toMatchObject({code: 'INVALID_INPUT'})
    await expect(artefacts.importDirectory(await build({loaderSha: 'b'.repeat(64)}))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
    await expect(artefacts.importDirectory(await build({initrdSha: 'b'.repeat(64)}))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
    expect(artefacts.list()).toEqual([])
    expect((await readdir(dir)).filter(name => name.endsWith('.part'))).toEqual([])
  })

  it('that was killed while it published leaves nothing to import in its half-made folder', async () => {
    const out = await build()
    await mkdir(join(out, 'images/debian-12.123.new'))
    await writeFile(join(out, 'images/debian-12.123.new/manifest.json'), 'torn')
    expect(await create().importDirectory(out)).toHaveLength(6)
  })

  it('whose ramdisk does not say what it is, is refused', async () => {
    const out = await build()
    await rm(join(out, 'ramdisk/manifest.json'))
    await expect(create().importDirectory(out)).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
  })

  it('that holds nothing says so', async () => {
    await mkdir(join(root, 'empty'))
    await expect(create().importDirectory(join(root, 'empty'))).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
    await expect(create().importDirectory(join(root, 'nowhere'))).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
  })
})

describe('a Range header', () => {
  it('is read as RFC 9110 has it', () => {
    expect(parseRange('bytes=0-99', 1000)).toEqual({start: 0, end: 99})
    expect(parseRange('bytes=990-', 1000)).toEqual({start: 990, end: 999})
    expect(parseRange('bytes=-10', 1000)).toEqual({start: 990, end: 999})
    expect(parseRange('bytes=-5000', 1000)).toEqual({start: 0, end: 999})
    expect(parseRange('bytes=0-5000', 1000)).toEqual({start: 0, end: 999})
    for (const header of ['bytes=1000-', 'bytes=1000-2000', 'bytes=-0'])
      expect(parseRange(header, 1000), header).toBe('unsatisfiable')
    for (const header of [
      undefined,
      '',
      'bytes=-',
      'bytes=9-1',
      'bytes=0-1,5-6',
      'lines=0-1',
      'bytes=a-b',
      'bytes=0-9999999999999999',
    ]) {
      expect(parseRange(header, 1000), String(header)).toBe('whole')
    }
  })

  it('never leaves the content', () => {
    const number = fc.oneof(fc.constant(''), fc.nat(50).map(String))
    fc.assert(
      fc.property(number, number, fc.nat(40), (first, last, size) => {
        const range = parseRange(`bytes=${first}-${last}`, size)
        if (typeof range === 'string') return
        expect(range.start).toBeGreaterThanOrEqual(0)
        expect(range.end).toBeGreaterThanOrEqual(range.start)
        expect(range.end).toBeLessThan(size)
      }),
      {seed: 2602, numRuns: 3_000},
    )
  })
})
