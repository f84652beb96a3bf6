/**
 * F24: the passwords of BMCs go through a whole Ingot (supervisor, wire, control, PostgreSQL, command line) while it asks, switches, fails
 * and rotates its key, and are then looked for wherever something could have been left: arguments and environment of every process,
 * logs, answers, every column of the database, every file.
 */
import {execFile, execFileSync} from 'node:child_process'
import {readdirSync, readFileSync, writeFileSync} from 'node:fs'
import {createServer} from 'node:net'
import {join, resolve} from 'node:path'
import pg from 'pg'
import {afterAll, expect, it} from 'vitest'
import {embeddedUrl} from '../../services/supervisor/embedded-postgres.ts'
import {startBmc} from '../../sim/bmc/index.ts'
import {testAccount} from '../support/database.ts'
import {eventually, startScript} from '../support/processes.ts'
import {createStateDirs} from '../support/state-dir.ts'

const ROOT = resolve(import.meta.dirname, '..', '..')
const CANARIES = {right: 'canary-rKq83-right', wrong: 'canary-wLp72-wrong', window: 'canary-yMo61-open'}
/** A score of commands, each a process of its own. */
const LIMIT_MS = 400_000
const stops: (() => unknown)[] = []
afterAll(async () => {
  for (const stop of stops.reverse()) await stop()
})

it.skipIf(process.getuid?.() !== 0)(
  'F24 the password of a BMC is left nowhere but sealed, whatever is done with it, and its key rotates meanwhile',
  async () => {
    const states = await createStateDirs()
    stops.push(() => states.remove())
    const state = states.make()
    const [boot, api] = await freePorts()
    const listen = {boot: {listen: `127.0.0.1:${boot}`}, api: {listen: `127.0.0.1:${api}`}}
    writeFileSync(join(state, 'ingot.json'), JSON.stringify({user: testAccount().name, ...listen}))
    const bmc = await startBmc({users: {ingot: {password: CANARIES.right}}})
    stops.push(() => bmc.stop())
    bmc.log.add({at_s: 1_760_000_000, sensorType: 1, sensor: 1, eventType: 1, offset: 9})

    const serving = startScript(join(ROOT, 'test/support/run-serve.ts'), ['--state', state, '--services', 'boot,api,worker'], {
      env: {INGOT_LOG: 'trace'},
    })
    stops.push(() => serving.kill())
    await eventually('that it serves', () => serving.output().includes('Ingot serves'))
    const made = await ingot({}, 'init', '--new-token', '--state', state, '--json')
    const token = /ingot_[\w-]{43}/.exec(made.output)?.[0] ?? ''

    const passwords = Object.fromEntries(Object.entries(CANARIES).map(([name, text]) => [name, writePassword(name, text)]))
    function writePassword(name: string, text: string): string {
      // Outside of what is looked through: this file is where an operator keeps it.
      const folder = states.make('empty')
      writeFileSync(join(folder, name), `${text}\n`, {mode: 0o600})
      return join(folder, name)
    }
    const said: string[] = []
    const run = async (...words: string[]) => {
      const {code, output} = await ingot({INGOT_TOKEN: token}, ...words, '--state', state)
      said.push(output)
      return {code, output}
    }
    const expectDone = async (...words: string[]) => {
      const {code, output} = await run(...words)
      expect(code, `${words.join(' ')}: ${output}`).toBe(0)
    }
    const login = (name: keyof typeof CANARIES) => [
      '--bmc',
      '127.0.0.1',
      '--bmc-port',
      String(bmc.port),
      '--bmc-user',
      'ingot',
      '--bmc-password-file',
      passwords[name] ?? '',
    ]

    await expectDone('ip', 'add', '10.93.0.0/24', '--gateway', '10.93.0.1', '--boot-url', `http://10.93.0.9:${boot}`)
    await expectDone('machines', 'add', '52:54:00:ca:0a:01', '--name', 'canary', '--prefix', '10.93.0.0/24', ...login('right'))
    await expectDone(
      'windows',
      'open',
      '10.93.0.0/24',
      '--minutes',
      '5',
      '--bmc-user',
      'ingot',
      '--bmc-password-file',
      passwords.window ?? '',
    )
    bmc.slow(60)
    const working = expectDone('power', 'cycle', 'canary', '--wait')
    let processes = ''
    await eventually('that the BMC is asked', () => {
      processes += processTexts()
      return bmc.orders.length > 0
    })
    await working
    bmc.slow(0)
    for (const verb of ['status', 'sensors', 'sel', 'fru', 'bmc', 'boot-device', 'identify'])
      await expectDone('power', verb, 'canary')
    await expectDone('power', 'boot-device', 'canary', 'pxe', '--firmware', 'uefi')
    await expectDone('power', 'sel', 'canary', '--clear')
    expect(bmc.boot[0]).toBe(0xa0)

    await expectDone('secrets', 'rotate')
    await expectDone('power', 'status', 'canary')
    await expectDone('secrets', 'show')

    await expectDone('machines', 'set-bmc', 'canary', ...login('wrong'))
    for (let tries = 0; tries < 2; tries++)
      expect(await run('power', 'status', 'canary')).toMatchObject({code: 1, output: expect.stringContaining('wrong')})
    expect((await run('power', 'on', 'canary', '--wait')).code).toBe(1)
    await expectDone('db', 'backup', join(state, 'backup.txt'))
    for (const path of [
      '/v1/machines',
      '/v1/machines/canary',
      '/v1/windows',
      '/v1/events?limit=500',
      '/v1/jobs?limit=500',
      '/metrics',
    ]) {
      const answer = await fetch(`http://127.0.0.1:${api}${path}`, {headers: {authorization: `Bearer ${token}`}})
      said.push(await answer.text())
    }
    processes += processTexts()

    const sinks = {processes, log: serving.output(), answers: said.join('\n'), database: await databaseText(state)}
    expect(sinks.processes).toContain('postgres')
    expect(sinks.log).toContain('power verb done')
    expect(sinks.answers).toContain('password of user')
    expect(sinks.database).toContain('sealing_key_rotated')
    for (const [name, text] of Object.entries(sinks))
      for (const canary of Object.values(CANARIES))
        for (const form of formsOf(canary)) expect(text.includes(form), `${name} holds ${form}`).toBe(false)
    for (const canary of Object.values(CANARIES)) expect(filesWith(canary, state)).toEqual([])
    // The look itself works: what is there is found.
    expect(filesWith('sealing_key_rotated', state).length).toBeGreaterThan(0)
    expect(sinks.database).toContain('canary')
  },
  LIMIT_MS,
)

function formsOf(canary: string): string[] {
  return [canary, Buffer.from(canary).toString('hex'), Buffer.from(canary).toString('base64').replace(/=+$/, '').slice(0, -2)]
}

function ingot(env: Record<string, string>, ...words: string[]): Promise<{code: number; output: string}> {
  return new Promise(done => {
    const options = {env: {...process.env, ...env}, timeout: 100_000}
    execFile(process.execPath, [join(ROOT, 'bin/ingot.ts'), ...words], options, (error, stdout, stderr) => {
      done({code: error ? Number(error.code ?? 1) : 0, output: `${stdout}${stderr}`})
    })
  })
}

/** Arguments and environment of every process that can be read. */
function processTexts(): string {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1') + readFileSync(`/proc/${pid}/environ`, 'latin1')
      } catch {
        // It has just ended.
        return ''
      }
    })
    .join('\n')
}

/** Every row of every table as text; bytes appear as hex. */
async function databaseText(state: string): Promise<string> {
  const client = new pg.Client({connectionString: embeddedUrl(state)})
  await client.connect()
  try {
    const {rows: tables} = await client.query<{name: string}>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    )
    const texts: string[] = []
    for (const {name} of tables) {
      const {rows} = await client.query<{text: string}>(`SELECT t::text AS text FROM ${name} t`)
      texts.push(...rows.map(row => row.text))
    }
    return texts.join('\n')
  } finally {
    await client.end()
  }
}

/** Files of the state directory that hold a text: PostgreSQL's own among them, its write-ahead log too. */
function filesWith(text: string, folder: string): string[] {
  try {
    return execFileSync('grep', ['-rlaF', '--exclude-dir=postgres-18', text, folder], {encoding: 'utf8'}).trim().split('\n')
  } catch (error) {
    // grep's 1 is "found nothing".
    if ((error as {status?: number}).status === 1) return []
    throw error
  }
}

async function freePorts(): Promise<[number, number]> {
  const servers = await Promise.all(
    [0, 1].map(async () => {
      const server = createServer()
      await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
      return server
    }),
  )
  const ports = servers.map(server => (server.address() as {port: number}).port)
  await Promise.all(servers.map(server => new Promise(done => server.close(done))))
  return [ports[0] ?? 0, ports[1] ?? 0]
}
