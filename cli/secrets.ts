/** `ingot secrets show | rotate`: the key that seals BMC credentials, on the host that holds its file. */
import {hostname} from 'node:os'
import {Command} from 'commander'
import {type Config, loadConfig} from '../lib/config.ts'
import {createDb, type Db} from '../lib/db.ts'
import {createLog} from '../lib/log.ts'
import {requireCurrentSchema} from '../lib/schema-state.ts'
import {createInventory} from '../services/inventory/index.ts'
import {type Keyholder, selectKeyholders} from '../services/supervisor/keyholders.ts'
import {rotateKeys} from '../services/supervisor/rotate-keys.ts'
import {readSealingKeys} from '../services/supervisor/sealing-key.ts'
import {withStateDatabase} from '../services/supervisor/state-database.ts'
import {holderOf} from '../services/supervisor/state-lock.ts'
import {printJson, printLine, printTable, reportFailure} from './output.ts'

type Options = {readonly state?: string; readonly json?: boolean}

export function secretsCommand(): Command {
  const secrets = new Command('secrets').description('the key that seals BMC credentials at rest')
  hostVerb(secrets.command('show').description('which keys there are, by name, what they seal, and who holds them'), show)
  hostVerb(
    secrets.command('rotate').description('make a new key, seal everything under it while Ingot runs, and forget the old one'),
    rotate,
  )
  return secrets
}

function hostVerb(command: Command, work: (config: Config, db: Db, json: boolean) => Promise<void>): void {
  command
    .option('--state <directory>', 'state directory (default /var/lib/ingot, or INGOT_STATE)')
    .option('--json', 'print JSON')
    .action(async (options: Options) => {
      try {
        const config = loadConfig(options.state === undefined ? {} : {state: options.state})
        const log = createLog('ingot secrets', 'warn')
        await withStateDatabase(config, {alone: false, log}, async url => {
          const db = createDb({url, applicationName: 'ingot-secrets', log})
          try {
            await requireCurrentSchema(db)
            await work(config, db, options.json === true)
          } finally {
            await db.destroy()
          }
        })
      } catch (error) {
        reportFailure(error, options.json === true)
      }
    })
}

async function show(config: Config, db: Db, json: boolean): Promise<void> {
  const ring = readSealingKeys(config.sealingKeyFile)
  const sealed = await createInventory({db}).countSealed()
  const holders = await selectKeyholders(db)
  const known = ring.keys.map(({id, role}) => ({
    key: id,
    role: role as string,
    seals: sealed[id] ?? 0,
    holders: holdersOf(holders, id),
  }))
  const others = Object.entries(sealed).filter(([id]) => !ring.keys.some(key => key.id === id))
  const rows = [
    ...known,
    ...others.map(([id, seals]) => ({key: id, role: id === 'unnamed' ? '' : 'missing', seals, holders: ''})),
  ]
  if (json) return printJson({file: config.sealingKeyFile, keys: rows})
  printTable(rows, ['key', 'role', 'seals', 'holders'], 'There are no keys.')
}

function holdersOf(holders: readonly Keyholder[], id: string): string {
  return holders
    .filter(({keyIds}) => keyIds.includes(id))
    .map(({host, pid}) => `${host}:${pid}`)
    .join(', ')
}

async function rotate(config: Config, db: Db, json: boolean): Promise<void> {
  const given = new AbortController()
  process.once('SIGINT', () => given.abort(new Error('given up; begin again to go on from here')))
  const rotation = await rotateKeys({
    keyFile: config.sealingKeyFile,
    db,
    renewKeys() {
      const pid = holderOf(config.stateDir)
      // A database of ours that nobody serves is held by this very process.
      if (pid !== undefined && pid !== process.pid) process.kill(pid, 'SIGHUP')
    },
    waitsFor: holders => process.stderr.write(waiting(holders, config.sealingKeyFile)),
    signal: given.signal,
  })
  if (json) return printJson(rotation)
  printLine(`Key ${rotation.from} gave way to ${rotation.to}; ${rotation.resealed} secrets were sealed anew.`)
  for (const {table, row} of rotation.unopenable) {
    printLine(`A secret of ${table} ${row} opens with no key, and did not before: set it again.`)
  }
  printLine('Backups made before hold secrets under the old key: make a new one. Other hosts get the file once more.')
}

/** This host's own processes have it in a moment; others need the file. */
function waiting(holders: readonly Keyholder[], file: string): string {
  const elsewhere = [...new Set(holders.map(({host}) => host))].filter(host => host !== hostname())
  if (elsewhere.length === 0) return ''
  return `Waiting for ${elsewhere.join(', ')}: copy ${file} there, then \`systemctl reload ingot\` on it. Ctrl-C to go on later.\n`
}
