/**
 * One writer at a time, over processes: a lock file that names its holder. It is made by link(2), so it appears whole or not at all.
 * A holder that was killed leaves it behind; whoever wants it next sees that the process is gone and takes it away.
 */
import {randomBytes} from 'node:crypto'
import {readFileSync, readlinkSync} from 'node:fs'
import {link, readFile, rename, rm, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {sleep} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'

const RETRY_MS = 25
const ATTEMPTS = 1200

/**
 * Runs `work` while nobody else writes in `dir`. The lock is held for as long as a manifest takes to write, never while bytes are copied.
 * @throws IngotError CONFLICT naming the holder when it does not let go within 30 s
 */
export async function withWriteLock<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const path = join(dir, '.lock')
  await acquire(path)
  try {
    return await work()
  } finally {
    await rm(path, {force: true})
  }
}

async function acquire(path: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await createOnce(path)) return
    await removeIfAbandoned(path)
    await sleep(RETRY_MS)
  }
  throw new IngotError('CONFLICT', `another process writes the artefacts: ${(await holderOf(path)) ?? 'it just ended'}`)
}

async function createOnce(path: string): Promise<boolean> {
  const own = `${path}.${randomBytes(8).toString('hex')}`
  await writeFile(own, `${identityOf(process.pid)}\n`, {flag: 'wx', mode: 0o644})
  try {
    await link(own, path)
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    throw error
  } finally {
    await rm(own, {force: true})
  }
}

/** Moved aside first: two finders cannot both remove it, and what was moved is looked at again before it is thrown away. */
async function removeIfAbandoned(path: string): Promise<void> {
  const holder = await holderOf(path)
  if (holder === undefined || !isGone(holder)) return
  const aside = `${path}.${randomBytes(8).toString('hex')}`
  try {
    await rename(path, aside)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return
    throw error
  }
  const moved = await holderOf(aside)
  if (moved !== holder) await link(aside, path)
  await rm(aside, {force: true})
}

async function holderOf(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Only a process of our own pid namespace can be judged; a holder in another container is left to let go by itself. */
function isGone(holder: string): boolean {
  const match = /^pid (\d+) /.exec(holder)
  if (!match) return false
  const [, pid] = match
  return holder.endsWith(pidNamespace()) && identityOf(Number(pid)) !== holder
}

/** A pid alone may have been given to another process since; with its start time it is unique until the machine restarts. */
function identityOf(pid: number): string {
  return `pid ${pid} started ${startTicks(pid)} boot ${bootId()} ${pidNamespace()}`
}

/** Field 22 of /proc/<pid>/stat, counted behind the command's name, which may hold spaces and brackets (proc(5)). */
function startTicks(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 'unknown'
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ESRCH')) return 'never'
    throw error
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid')
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
