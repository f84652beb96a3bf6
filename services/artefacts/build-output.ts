/**
 * What a build leaves behind (`loaders/*`, `ramdisk/vmlinuz`, `ramdisk/initrd`, `ramdisk/tools`, `images/<name>/…`), read as a list of things to import.
 * Symbolic links are refused: what is imported is what the build wrote.
 */
import {readdir, readFile} from 'node:fs/promises'
import {join} from 'node:path'
import {z} from 'zod'
import {IngotError} from '../../lib/errors.ts'
import {parseJson} from '../../lib/json.ts'
import {type ArtefactKind, isArtefactName, isSha256, kindOfBuiltFile} from './names.ts'

export type BuiltFile = {readonly name: string; readonly path: string; readonly kind: ArtefactKind}

/** What a build says about its files; the bytes must agree. */
export type BuildClaims = {
  readonly version: ReadonlyMap<string, string>
  readonly source: ReadonlyMap<string, string>
  readonly sha256: ReadonlyMap<string, string>
}

const MANIFEST_MAX_BYTES = 16 * 1024 * 1024

const ImageManifest = z.object({
  format: z.literal('ingot-image-1'),
  name: z.string(),
  version: z.string().min(1).max(200),
  data: z.string().refine(isSha256, 'must be a SHA-256'),
})

const LoaderList = z.object({
  format: z.literal('ingot-loaders-1'),
  loaders: z.array(z.object({name: z.string(), sha256: z.string().refine(isSha256), version: z.string(), source: z.string()})),
})

const builtFile = z.object({sha256: z.string().refine(isSha256)})

/** Written beside the kernel and the initrd. */
const RamdiskManifest = z.object({
  format: z.literal('ingot-ramdisk-1'),
  key: z.string().min(1).max(100),
  kernel: z.string().min(1).max(90),
  // One that was built by an earlier version has no tools.
  files: z.object({vmlinuz: builtFile, initrd: builtFile, tools: builtFile.optional()}),
})

/** @throws IngotError ARTEFACT_MISSING when there is nothing to import, INVALID_INPUT for a symbolic link */
export async function listBuiltFiles(outDir: string): Promise<readonly BuiltFile[]> {
  const files: BuiltFile[] = []
  for (const entry of await readBuildDirectory(outDir)) {
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(outDir.length).replace(/^\/+/, '')
    const kind = kindOfBuiltFile(name)
    // A build publishes by renaming `<folder>.<pid>.new`; one that was killed leaves that behind.
    if (!kind || /\.\d+\.new\//.test(name)) continue
    if (!entry.isFile() || !isArtefactName(name)) throw new IngotError('INVALID_INPUT', `${path} is not a plain file of a build`)
    files.push({name, path, kind})
  }
  if (files.length === 0) throw new IngotError('ARTEFACT_MISSING', `${outDir} holds no loaders, ramdisk or images`)
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Reads the manifests that lie beside the loaders, the ramdisk and each image, for versions, sources and digests. */
export async function readBuildClaims(outDir: string, files: readonly BuiltFile[]): Promise<BuildClaims> {
  const claims = {version: new Map<string, string>(), source: new Map<string, string>(), sha256: new Map<string, string>()}
  for (const file of files.filter(({kind}) => kind === 'image')) {
    const image = await readBuildJson(file.path, ImageManifest)
    const folder = file.name.slice(0, -'manifest.json'.length)
    if (folder !== `images/${image.name}/`) throw new IngotError('INVALID_INPUT', `${file.path} names the image "${image.name}"`)
    for (const part of ['manifest.json', 'manifest.lines', 'data']) claims.version.set(folder + part, image.version)
    claims.sha256.set(`${folder}data`, image.data)
  }
  if (files.some(({kind}) => kind === 'loader')) {
    for (const loader of (await readBuildJson(join(outDir, 'loaders/loaders.json'), LoaderList)).loaders) {
      claims.version.set(`loaders/${loader.name}`, loader.version)
      claims.source.set(`loaders/${loader.name}`, loader.source)
      claims.sha256.set(`loaders/${loader.name}`, loader.sha256)
    }
  }
  if (files.some(({kind}) => kind === 'kernel' || kind === 'initrd')) {
    const ramdisk = await readBuildJson(join(outDir, 'ramdisk/manifest.json'), RamdiskManifest)
    for (const [name, file] of Object.entries(ramdisk.files)) {
      if (!file) continue
      claims.version.set(`ramdisk/${name}`, ramdisk.key)
      claims.source.set(`ramdisk/${name}`, `build, kernel ${ramdisk.kernel}`)
      claims.sha256.set(`ramdisk/${name}`, file.sha256)
    }
  }
  return claims
}

async function readBuildDirectory(outDir: string) {
  try {
    return await readdir(outDir, {recursive: true, withFileTypes: true})
  } catch (error) {
    throw new IngotError('ARTEFACT_MISSING', `${outDir} cannot be read`, {cause: error})
  }
}

async function readBuildJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new IngotError('ARTEFACT_MISSING', `${path} cannot be read`, {cause: error})
  })
  const parsed = schema.safeParse(parseJson(bytes, MANIFEST_MAX_BYTES))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new IngotError('INVALID_INPUT', `${path}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not valid'}`)
}
