/** The supervisor's side of one child: starts it with the sockets it needs and nothing else, and again when it dies. */
import {type ChildProcess, spawn} from 'node:child_process'
import {fileURLToPath} from 'node:url'
import {sleep, systemClock} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import {encodeKeyring, type Keyring} from '../../lib/keyring.ts'
import type {Log} from '../../lib/log.ts'
import {CONTROL_FD, encodeFrame, FIRST_PASSED_FD, READY, type StartMessage} from './child-start.ts'
import type {OpenSocket} from './open-sockets.ts'

export type ChildPlan = {
  /** The start message, but for what the spawning adds. */
  readonly message: Omit<StartMessage, 'supervisorPid' | 'sockets' | 'sealingKeyFd'>
  /** Asked at each start. Numbers as the supervisor has them. */
  sockets(): readonly OpenSocket[]
  /** Asked at each start; undefined for a role that gets none. */
  sealingKeys(): Keyring | undefined
}

export type SupervisedChild = {
  readonly role: string
  /** Undefined between two lives. */
  readonly pid: number | undefined
  /** How often it was started again. */
  readonly restarts: number
  /** Resolves when it serves for the first time; rejects if it is stopped before. */
  readonly ready: Promise<void>
  /** Hands the sealing keys over again, as they are now. */
  renewKeys(): void
  stop(): Promise<void>
}

const ENTRY = fileURLToPath(new URL('./child.ts', import.meta.url))
const PASSED_ENVIRONMENT = ['PATH', 'LANG', 'INGOT_LOG']
const PAUSE_MS = {first: 200, most: 5_000} as const
/** After living this long the next death is a first one again. */
const STEADY_MS = 30_000
const STOP_LIMIT_MS = 12_000

export function superviseChild(plan: ChildPlan, log: Log): SupervisedChild {
  const {role} = plan.message
  const stopping = new AbortController()
  const ready = Promise.withResolvers<void>()
  // Whoever does not wait for it must not be ended by it.
  ready.promise.catch(() => undefined)
  let current: ChildProcess | undefined
  let restarts = 0
  const supervision = superviseUntilStopped()

  async function superviseUntilStopped(): Promise<void> {
    for (let pauseMs: number = PAUSE_MS.first; !stopping.signal.aborted; restarts++) {
      const startedMs = systemClock.monotonicMs()
      current = spawnChild(plan, ready.resolve)
      const how = await exitOf(current)
      current = undefined
      if (stopping.signal.aborted) break
      if (systemClock.monotonicMs() - startedMs > STEADY_MS) pauseMs = PAUSE_MS.first
      log.error({role, how, again_in_ms: pauseMs}, `${role} ended; starting it again`)
      await sleep(pauseMs, stopping.signal)
      pauseMs = Math.min(pauseMs * 2, PAUSE_MS.most)
    }
    ready.reject(new Error(`${role} was stopped`))
  }

  return {
    role,
    get pid() {
      return current?.pid
    },
    get restarts() {
      return restarts
    },
    ready: ready.promise,
    renewKeys() {
      if (current) sendKeys(current, plan.sealingKeys())
    },
    async stop() {
      stopping.abort()
      current?.kill('SIGTERM')
      const limit = setTimeout(() => current?.kill('SIGKILL'), STOP_LIMIT_MS)
      await supervision
      clearTimeout(limit)
    },
  }
}

/** Descriptors: 0 and 1 nothing, 2 our standard error, 3 the link, 4 the sealing keys if any, then the sockets. */
function spawnChild(plan: ChildPlan, onReady: () => void): ChildProcess {
  const keys = plan.sealingKeys()
  const sealingKeyFd = keys ? FIRST_PASSED_FD : undefined
  const firstSocketFd = keys ? FIRST_PASSED_FD + 1 : FIRST_PASSED_FD
  const sockets = plan.sockets()
  const message: StartMessage = {
    ...plan.message,
    supervisorPid: process.pid,
    sockets: sockets.map((socket, index) => ({...socket, fd: firstSocketFd + index})),
    sealingKeyFd,
  }
  const keyPipe = keys ? (['pipe'] as const) : []
  const child = spawn(process.execPath, [ENTRY, plan.message.role], {
    env: scrubbedEnvironment(),
    cwd: '/',
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', ...keyPipe, ...sockets.map(socket => socket.fd)],
  })
  sendThrough(child, CONTROL_FD, `${JSON.stringify(message)}\n`)
  sendKeys(child, keys)
  const link = child.stdio[CONTROL_FD]
  if (link && 'once' in link) link.once('data', (line: Buffer) => line.toString() === READY && onReady())
  return child
}

/** A child that dies early breaks its pipes; its exit tells the story, so the pipe's error need not. */
function sendThrough(child: ChildProcess, fd: number, data: string | Buffer): void {
  const pipe = child.stdio[fd]
  if (!pipe || !('write' in pipe)) return
  if (pipe.listenerCount('error') === 0) pipe.on('error', () => undefined)
  pipe.write(data)
}

function sendKeys(child: ChildProcess, keys: Keyring | undefined): void {
  if (keys) sendThrough(child, FIRST_PASSED_FD, encodeFrame(encodeKeyring(keys)))
}

function scrubbedEnvironment(): Record<string, string> {
  const known = PASSED_ENVIRONMENT.flatMap(name => (process.env[name] === undefined ? [] : [[name, process.env[name]] as const]))
  return Object.fromEntries(known) as Record<string, string>
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise(resolve => {
    child.once('error', error => resolve(messageOf(error)))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
}
