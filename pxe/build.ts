/**
 * `build.ts ramdisk|image|loaders --out DIR --cache DIR [--kernel cloud|generic]`: makes what machines boot, from Debian packages.
 * Prints one line per step. Does nothing that was done before with the same inputs.
 */
import {resolve} from 'node:path'
import {parseArgs} from 'node:util'
import {buildImage, type ImageKernel} from './image.ts'
import {collectLoaders} from './loaders.ts'
import {buildRamdisk} from './ramdisk.ts'

export {buildImage, imageName} from './image.ts'
export {buildRamdisk} from './ramdisk.ts'

const USAGE = 'usage: build.ts ramdisk|image|loaders --out DIR --cache DIR [--kernel cloud|generic]'

async function main(): Promise<void> {
  const {positionals, values} = parseArgs({
    allowPositionals: true,
    options: {out: {type: 'string'}, cache: {type: 'string'}, kernel: {type: 'string', default: 'generic'}},
  })
  const [what] = positionals
  if (!values.out || !values.cache) throw new Error(USAGE)
  const started = performance.now()
  const onProgress = (line: string) => console.log(`[${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s] ${line}`)
  const options = {outDir: resolve(values.out), cacheDir: resolve(values.cache), onProgress}
  if (what === 'ramdisk') await buildRamdisk(options)
  else if (what === 'image' && isKernel(values.kernel)) await buildImage({...options, kernel: values.kernel})
  else if (what === 'loaders')
    for (const loader of await collectLoaders(options)) onProgress(`loader ${loader.name}: ${loader.source}`)
  else throw new Error(USAGE)
}

function isKernel(text: string): text is ImageKernel {
  return text === 'cloud' || text === 'generic'
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  })
}
