/**
 * A supervisor in a process of its own, with the roles of `report-role.ts` or those of another module. Tells about itself as lines of
 * JSON; an error as one line with its code.
 *
 * Arguments: the state directory, then optionally the services and the URL of the roles' module.
 */
import {loadConfig, parseServices} from '../../lib/config.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLog} from '../../lib/log.ts'
import {runSupervisor} from '../../services/supervisor/index.ts'
import {ROLES} from '../../services/supervisor/roles.ts'

const [state = '', services = 'dhcpd,boot,api,worker', module = new URL('./report-role.ts', import.meta.url).href] =
  process.argv.slice(2)
const roles = {wire: {...ROLES.wire, module}, control: {...ROLES.control, module}}

try {
  const supervisor = await runSupervisor(loadConfig({state}), {
    services: parseServices(services),
    roles,
    log: createLog('supervisor'),
  })
  process.once('SIGTERM', () => void supervisor.stop().then(() => process.exit(0)))
  await supervisor.ready
  tell({ready: true, postgres: supervisor.postgres?.pid, adopted: supervisor.postgres?.adopted, url: supervisor.databaseUrl})
} catch (error) {
  if (!(error instanceof IngotError)) throw error
  tell({code: error.code, detail: error.detail, mend: error.mend})
  process.exit(1)
}

function tell(value: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}
