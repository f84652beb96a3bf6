/** A process that starts the embedded PostgreSQL of a state directory, tells its pid as a line of JSON, and waits to be killed. */
import {createLog} from '../../lib/log.ts'
import {startEmbeddedPostgres} from '../../services/supervisor/embedded-postgres.ts'

const [stateDir = '', user = 'nobody'] = process.argv.slice(2)
const postgres = await startEmbeddedPostgres({stateDir, user, log: createLog('embedded', 'warn')})
process.stdout.write(`${JSON.stringify({pid: postgres.pid, url: postgres.url, adopted: postgres.adopted})}\n`)
process.once('SIGTERM', () => void postgres.stop().then(() => process.exit(0)))
setInterval(() => undefined, 60_000)
