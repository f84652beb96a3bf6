/**
 * Programs that a handoff starts, and their certain end.
 *
 * Each is the leader of its own session, and carries its run's directory in its environment. A whole group is signalled at once; what
 * left its group (daemons, ssh masters) is found by that mark, or by its session, in /proc. The mark outlives Ingot, so a restarted
 * Ingot finds what a killed one left running.
 */
import {type ChildProcess, spawn} from 'node:child_process'
import {readdirSync, readFileSync} from 'node:fs'
import {type Clock, sleep} from '../../lib/clock.ts'

/** The environment variable that names the run's directory. */
export const RUN_MARK = 'INGOT_HANDOFF_RUN'

const GRACE_MS = 2000
const SWEEP_MS = 10_000

export type Program = {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Aborting ends the whole group: TERM, then KILL. */
  readonly signal: AbortSignal
  /** `held`: standard input stays open until `release` is called, or Ingot dies. */
  readonly input?: 'none' | 'held'
  onOutput(chunk: Buffer, from: 'stdout' | 'stderr'): void
}

export type RunningProgram = {
  /** Never rejects. */
  readonly ended: Promise<ProgramEnd>
  /** Closes a held standard input. */
  release(): void
  /** Ends the group at once. */
  kill(): void
}

export type ProgramEnd = {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Why it could not be started at all. */
  readonly fault?: Error
}

export function startProgram(program: Program): RunningProgram {
  const child = spawn(program.command, program.args, {
    cwd: program.cwd,
    env: program.env,
    detached: true,
    stdio: [program.input === 'held' ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  })
  child.stdout?.on('data', (chunk: Buffer) => program.onOutput(chunk, 'stdout'))
  child.stderr?.on('data', (chunk: Buffer) => program.onOutput(chunk, 'stderr'))
  // A program that ends before its input is closed makes that close fail; its end says all there is to say.
  child.stdin?.on('error', () => child.stdin?.destroy())

  const ending = new AbortController()
  const onAbort = async () => {
    signalGroup(child, 'SIGTERM')
    await sleep(GRACE_MS, ending.signal)
    if (!ending.signal.aborted) signalGroup(child, 'SIGKILL')
  }
  if (program.signal.aborted) void onAbort()
  else program.signal.addEventListener('abort', onAbort, {once: true})

  return {
    ended: endOf(child).then(end => {
      ending.abort()
      program.signal.removeEventListener('abort', onAbort)
      return end
    }),
    release: () => child.stdin?.end(),
    kill: () => signalGroup(child, 'SIGKILL'),
  }
}

function endOf(child: ChildProcess): Promise<ProgramEnd> {
  return new Promise(resolve => {
    let exit: ProgramEnd = {code: null, signal: null}
    child.once('error', fault => {
      if (child.pid === undefined) resolve({code: null, signal: null, fault})
    })
    child.once('exit', (code, signal) => {
      exit = {code, signal}
      // `close` waits for every holder of the pipes; one that left the group would hold up the run for as long as it lives.
      const timer = setTimeout(() => {
        child.stdout?.destroy()
        child.stderr?.destroy()
      }, GRACE_MS)
      child.once('close', () => clearTimeout(timer))
    })
    child.once('close', () => resolve(exit))
  })
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  // While its exit is not reported the leader is ours, at worst as a zombie, so the number names no other group.
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  sendSignal(-child.pid, signal)
}

/** Kills every process of a run, wherever it went, and returns when none is left. */
export async function sweepRun(runDir: string, clock: Clock): Promise<{readonly killed: number; readonly left: number}> {
  const killed = new Set<number>()
  const until = clock.monotonicMs() + SWEEP_MS
  for (let pause_ms = 5; ; pause_ms = Math.min(2 * pause_ms, 200)) {
    const found = processesOf(runDir)
    for (const pid of found) {
      killed.add(pid)
      sendSignal(pid, 'SIGKILL')
    }
    if (found.length === 0 || clock.monotonicMs() >= until) return {killed: killed.size, left: found.length}
    await sleep(pause_ms)
  }
}

/** Living processes that carry the run's mark, or share a session with one that does. */
export function processesOf(runDir: string): number[] {
  const mark = `${RUN_MARK}=${runDir}`
  const seen = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => processAt(Number(name)) ?? [])
  const marked = seen.filter(one => readProc(one.pid, 'environ')?.split('\0').includes(mark))
  // A member of such a session may have been started with another environment. Ingot's own session is never one of them.
  const own = processAt(process.pid)?.session
  const sessions = new Set(marked.map(one => one.session).filter(session => session !== own))
  const pids = new Set(marked.map(one => one.pid))
  return seen.filter(one => pids.has(one.pid) || sessions.has(one.session)).map(one => one.pid)
}

/** Which process this is: its number and when it started, so that a number used again is not taken for it. */
export function processIdentity(pid: number): string | undefined {
  const found = processAt(pid)
  return found === undefined ? undefined : `${found.pid} ${found.startTicks}`
}

/** proc(5): the name in parentheses may hold anything, so fields are counted from the last parenthesis; zombies do not count. */
function processAt(pid: number): {pid: number; session: number; startTicks: string} | undefined {
  const stat = readProc(pid, 'stat')
  if (stat === undefined) return undefined
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  return {pid, session: Number(fields[3]), startTicks: fields[19] ?? ''}
}

function readProc(pid: number, file: 'stat' | 'environ'): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    // Gone meanwhile, or another user's: not ours either way.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined
    throw error
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'ESRCH' && code !== 'EPERM') throw error
  }
}
