/** What the lab's machines boot: built once into the project's cache, then taken into a state directory. */
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {createLog} from '../lib/log.ts'
import {buildImage, buildRamdisk} from '../pxe/build.ts'
import {collectLoaders} from '../pxe/loaders.ts'
import {createArtefacts} from '../services/artefacts/index.ts'

/** Kept between runs; gitignored. */
export const CACHE_DIR = fileURLToPath(new URL('../.cache/pxe', import.meta.url))

/** Virtual machines get the image with the cloud kernel: real hardware takes the generic one. */
const KERNEL = 'cloud'

/** Builds what is missing. Minutes the first time, moments later. @returns the directory of the built files */
export async function buildLabArtefacts(onProgress: (line: string) => void): Promise<string> {
  const outDir = join(CACHE_DIR, 'out')
  await collectLoaders({outDir})
  await buildRamdisk({outDir, cacheDir: CACHE_DIR, onProgress})
  await buildImage({outDir, cacheDir: CACHE_DIR, kernel: KERNEL, onProgress})
  return outDir
}

export async function importLabArtefacts(outDir: string, stateDir: string): Promise<readonly string[]> {
  const artefacts = createArtefacts({dir: join(stateDir, 'artefacts'), log: createLog('lab', 'warn')})
  const taken = await artefacts.importDirectory(outDir)
  return taken.map(artefact => artefact.name)
}
