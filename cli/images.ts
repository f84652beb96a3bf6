/** `ingot images …`: the ramdisk, loaders and images: build them from packages, take them in, list and check them. */
import {join} from 'node:path'
import {Command} from 'commander'
import {loadConfig} from '../lib/config.ts'
import {createLog} from '../lib/log.ts'
import {buildImage, buildRamdisk} from '../pxe/build.ts'
import {collectLoaders} from '../pxe/loaders.ts'
import {createArtefacts} from '../services/artefacts/index.ts'
import {printJson, printLine, printTable, reportFailure} from './output.ts'
import {refuse} from './verb.ts'

type Options = {state?: string; json?: boolean}

const PARTS = ['loaders', 'ramdisk', 'image'] as const
type Part = (typeof PARTS)[number]

export function imagesCommand(): Command {
  const images = new Command('images').description('the ramdisk, loaders and images of this host')
  images
    .command('build')
    .description('build from distribution packages and take in: loaders, ramdisk, image, or all of them')
    .argument('[parts...]', PARTS.join(', '))
    .option('--kernel <flavour>', 'of the image: generic, or cloud for virtual machines', 'generic')
    .option('--cache <directory>', 'where builds are kept (default: <state>/build)')
    .option('--state <directory>', 'state directory (default: INGOT_STATE, else /var/lib/ingot)')
    .option('--json', 'print JSON')
    .action((parts: string[], options: Options & {kernel: 'generic' | 'cloud'; cache?: string}) =>
      guarded(options, () => build(parts, options)),
    )
  images
    .command('list', {isDefault: true})
    .description('what there is, by name, with its digest')
    .option('--state <directory>', 'state directory (default: INGOT_STATE, else /var/lib/ingot)')
    .option('--json', 'print JSON')
    .action((options: Options) =>
      guarded(options, async () => {
        const items = open(options).list()
        if (options.json) return printJson(items)
        const rows = items.map(item => ({...item, sha256: item.sha256.slice(0, 12)}))
        printTable(
          rows,
          ['name', 'version', 'size_bytes', 'sha256', 'source'],
          'There is nothing yet: `ingot images build` makes it.',
        )
      }),
    )
  images
    .command('verify')
    .description('hash every content again')
    .option('--state <directory>', 'state directory (default: INGOT_STATE, else /var/lib/ingot)')
    .option('--json', 'print JSON')
    .action((options: Options) =>
      guarded(options, async () => {
        const result = await open(options).verify()
        if (result.damaged.length > 0) process.exitCode = 1
        if (options.json) return printJson(result)
        printLine(`${result.checked} contents checked, ${result.damaged.length} damaged.`)
        for (const damage of result.damaged) printLine(`  ${damage.names.join(', ')}: ${damage.cause}`)
      }),
    )
  return images
}

async function build(parts: readonly string[], options: Options & {kernel: 'generic' | 'cloud'; cache?: string}): Promise<void> {
  const unknown = parts.filter(part => !PARTS.some(known => known === part))
  if (unknown.length > 0) throw refuse(`there is no part ${unknown.join(', ')}`, `There are ${PARTS.join(', ')}.`)
  const {stateDir} = configOf(options)
  const cacheDir = options.cache ?? join(stateDir, 'build')
  const outDir = join(cacheDir, 'out')
  const wanted = (parts.length === 0 ? PARTS : parts) as readonly Part[]
  const onProgress = (line: string) => void process.stderr.write(`${line}\n`)
  if (wanted.includes('loaders')) await collectLoaders({outDir})
  if (wanted.includes('ramdisk')) await buildRamdisk({outDir, cacheDir, onProgress})
  if (wanted.includes('image')) await buildImage({outDir, cacheDir, kernel: options.kernel, onProgress})
  const taken = await open(options).importDirectory(outDir)
  if (options.json) return printJson(taken)
  for (const artefact of taken) printLine(`${artefact.name}  ${artefact.size_bytes} bytes  ${artefact.sha256.slice(0, 12)}`)
}

function open(options: Options) {
  return createArtefacts({dir: join(configOf(options).stateDir, 'artefacts'), log: createLog('ingot images', 'warn')})
}

function configOf(options: Options) {
  return loadConfig(options.state === undefined ? {} : {state: options.state})
}

async function guarded(options: Options, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    reportFailure(error, options.json === true)
  }
}
