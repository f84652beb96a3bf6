/** `ingot serve`: runs the services of this host until it is told to stop. */
import {Command} from 'commander'
import {systemClock} from '../lib/clock.ts'
import {type Config, loadConfig, parseServices, type Service} from '../lib/config.ts'
import {createLog, type Log} from '../lib/log.ts'
import {runSupervisor, type Supervisor} from '../services/supervisor/index.ts'

type Options = {readonly state?: string; readonly services?: string}

const STOP_LIMIT_MS = 90_000
const SAME_SIGNAL_MS = 1_000

export function serveCommand(): Command {
  return new Command('serve')
    .description('serve DHCP, TFTP, HTTP boot, the API and the workers on this host')
    .option('--state <directory>', 'state directory (default /var/lib/ingot, or INGOT_STATE)')
    .option('--services <list>', 'a subset, comma-separated: dhcpd,tftpd,boot,api,worker')
    .action((options: Options) => serve(options))
}

async function serve(options: Options): Promise<void> {
  const config = loadConfig(options.state === undefined ? {} : {state: options.state})
  const services = options.services === undefined ? config.services : parseServices(options.services)
  const log = createLog('ingot')
  const stopped = onceToldToStop(log)
  const supervisor = await runSupervisor(config, {services, log, signal: stopped})
  void supervisor.ready.then(
    () => process.stdout.write(welcome(config, services)),
    () => undefined,
  )
  process.on('SIGHUP', () => renewKeys(supervisor, log))
  if (!stopped.aborted) await new Promise(resolve => stopped.addEventListener('abort', resolve, {once: true}))
  await stopBounded(supervisor, log)
}

/**
 * Aborts at the first SIGTERM or SIGINT; a later one ends everything at once, and children then end by themselves. Not later means the
 * same one twice: `npm run` passes on a Ctrl-C that the terminal has sent already.
 */
function onceToldToStop(log: Log): AbortSignal {
  const controller = new AbortController()
  let firstMs = 0
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted && systemClock.monotonicMs() - firstMs < SAME_SIGNAL_MS) return
      if (controller.signal.aborted) process.exit(1)
      firstMs = systemClock.monotonicMs()
      log.info({signal}, 'stopping; once more to stop at once')
      controller.abort()
    })
  }
  return controller.signal
}

/** Keys that cannot be read leave those that are in use. */
function renewKeys(supervisor: Supervisor, log: Log): void {
  try {
    supervisor.renewKeys()
  } catch (error) {
    log.error({err: error}, 'the sealing keys could not be read again')
  }
}

async function stopBounded(supervisor: Supervisor, log: Log): Promise<void> {
  const limit = setTimeout(() => {
    log.error('stopping took too long')
    process.exit(1)
  }, STOP_LIMIT_MS)
  await supervisor.stop()
  clearTimeout(limit)
  log.info('stopped')
}

function welcome(config: Config, services: readonly Service[]): string {
  const places = config.interfaces.map(({name}) => name).join(', ') || 'no interface'
  const lines = [
    ['dhcpd', `DHCP on ${places}`],
    ['tftpd', `TFTP on ${config.tftp.listen ? `${config.tftp.listen.host}:${config.tftp.listen.port}` : places}`],
    ['boot', `HTTP boot on ${config.boot.listen.host}:${config.boot.listen.port}`],
    ['api', `API on http://${config.api.listen.host}:${config.api.listen.port} and ${config.api.socket}`],
    ['worker', `${config.workers} tasks at once`],
  ] as const
  const said = lines.filter(([service]) => services.includes(service)).map(([, line]) => `  ${line}\n`)
  return `Ingot serves\n${said.join('')}`
}
