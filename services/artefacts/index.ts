/**
 * Bytes by digest: boot loaders, kernels, ramdisks and images. `<dir>/<sha256>` holds a content, `<dir>/manifest.json` says which name
 * stands for which. Many processes read it; one at a time writes.
 */
import {mkdir, rm} from 'node:fs/promises'
import {resolve} from 'node:path'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type BuildClaims, type BuiltFile, listBuiltFiles, readBuildClaims} from './build-output.ts'
import {hashContent, type OpenArtefact, openContent, placeContent, type StagedContent, stageContent} from './content.ts'
import {withWriteLock} from './lock.ts'
import {type Artefact, type ArtefactMeta, type Manifest, syncDirectory, withArtefacts, writeManifest} from './manifest.ts'
import {createManifestReader} from './manifest-reader.ts'
import {isArtefactName} from './names.ts'
import {pruneContents} from './prune.ts'

export type {OpenArtefact} from './content.ts'
export type {Artefact, ArtefactMeta} from './manifest.ts'
export type {ArtefactKind} from './names.ts'
export {type ByteRange, parseRange} from './range.ts'

export type Damage = {readonly sha256: string; readonly names: readonly string[]; readonly cause: string}

export type Artefacts = {
  /** What a name stands for now. Any text may be asked for; only a name in the manifest is found. */
  lookup(name: string): Artefact | undefined
  /** What has these bytes, current or former. */
  byDigest(sha256: string): Artefact | undefined
  /** Current artefacts by name. */
  list(): readonly Artefact[]
  /** @throws IngotError INVALID_INPUT (name), ARTEFACT_MISSING (file), STORAGE_FULL, CONFLICT */
  importFile(name: string, path: string, meta: ArtefactMeta): Promise<Artefact>
  /** Imports a build's output at once: either every name changes or none does. @throws as importFile */
  importDirectory(outDir: string): Promise<readonly Artefact[]>
  /** Takes a name away; its content stays until it is pruned. @returns whether it was there */
  remove(name: string): Promise<boolean>
  /** Deletes former contents that are not in `keep`. @returns the digests deleted */
  prune(keep: ReadonlySet<string>): Promise<readonly string[]>
  /** Hashes every content again. */
  verify(): Promise<{readonly checked: number; readonly damaged: readonly Damage[]}>
  /** @throws IngotError NOT_FOUND when no artefact has this digest, ARTEFACT_MISSING when its bytes are gone */
  open(sha256: string): Promise<OpenArtefact>
  /** Reads a piece; fewer bytes only at the end. @throws as open */
  read(sha256: string, position: number, length: number): Promise<Uint8Array>
}

/** @param dir is made when it is missing and something is imported */
export function createArtefacts(options: {readonly dir: string; readonly log: Log}): Artefacts {
  const dir = resolve(options.dir)
  const {log} = options
  const reader = createManifestReader(dir, log)

  async function open(sha256: string): Promise<OpenArtefact> {
    const artefact = reader.byDigest(sha256)
    if (!artefact) throw new IngotError('NOT_FOUND', 'no artefact has this digest')
    return openContent(dir, artefact)
  }

  /** Contents get their places under the lock too, so that pruning never meets one that no manifest names yet. */
  async function commit(staged: readonly StagedContent[], change: (manifest: Manifest) => Manifest): Promise<void> {
    await mkdir(dir, {recursive: true, mode: 0o755})
    await withWriteLock(dir, async () => {
      const next = change(reader.manifestForWriting())
      for (const content of staged) await placeContent(dir, content)
      await syncDirectory(dir)
      await writeManifest(dir, next)
    })
  }

  async function importAll(files: readonly BuiltFile[], metaOf: (file: BuiltFile, sha256: string) => ArtefactMeta) {
    await mkdir(dir, {recursive: true, mode: 0o755})
    const staged: StagedContent[] = []
    try {
      const added: Artefact[] = []
      for (const file of files) {
        const content = await stageContent(dir, file.path)
        staged.push(content)
        added.push({
          name: file.name,
          sha256: content.sha256,
          size_bytes: content.sizeBytes,
          ...metaOf(file, content.sha256),
        })
      }
      await commit(staged, manifest => withArtefacts(manifest, added))
      log.info({names: added.map(({name}) => name)}, 'artefacts: imported')
      return added
    } finally {
      for (const content of staged) await rm(content.path, {force: true})
    }
  }

  return {
    lookup: name => reader.manifest().current.get(name),
    byDigest: sha256 => reader.byDigest(sha256),
    list: () => [...reader.manifest().current.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    async importFile(name, path, meta) {
      if (!isArtefactName(name)) throw invalidName(name)
      const [artefact] = await importAll([{name, path, kind: meta.kind}], () => meta)
      if (!artefact) throw new Error('one file was imported and none came back')
      return artefact
    },
    async importDirectory(outDir) {
      const root = resolve(outDir)
      const files = await listBuiltFiles(root)
      const claims = await readBuildClaims(root, files)
      return importAll(files, (file, sha256) => builtMeta(file, sha256, claims))
    },
    async remove(name) {
      if (!reader.manifest().current.has(name)) return false
      await commit([], manifest => {
        const current = new Map(manifest.current)
        const removed = current.get(name)
        current.delete(name)
        return withArtefacts({current, former: removed ? [...manifest.former, removed] : manifest.former}, [])
      })
      return true
    },
    async prune(keep) {
      await mkdir(dir, {recursive: true, mode: 0o755})
      return withWriteLock(dir, () => pruneContents(dir, reader.manifestForWriting(), keep))
    },
    async verify() {
      const contents = distinctContents(reader.manifest())
      const damaged: Damage[] = []
      for (const [sha256, artefacts] of contents) {
        const [first] = artefacts
        const cause = first ? await damageOf(dir, first) : undefined
        if (cause) damaged.push({sha256, names: artefacts.map(({name}) => name), cause})
      }
      return {checked: contents.size, damaged}
    },
    open,
    async read(sha256, position, length) {
      const {artefact, handle, close} = await open(sha256)
      try {
        const wanted = Math.max(0, Math.min(length, artefact.size_bytes - position))
        const {bytesRead, buffer} = await handle.read(Buffer.allocUnsafeSlow(wanted), 0, wanted, position)
        return buffer.subarray(0, bytesRead)
      } finally {
        await close()
      }
    },
  }
}

function builtMeta(file: BuiltFile, sha256: string, claims: BuildClaims): ArtefactMeta {
  const claimed = claims.sha256.get(file.name)
  if (claimed !== undefined && claimed !== sha256) {
    throw new IngotError('INVALID_INPUT', `${file.path} has the SHA-256 ${sha256}, but its build says ${claimed}`)
  }
  return {
    kind: file.kind,
    version: claims.version.get(file.name) ?? sha256.slice(0, 12),
    source: claims.source.get(file.name) ?? 'build',
  }
}

async function damageOf(dir: string, artefact: Artefact): Promise<string | undefined> {
  try {
    const found = await hashContent(dir, artefact)
    return found === artefact.sha256 ? undefined : `has the SHA-256 ${found}`
  } catch (error) {
    return messageOf(error)
  }
}

function distinctContents(manifest: Manifest): Map<string, Artefact[]> {
  return Map.groupBy([...manifest.current.values(), ...manifest.former], ({sha256}) => sha256)
}

function invalidName(name: string): IngotError {
  const message = 'must be parts of letters, digits and . _ + - joined by slashes, each beginning with a letter or digit'
  return new IngotError('INVALID_INPUT', `"${name.slice(0, 100)}" is not an artefact name`, {
    errors: [{field: 'name', code: 'format', message}],
  })
}
