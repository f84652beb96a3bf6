/** `ingot db migrate | backup FILE | restore FILE`: the commands that speak to the database itself rather than to the API. */
import {createReadStream, createWriteStream} from 'node:fs'
import {open, rename, rm} from 'node:fs/promises'
import {Readable} from 'node:stream'
import {pipeline} from 'node:stream/promises'
import {Command} from 'commander'
import {readBackup, restoreBackup} from '../lib/backup.ts'
import {loadConfig} from '../lib/config.ts'
import {IngotError, messageOf} from '../lib/errors.ts'
import {createLog, type Log} from '../lib/log.ts'
import {migrateDatabase} from '../lib/schema-state.ts'
import {withStateDatabase} from '../services/supervisor/state-database.ts'

type Options = {readonly state?: string}

export function dbCommand(): Command {
  const command = new Command('db').description('migrate, back up and restore the database')
  command
    .command('migrate')
    .description('bring the schema to the level of this Ingot')
    .option('--state <directory>', 'state directory (default /var/lib/ingot, or INGOT_STATE)')
    .action((options: Options) => migrateAction(options))
  command
    .command('backup')
    .description('write everything into a file, in one consistent snapshot, while Ingot runs or not')
    .argument('<file>', 'where to; - is standard output')
    .option('--state <directory>', 'state directory (default /var/lib/ingot, or INGOT_STATE)')
    .action((file: string, options: Options) => backupAction(file, options))
  command
    .command('restore')
    .description('load a backup into an empty database')
    .argument('<file>', 'where from; - is standard input')
    .option('--state <directory>', 'state directory (default /var/lib/ingot, or INGOT_STATE)')
    .action((file: string, options: Options) => restoreAction(file, options))
  return command
}

async function migrateAction(options: Options): Promise<void> {
  const log = commandLog()
  const applied = await withStateDatabase(readConfig(options), {alone: false, log}, url => migrateDatabase({url, log}))
  say(applied.length === 0 ? 'The schema is current.' : `Applied ${applied.join(', ')}.`)
}

async function backupAction(file: string, options: Options): Promise<void> {
  const log = commandLog()
  await withStateDatabase(readConfig(options), {alone: false, log}, async url => {
    const source = Readable.from(readBackup({url, log}), {objectMode: false})
    if (file === '-') await pipeline(source, process.stdout, {end: false})
    else await writeWhole(file, source)
  })
  if (file !== '-') say(`Backed up into ${file}. Keep the sealing key with it: BMC credentials stay sealed.`)
}

async function restoreAction(file: string, options: Options): Promise<void> {
  const log = commandLog()
  const source = file === '-' ? process.stdin : createReadStream(file)
  const restore = async (url: string) => await restoreBackup({url, log}, source)
  const {header, rows} = await withStateDatabase(readConfig(options), {alone: true, log}, restore).catch(error => {
    throw unreadable(file, error) ?? error
  })
  say(`Restored ${rows} rows of ${header.tables.length} tables, backed up ${header.created}.`)
}

/** The file appears complete or not at all; 0600, for it holds hashes and sealed secrets. */
async function writeWhole(file: string, source: Readable): Promise<void> {
  const fresh = `${file}.new`
  try {
    await pipeline(source, createWriteStream(fresh, {mode: 0o600}))
    const handle = await open(fresh, 'r')
    await handle.sync()
    await handle.close()
    await rename(fresh, file)
  } catch (error) {
    // What cannot be written can often not be removed either; the first error is the one to tell.
    await rm(fresh, {force: true}).catch(() => undefined)
    throw unreadable(file, error) ?? error
  }
}

function unreadable(file: string, error: unknown): IngotError | undefined {
  if (!(error instanceof Error) || !('path' in error) || !('syscall' in error)) return undefined
  return new IngotError('INVALID_INPUT', `${file}: ${messageOf(error)}`, {
    mend: 'Name another file, or mend its folder.',
    cause: error,
  })
}

function readConfig(options: Options) {
  return loadConfig(options.state === undefined ? {} : {state: options.state})
}

/** Only what went wrong: the result is said in a sentence. */
function commandLog(): Log {
  return createLog('ingot db', 'warn')
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
