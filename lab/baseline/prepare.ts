/** Makes what the baseline needs out of Ingot's own build, so that both provision the same system with the same kernel. */
import {existsSync, mkdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'
import {download, requireCandidates, unpack} from '../../pxe/packages.ts'
import type {RamdiskManifest} from '../../pxe/ramdisk.ts'
import {buildBaselineImage} from './image.ts'

export type PrepareOptions = {
  /** `pxe/build.ts --out`: holds `ramdisk/` and `images/NAME/`. */
  readonly buildDir: string
  /** `pxe/build.ts --cache`: holds the kernel's package. */
  readonly cacheDir: string
  /** Where to put what is made here. */
  readonly dir: string
  readonly imageName: string
  readonly url: string
  readonly authorizedKey: string
}

/** What `runBaseline` takes. */
export type BaselineInputs = {readonly kernel: string; readonly modulesDir: string; readonly image: string}

export async function prepareBaseline(options: PrepareOptions): Promise<BaselineInputs> {
  const {buildDir, cacheDir, dir, imageName, url, authorizedKey} = options
  mkdirSync(dir, {recursive: true})
  const ramdisk = JSON.parse(readFileSync(join(buildDir, 'ramdisk/manifest.json'), 'utf8')) as RamdiskManifest
  const modulesDir = await unpackModules(ramdisk.kernel, cacheDir, join(dir, 'kernel'))
  const image = join(dir, `${imageName}.raw.zst`)
  await buildBaselineImage({folder: join(buildDir, 'images', imageName), out: image, url, authorizedKey})
  return {kernel: join(buildDir, 'ramdisk/vmlinuz'), modulesDir, image}
}

/** The build keeps the kernel's package, but not unpacked. */
async function unpackModules(kernel: string, cacheDir: string, into: string): Promise<string> {
  for (const wanted of await requireCandidates([`linux-image-${kernel}`])) {
    await unpack(await download(wanted, join(cacheDir, 'debs')), into)
  }
  const modulesDir = join(into, 'lib/modules', kernel)
  if (!existsSync(join(modulesDir, 'kernel'))) throw new Error(`the package of kernel ${kernel} holds no modules`)
  return modulesDir
}
