/**
 * The manifest: which name stands for which bytes. One JSON file, replaced whole by a rename, so a reader sees the old one or the new one.
 *
 * `former` keeps what a name stood for before: a plan frozen by digest must still find its bytes until they are pruned.
 */
import {open, rename, rm} from 'node:fs/promises'
import {join} from 'node:path'
import {z} from 'zod'
import {IngotError} from '../../lib/errors.ts'
import {ARTEFACT_KINDS, isArtefactName, isSha256} from './names.ts'

const Entry = z.strictObject({
  sha256: z.string().refine(isSha256, 'must be 64 lower-case hexadecimal digits'),
  size_bytes: z.int().min(0),
  kind: z.enum(ARTEFACT_KINDS),
  version: z.string().max(200),
  source: z.string().max(500),
})

const Name = z.string().refine(isArtefactName, 'is not an artefact name')

const ManifestFile = z.strictObject({
  format: z.literal('ingot-artefacts-1'),
  artefacts: z.record(Name, Entry),
  former: z.array(Entry.extend({name: Name})),
})

export type ArtefactMeta = Pick<z.infer<typeof Entry>, 'kind' | 'version' | 'source'>

/** One named content. */
export type Artefact = Readonly<z.infer<typeof Entry>> & {readonly name: string}

export type Manifest = {readonly current: ReadonlyMap<string, Artefact>; readonly former: readonly Artefact[]}

export const EMPTY_MANIFEST: Manifest = {current: new Map(), former: []}

/** @throws IngotError INVALID_INPUT when the text is not a manifest */
export function parseManifest(text: string, path: string): Manifest {
  const file = ManifestFile.safeParse(parseText(text, path))
  if (!file.success) {
    const [issue] = file.error.issues
    throw new IngotError('INVALID_INPUT', `${path}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not a manifest'}`)
  }
  const current = new Map(Object.entries(file.data.artefacts).map(([name, entry]) => [name, {name, ...entry}]))
  return {current, former: file.data.former}
}

/** Puts `added` in; what they replace becomes former, and nothing is former and current at once. */
export function withArtefacts(manifest: Manifest, added: readonly Artefact[]): Manifest {
  const current = new Map(manifest.current)
  for (const artefact of added) current.set(artefact.name, artefact)
  const known = new Map([...manifest.former, ...manifest.current.values()].map(artefact => [artefact.sha256, artefact]))
  for (const artefact of current.values()) known.delete(artefact.sha256)
  return {current, former: [...known.values()]}
}

/** Durable and atomic: the file is written aside, synced, renamed, and the directory synced. */
export async function writeManifest(dir: string, manifest: Manifest): Promise<void> {
  const artefacts = Object.fromEntries(
    [...manifest.current.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).map(({name, ...entry}) => [name, entry]),
  )
  const text = `${JSON.stringify({format: 'ingot-artefacts-1', artefacts, former: manifest.former}, null, 2)}\n`
  const aside = join(dir, `.manifest.${process.pid}.part`)
  try {
    const file = await open(aside, 'w', 0o644)
    try {
      await file.writeFile(text)
      await file.chmod(0o644)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(aside, manifestPath(dir))
    await syncDirectory(dir)
  } catch (error) {
    await rm(aside, {force: true})
    throw error
  }
}

export function manifestPath(dir: string): string {
  return join(dir, 'manifest.json')
}

/** A rename lasts through a power cut only once its directory is on disk. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function parseText(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new IngotError('INVALID_INPUT', `${path} is not JSON`, {cause: error})
  }
}
