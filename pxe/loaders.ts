/**
 * Boot loaders out of the Debian package `ipxe`, as its maintainers built them. The package's own checksums are checked, so a loader that
 * something on this host has changed is not handed out.
 */
import {createHash} from 'node:crypto'
import {mkdir, readFile, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {IngotError} from '../lib/errors.ts'

const PACKAGE = 'ipxe'

/** Where the package keeps each: for BIOS; for UEFI with iPXE's own network drivers; for UEFI with the firmware's. */
const LOADERS = [
  {name: 'undionly.kpxe', path: 'usr/lib/ipxe/undionly.kpxe'},
  {name: 'ipxe.efi', path: 'boot/ipxe.efi'},
  {name: 'snponly.efi', path: 'usr/lib/ipxe/snponly.efi'},
] as const

export type CollectedLoader = {
  readonly name: string
  readonly sha256: string
  readonly size_bytes: number
  readonly version: string
  /** Package, version and path it came from. */
  readonly source: string
}

/**
 * Copies the loaders to `<outDir>/loaders/` and lists them in `<outDir>/loaders/loaders.json`.
 * @param root where the package is installed; the running system unless told otherwise
 * @throws IngotError ARTEFACT_MISSING when the package is not there or a file is not what it shipped
 */
export async function collectLoaders(options: {
  readonly outDir: string
  readonly root?: string
}): Promise<readonly CollectedLoader[]> {
  const root = options.root ?? '/'
  const version = packageVersion(await readInstalled(join(root, 'var/lib/dpkg/status')))
  const shipped = parseChecksums(await readInstalled(join(root, `var/lib/dpkg/info/${PACKAGE}.md5sums`)))
  const folder = join(options.outDir, 'loaders')
  await mkdir(folder, {recursive: true})
  const loaders: CollectedLoader[] = []
  for (const {name, path} of LOADERS) {
    const bytes = await readInstalled(join(root, path))
    if (digestOf('md5', bytes) !== shipped.get(path)) {
      throw missing(`${join(root, path)} is not the file that the package ${PACKAGE} ${version} shipped`)
    }
    await writeFile(join(folder, name), bytes)
    const source = `deb ${PACKAGE} ${version} /${path}`
    loaders.push({name, sha256: digestOf('sha256', bytes), size_bytes: bytes.length, version, source})
  }
  await writeFile(join(folder, 'loaders.json'), `${JSON.stringify({format: 'ingot-loaders-1', loaders}, null, 2)}\n`)
  return loaders
}

async function readInstalled(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw missing(`${path} cannot be read`, error)
  }
}

/** The `Version` field of the package's stanza in dpkg's status file. */
function packageVersion(status: Buffer): string {
  const stanza = status
    .toString('utf8')
    .split('\n\n')
    .find(text => text.startsWith(`Package: ${PACKAGE}\n`) && /^Status: .* installed$/m.test(text))
  const version = /^Version: (\S+)$/m.exec(stanza ?? '')?.[1]
  if (!version) throw missing(`the package ${PACKAGE} is not installed`)
  return version
}

function parseChecksums(file: Buffer): ReadonlyMap<string, string> {
  const rows = file.toString('utf8').matchAll(/^([0-9a-f]{32}) {2}(.+)$/gm)
  return new Map(Array.from(rows, ([, md5 = '', path = '']) => [path, md5]))
}

function digestOf(algorithm: 'md5' | 'sha256', bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex')
}

function missing(detail: string, cause?: unknown): IngotError {
  return new IngotError('ARTEFACT_MISSING', detail, {
    mend: `Install the Debian package: apt-get install --reinstall ${PACKAGE}`,
    cause,
  })
}
