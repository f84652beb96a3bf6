/**
 * The root process. It keeps the privileges and does little with them: it holds the state directory's lock, runs the embedded
 * PostgreSQL, opens the sockets, and hands them to unprivileged children, which it starts again when they die. It parses nothing
 * that came from a network.
 */
import {chownSync, mkdirSync} from 'node:fs'
import {join} from 'node:path'
import {sleep, systemClock} from '../../lib/clock.ts'
import type {Config, Service} from '../../lib/config.ts'
import {createDb, isAway} from '../../lib/db.ts'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Keyring} from '../../lib/keyring.ts'
import type {Log} from '../../lib/log.ts'
import {checkDatabase, migrateDatabase, requireCurrentSchema} from '../../lib/schema-state.ts'
import {type Account, ensureAccount} from './account.ts'
import {type EmbeddedPostgres, startEmbeddedPostgres} from './embedded-postgres.ts'
import {openSockets, type SocketSet} from './open-sockets.ts'
import {preflight} from './preflight.ts'
import {ROLES, type RoleRow, servicesOf} from './roles.ts'
import {ensureSealingKey, readSealingKeys} from './sealing-key.ts'
import {keepInheritedFromChildren} from './sockets.ts'
import {lockState} from './state-lock.ts'
import {type SupervisedChild, superviseChild} from './supervise-child.ts'

export type SupervisorOptions = {
  readonly services?: readonly Service[]
  readonly log: Log
  /** Gives up a start that still waits for its database. */
  readonly signal?: AbortSignal
  /** Other roles than the real ones, for tests. */
  readonly roles?: Readonly<Record<string, RoleRow>>
}

export type Supervisor = {
  readonly databaseUrl: string
  readonly postgres: EmbeddedPostgres | undefined
  readonly children: readonly SupervisedChild[]
  /** Resolves when every child serves. */
  readonly ready: Promise<void>
  /** Reads the sealing keys again and hands them to who holds them. @throws IngotError PREFLIGHT_FAILED; then they stay as they are */
  renewKeys(): void
  /** Children first, then the database; bounded. */
  stop(): Promise<void>
}

const DATABASE_PAUSE_MS = 1_000

/**
 * Starts everything; resolves when the children have been started.
 * @throws IngotError DATABASE_LOCKED, DATABASE_OUTDATED, DATABASE_UNSUITABLE, PREFLIGHT_FAILED; nothing is left running then
 */
export async function runSupervisor(config: Config, options: SupervisorOptions): Promise<Supervisor> {
  const {log} = options
  const undo: (() => void | Promise<void>)[] = []
  const unwind = async () => {
    const failures: unknown[] = []
    for (const step of undo.splice(0).reverse()) {
      // One thing that will not stop must not keep the rest running.
      await Promise.resolve()
        .then(step)
        .catch(error => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
  }
  try {
    process.umask(0o077)
    keepInheritedFromChildren()
    const lock = lockState(config.stateDir)
    undo.push(() => lock.release())
    const services = options.services ?? config.services
    checkHost(config, services, log)
    const roles = Object.entries(options.roles ?? ROLES).filter(([, row]) => servicesOf(row, services).length > 0)
    let keys = roles.some(([, row]) => row.sealingKey) ? loadSealingKeys(config) : undefined
    const sealingKeys = () => keys
    // Busy ports are told before a database is touched.
    const sockets = openSockets(config, services, log)
    undo.push(() => sockets.close())
    const postgres = config.databaseUrl ? undefined : await startEmbeddedPostgres({...config, log, lock})
    if (postgres) undo.push(() => postgres.stop())
    const databaseUrl = postgres?.url ?? config.databaseUrl?.reveal() ?? ''
    await readyDatabase(databaseUrl, postgres !== undefined, options)
    const children = roles.map(([role, row]) => startChild({role, row, services, config, databaseUrl, sockets, sealingKeys, log}))
    undo.push(async () => void (await Promise.all(children.map(child => child.stop()))))
    return {databaseUrl, postgres, children, ready: allReady(children), renewKeys, stop: unwind}

    function renewKeys(): void {
      if (!keys) return
      keys = readSealingKeys(config.sealingKeyFile)
      for (const child of children) child.renewKeys()
      log.info({keys: keys.keys.map(({id, role}) => `${role} ${id}`)}, 'the sealing keys were read again')
    }
  } catch (error) {
    await unwind().catch(failure => log.error({err: failure}, 'something that was begun could not be undone'))
    throw error
  }
}

type ChildParts = {
  readonly role: string
  readonly row: RoleRow
  readonly services: readonly Service[]
  readonly config: Config
  readonly databaseUrl: string
  readonly sockets: SocketSet
  readonly sealingKeys: () => Keyring | undefined
  readonly log: Log
}

function startChild({role, row, services, config, databaseUrl, sockets, sealingKeys, log}: ChildParts): SupervisedChild {
  const own = servicesOf(row, services)
  const account = process.getuid?.() === 0 ? ensureAccount(config.user, log) : undefined
  for (const name of row.owns ?? []) makeOwnDirectory(join(config.stateDir, name), account)
  const message = {
    role,
    module: row.module,
    account,
    services: own,
    stateDir: config.stateDir,
    databaseUrl,
    retentionDays: config.retentionDays,
    workers: config.workers,
    leastRequestOctets: config.dhcp.leastRequestOctets,
  }
  return superviseChild(
    {message, sockets: () => sockets.for(own), sealingKeys: () => (row.sealingKey ? sealingKeys() : undefined)},
    log,
  )
}

function makeOwnDirectory(path: string, account: Account | undefined): void {
  mkdirSync(path, {recursive: true, mode: 0o700})
  if (account) chownSync(path, account.uid, account.gid)
}

function checkHost(config: Config, services: readonly Service[], log: Log): void {
  for (const {level, what, mend} of preflight(config, services, systemClock)) {
    if (level === 'error') throw new IngotError('PREFLIGHT_FAILED', what, {mend})
    log.warn({mend}, what)
  }
}

/** Beside a database of its own a missing key is a first start; beside a shared one it is another host's key that is missing here. */
function loadSealingKeys(config: Config): Keyring {
  if (!config.databaseUrl) ensureSealingKey(config.sealingKeyFile)
  return readSealingKeys(config.sealingKeyFile)
}

/** Waits for a database that is away; migrates only the embedded one, which nobody else could. */
async function readyDatabase(url: string, embedded: boolean, options: SupervisorOptions): Promise<void> {
  const {log} = options
  const db = createDb({url, applicationName: 'ingot-supervisor', log})
  try {
    await whenReachable(options, () => checkDatabase(db))
    if (!embedded) return await requireCurrentSchema(db)
    const applied = await migrateDatabase({url, log})
    if (applied.length > 0) log.info({applied}, 'the database schema was migrated')
  } finally {
    await db.destroy()
  }
}

async function whenReachable(options: SupervisorOptions, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isAway(error) || options.signal?.aborted) throw error
      options.log.warn({reason: messageOf(error)}, 'the database is away; waiting for it')
      await sleep(DATABASE_PAUSE_MS, options.signal)
    }
  }
}

function allReady(children: readonly SupervisedChild[]): Promise<void> {
  const ready = Promise.all(children.map(child => child.ready)).then(() => undefined)
  ready.catch(() => undefined)
  return ready
}
