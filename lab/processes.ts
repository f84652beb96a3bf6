/** Processes told apart by pid and start time, so that a reused pid is never mistaken for one the lab started. */
import {readdirSync, readFileSync, readlinkSync} from 'node:fs'
import {sleep} from '../lib/clock.ts'

/** `start` is field 22 of /proc/PID/stat: clock ticks since boot. */
export type ProcessIdentity = {readonly pid: number; readonly start: string}

/** @returns who runs under this pid now; null when nobody does, or only a zombie waits to be reaped */
export function identifyProcess(pid: number): ProcessIdentity | null {
  const stat = readProc(`/proc/${pid}/stat`)
  if (stat === null) return null
  // The command name may hold spaces and parentheses: fields are counted from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, start] = [fields[0], fields[19]]
  if (state === undefined || start === undefined || state === 'Z' || state === 'X') return null
  return {pid, start}
}

export function isRunning(process: ProcessIdentity): boolean {
  return identifyProcess(process.pid)?.start === process.start
}

/** @returns every process whose network namespace has this inode, except the caller */
export function processesInNamespace(inode: number): ProcessIdentity[] {
  const found: ProcessIdentity[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    if (readNamespace(pid) !== `net:[${inode}]`) continue
    const identity = identifyProcess(pid)
    if (identity) found.push(identity)
  }
  return found
}

/**
 * Ends processes: SIGTERM, then SIGKILL for those that stay.
 *
 * @throws when one outlives SIGKILL by ten seconds
 */
export async function stopProcesses(processes: readonly ProcessIdentity[], graceMs = 5_000): Promise<void> {
  signalAll(processes, 'SIGTERM')
  if (await allGone(processes, graceMs)) return
  signalAll(processes, 'SIGKILL')
  if (await allGone(processes, 10_000)) return
  const left = processes.filter(isRunning).map(p => p.pid)
  throw new Error(`processes ${left.join(', ')} outlived SIGKILL`)
}

function signalAll(processes: readonly ProcessIdentity[], signal: NodeJS.Signals): void {
  for (const target of processes.filter(isRunning)) {
    try {
      process.kill(target.pid, signal)
    } catch (error) {
      if (!isGone(error)) throw error
    }
  }
}

async function allGone(processes: readonly ProcessIdentity[], withinMs: number): Promise<boolean> {
  const end = performance.now() + withinMs
  while (processes.some(isRunning)) {
    if (performance.now() > end) return false
    await sleep(25)
  }
  return true
}

function readProc(path: string): string | null {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    if (isGone(error)) return null
    throw error
  }
}

function readNamespace(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`)
  } catch (error) {
    // Not even root may look at some (another user namespace, a protected init): nothing of the lab's is among them.
    if (isGone(error) || ['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return null
    throw error
  }
}

function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ESRCH'
}
