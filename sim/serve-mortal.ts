/** `ingot serve` with children that die when they are told to (death.ts). Takes the state directory. */
import {chownSync, mkdirSync} from 'node:fs'
import {join} from 'node:path'
import {loadConfig} from '../lib/config.ts'
import {createLog} from '../lib/log.ts'
import {ensureAccount} from '../services/supervisor/account.ts'
import {runSupervisor} from '../services/supervisor/index.ts'
import {ROLES} from '../services/supervisor/roles.ts'
import {DEATHS} from './death.ts'

const [state = ''] = process.argv.slice(2)
const config = loadConfig({state})
const log = createLog('ingot')
const deaths = join(config.stateDir, DEATHS)
const account = ensureAccount(config.user, log)
mkdirSync(deaths, {recursive: true, mode: 0o755})
chownSync(deaths, account.uid, account.gid)
const roles = {
  wire: {...ROLES.wire, module: new URL('./mortal-wire.ts', import.meta.url).href},
  control: {...ROLES.control, module: new URL('./mortal-control.ts', import.meta.url).href},
}
const stopped = new AbortController()
process.on('SIGTERM', () => stopped.abort())
const supervisor = await runSupervisor(config, {services: config.services, roles, log, signal: stopped.signal})
if (!stopped.signal.aborted) await new Promise(resolve => stopped.signal.addEventListener('abort', resolve, {once: true}))
await supervisor.stop()
process.exit(0)
