/**
 * The lock of a state directory: whoever holds it alone may start the embedded PostgreSQL, make sockets and keys there. It is a
 * flock(2) on an open file, so the kernel gives it back however its holder ends; the text inside only names the holder.
 */
import {chmodSync, closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync} from 'node:fs'
import {join} from 'node:path'
import {IngotError} from '../../lib/errors.ts'
import {call, SystemCallError} from './libc.ts'

export type StateLock = {release(): void}

const LOCK_EX_NB = 2 | 4

/**
 * Makes the state directory if need be: everybody may enter it, what is private inside has modes of its own.
 * @throws IngotError DATABASE_LOCKED naming the pid that holds it
 */
export function lockState(stateDir: string): StateLock {
  if (mkdirSync(stateDir, {recursive: true}) !== undefined) chmodSync(stateDir, 0o755)
  const path = join(stateDir, 'lock')
  const fd = openSync(path, 'a+', 0o644)
  try {
    call('flock', fd, LOCK_EX_NB)
  } catch (error) {
    closeSync(fd)
    if (!(error instanceof SystemCallError) || error.code !== 'EAGAIN') throw error
    throw new IngotError('DATABASE_LOCKED', `pid ${lockHolder(stateDir) ?? 'unknown'} holds ${stateDir}`, {cause: error})
  }
  ftruncateSync(fd, 0)
  writeSync(fd, `${process.pid}\n`)
  return {
    release() {
      ftruncateSync(fd, 0)
      closeSync(fd)
    },
  }
}

/** The pid of the Ingot that runs on a state directory; undefined when none does. */
export function holderOf(stateDir: string): number | undefined {
  try {
    lockState(stateDir).release()
    return undefined
  } catch (error) {
    if (error instanceof IngotError && error.code === 'DATABASE_LOCKED') return lockHolder(stateDir)
    throw error
  }
}

/** The pid written into the lock; only meaningful while somebody holds it. */
export function lockHolder(stateDir: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(stateDir, 'lock'), 'utf8').trim())
    return pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}
