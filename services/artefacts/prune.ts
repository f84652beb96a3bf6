/** Takes away what nothing refers to: contents that no name stands for any more, and copies that a killed import left half done. */
import {existsSync} from 'node:fs'
import {readdir, rm} from 'node:fs/promises'
import {join} from 'node:path'
import {type Manifest, writeManifest} from './manifest.ts'
import {isSha256} from './names.ts'

/** To be called under the write lock. @returns the digests deleted */
export async function pruneContents(dir: string, manifest: Manifest, keep: ReadonlySet<string>): Promise<readonly string[]> {
  const former = manifest.former.filter(({sha256}) => keep.has(sha256))
  // The manifest forgets first: a crash in between leaves a file too many, never a name without bytes.
  await writeManifest(dir, {current: manifest.current, former})
  const named = new Set([...manifest.current.values(), ...former].map(({sha256}) => sha256))
  const entries = await readdir(dir)
  const unnamed = entries.filter(entry => isSha256(entry) && !named.has(entry))
  for (const entry of [...unnamed, ...entries.filter(isAbandonedPart)]) await rm(join(dir, entry), {force: true})
  return unnamed
}

/** Parts carry the pid of the process that writes them. */
function isAbandonedPart(entry: string): boolean {
  const pid = /^\.(?:content|manifest)\.(\d+)\..*part$/.exec(entry)?.[1]
  return pid !== undefined && !existsSync(`/proc/${pid}`)
}
