/** The manifest as it is on disk now. Other processes replace it, so each look compares the file's identity before trusting memory. */
import {readFileSync, statSync} from 'node:fs'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type Artefact, EMPTY_MANIFEST, type Manifest, manifestPath, parseManifest} from './manifest.ts'

export type ManifestReader = {
  /** A damaged file leaves the last good manifest in force and is logged. */
  manifest(): Manifest
  byDigest(sha256: string): Artefact | undefined
  /** @throws IngotError INVALID_INPUT when the file is damaged: a writer must not build on a guess */
  manifestForWriting(): Manifest
}

export function createManifestReader(dir: string, log: Log): ManifestReader {
  const path = manifestPath(dir)
  let identity = 'unread'
  let manifest = EMPTY_MANIFEST
  let digests: ReadonlyMap<string, Artefact> = new Map()

  function refresh(): void {
    const stat = statSync(path, {throwIfNoEntry: false})
    const now = stat ? `${stat.ino} ${stat.size} ${stat.mtimeMs} ${stat.ctimeMs}` : 'missing'
    if (now === identity) return
    try {
      manifest = stat ? parseManifest(readFileSync(path, 'utf8'), path) : EMPTY_MANIFEST
      digests = new Map([...manifest.former, ...manifest.current.values()].map(artefact => [artefact.sha256, artefact]))
    } catch (error) {
      log.error({reason: messageOf(error)}, 'artefacts: the manifest cannot be read; the last good one stays in force')
    }
    identity = now
  }

  return {
    manifest() {
      refresh()
      return manifest
    },
    byDigest(sha256) {
      refresh()
      return digests.get(sha256)
    },
    manifestForWriting() {
      const stat = statSync(path, {throwIfNoEntry: false})
      return stat ? parseManifest(readFileSync(path, 'utf8'), path) : EMPTY_MANIFEST
    },
  }
}
