/** The key that seals BMC credentials: 32 random bytes in a file only root reads. */

import {randomBytes} from 'node:crypto'
import {closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync} from 'node:fs'
import {dirname} from 'node:path'
import {IngotError, messageOf} from '../../lib/errors.ts'

const KEY_BYTES = 32

/** Makes the key file unless there is one. Never overwrites: what the old key sealed would be lost. */
export function ensureSealingKey(path: string): void {
  if (statSync(path, {throwIfNoEntry: false})) return
  mkdirSync(dirname(path), {recursive: true, mode: 0o700})
  const fresh = `${path}.${process.pid}`
  const fd = openSync(fresh, 'wx', 0o600)
  try {
    writeSync(fd, randomBytes(KEY_BYTES))
    fsyncSync(fd)
    linkSync(fresh, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    closeSync(fd)
    rmSync(fresh, {force: true})
  }
}

/** @throws IngotError PREFLIGHT_FAILED when it is missing, has another size, or others may read it */
export function readSealingKey(path: string): Buffer {
  let key: Buffer
  try {
    key = readFileSync(path)
  } catch (error) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} cannot be read: ${messageOf(error)}`, {
      mend: 'Every host that works on one database needs the same key: copy it from the first one. `ingot init` makes a new one.',
      cause: error,
    })
  }
  if (key.length !== KEY_BYTES) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} has ${key.length} bytes instead of ${KEY_BYTES}`)
  }
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} can be read by others`, {mend: `chmod 600 ${path}`})
  }
  return key
}
