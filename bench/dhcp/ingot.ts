/** Ours: `ingot serve` with all its services and its own PostgreSQL, as an operator runs it, on the servers' core. */
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import pg from 'pg'
import {type Client, createClient} from '../../cli/client.ts'
import {waitFor} from '../../lab/walk.ts'
import {embeddedUrl} from '../../services/supervisor/embedded-postgres.ts'
import type {Running} from './servers.ts'
import {RELAY, SERVER, SERVER_LINK, type Wires} from './wires.ts'

const INGOT = fileURLToPath(new URL('../../bin/ingot', import.meta.url))
const START_LIMIT_MS = 60_000
const STOP_LIMIT_MS = 90_000
const DAY_MIN = 1440

export type RunningIngot = Running & {
  /** Runs SQL on its database. */
  query(text: string): Promise<pg.QueryResult>
  restart(): Promise<void>
}

export async function startIngot(wires: Wires, dir: string, env: Readonly<Record<string, string>>): Promise<RunningIngot> {
  const boot = ['--boot-url', `http://${SERVER}:8480`]
  const init = ['init', '--json', '--state', dir, '--interface', SERVER_LINK, '--prefix', '10.79.0.0/24', ...boot]
  const {stdout} = await wires.serverSide([INGOT, ...init], {timeout_ms: 120_000})
  const {token} = JSON.parse(stdout) as {token: string}
  process.env.INGOT_TOKEN = token
  const client = createClient({api: `unix:${join(dir, 'api.sock')}`})
  const serve = async () => {
    const started = wires.startServer([INGOT, 'serve', '--state', dir], {env, logFile: join(dir, 'ingot.log')})
    await waitFor('the API', START_LIMIT_MS, () =>
      client.get('/v1/prefixes').then(
        () => true,
        () => undefined,
      ),
    )
    return started
  }
  let server = await serve()
  await declareNetwork(client)
  const query = async (text: string) => {
    const database = new pg.Client({connectionString: embeddedUrl(dir)})
    await database.connect()
    return await database.query(text).finally(() => database.end())
  }
  return {
    get pid() {
      return server.pid
    },
    databasePid: null,
    answers: command => command.startsWith('ingot wire'),
    query,
    async restart() {
      await server.stop(STOP_LIMIT_MS)
      server = await serve()
    },
    stop: () => server.stop(STOP_LIMIT_MS),
  }
}

/** As the peers have it: one network behind the relay, all of it dynamic; and a second one for machines with reservations. */
async function declareNetwork(client: Client): Promise<void> {
  const settings = {boot_url: `http://${SERVER}:8480`, relays: [RELAY], dns: [SERVER]}
  await client.send('POST', '/v1/prefixes', {
    ...settings,
    cidr: '10.77.0.0/16',
    gateway: SERVER,
    ranges: [{kind: 'dynamic', first: '10.77.1.0', last: '10.77.255.254'}],
  })
  await client.send('POST', '/v1/prefixes', {
    ...settings,
    cidr: '10.78.0.0/16',
    ranges: [{kind: 'static', first: '10.78.1.0', last: '10.78.255.254'}],
  })
  await client.send('POST', '/v1/windows', {prefix: '10.77.0.0/16', minutes: DAY_MIN, machine_limit: 100_000})
}
