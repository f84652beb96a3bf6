/** Loaders are taken from a package as it was shipped, or not at all. */
import {createHash} from 'node:crypto'
import {mkdir, mkdtemp, readFile, rm, writeFile} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {dirname, join} from 'node:path'
import {afterEach, beforeEach, describe, expect, it} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {collectLoaders} from '../../pxe/loaders.ts'
import {createArtefacts} from '../../services/artefacts/index.ts'

const FILES = {'usr/lib/ipxe/undionly.kpxe': 'bios', 'boot/ipxe.efi': 'uefi', 'usr/lib/ipxe/snponly.efi': 'snp'}
const STATUS =
  'Package: apt\nStatus: install ok installed\nVersion: 2\n\nPackage: ipxe\nStatus: install ok installed\nVersion: 1.0-5\n\n'

let root: string

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), {recursive: true})
  await writeFile(join(root, path), text)
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ingot-loaders-'))
  for (const [path, text] of Object.entries(FILES)) await put(path, text)
  const sums = Object.entries(FILES).map(([path, text]) => `${createHash('md5').update(text).digest('hex')}  ${path}\n`)
  await put('var/lib/dpkg/info/ipxe.md5sums', sums.join(''))
  await put('var/lib/dpkg/status', STATUS)
})

afterEach(() => rm(root, {recursive: true}))

describe('boot loaders', () => {
  it('are copied with their package version and checksum, ready to be imported', async () => {
    const outDir = join(root, 'out')
    const loaders = await collectLoaders({outDir, root})
    expect(loaders.map(({name}) => name)).toEqual(['undionly.kpxe', 'ipxe.efi', 'snponly.efi'])
    expect(loaders[0]).toEqual({
      name: 'undionly.kpxe',
      sha256: createHash('sha256').update('bios').digest('hex'),
      size_bytes: 4,
      version: '1.0-5',
      source: 'deb ipxe 1.0-5 /usr/lib/ipxe/undionly.kpxe',
    })
    expect(await readFile(join(outDir, 'loaders/ipxe.efi'), 'utf8')).toBe('uefi')
    const artefacts = createArtefacts({dir: join(root, 'artefacts'), log: silentLog})
    await artefacts.importDirectory(outDir)
    expect(artefacts.lookup('loaders/snponly.efi')).toMatchObject({kind: 'loader', version: '1.0-5'})
  })

  it('that differ from what the package shipped are refused', async () => {
    await put('usr/lib/ipxe/snponly.efi', 'evil')
    await expect(collectLoaders({outDir: join(root, 'out'), root})).rejects.toMatchObject({code: 'ARTEFACT_MISSING'})
  })

  it('of a package that is not installed are asked for by its name', async () => {
    await put(
      'var/lib/dpkg/status',
      STATUS.replace('install ok installed\nVersion: 1.0-5', 'deinstall ok config-files\nVersion: 1.0-5'),
    )
    const failure = collectLoaders({outDir: join(root, 'out'), root})
    await expect(failure).rejects.toMatchObject({
      code: 'ARTEFACT_MISSING',
      mend: expect.stringContaining('apt-get install') as string,
    })
  })
})
