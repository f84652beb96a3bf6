/** The keys that seal BMC credentials: a ring in a file that only root reads, usually of one key. */

import {randomBytes} from 'node:crypto'
import {closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync} from 'node:fs'
import {dirname} from 'node:path'
import {IngotError, messageOf} from '../../lib/errors.ts'
import {encodeKeyring, KEY_BYTES, type Keyring, parseKeyring} from '../../lib/keyring.ts'

/** Makes the key file unless there is one. Never overwrites: what the old key sealed would be lost. */
export function ensureSealingKey(path: string): void {
  if (statSync(path, {throwIfNoEntry: false})) return
  mkdirSync(dirname(path), {recursive: true, mode: 0o700})
  const fresh = `${path}.${process.pid}`
  try {
    writeSynced(fresh, randomBytes(KEY_BYTES))
    linkSync(fresh, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(fresh, {force: true})
  }
}

/** @throws IngotError PREFLIGHT_FAILED when it is missing, is no ring of keys, or others may read it */
export function readSealingKeys(path: string): Keyring {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} cannot be read: ${messageOf(error)}`, {
      mend: 'Every host that works on one database needs the same key: copy it from the first one. `ingot init` makes a new one.',
      cause: error,
    })
  }
  const ring = parseKeyring(bytes)
  if (!ring) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} has ${bytes.length} bytes instead of ${KEY_BYTES}`)
  }
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} can be read by others`, {mend: `chmod 600 ${path}`})
  }
  return ring
}

/** The whole file is the old or the new one, whatever happens meanwhile. @throws IngotError PREFLIGHT_FAILED when it cannot be written */
export function writeSealingKeys(path: string, ring: Keyring): void {
  const fresh = `${path}.${process.pid}`
  try {
    rmSync(fresh, {force: true})
    writeSynced(fresh, encodeKeyring(ring))
    renameSync(fresh, path)
    const folder = openSync(dirname(path), 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  } catch (error) {
    rmSync(fresh, {force: true})
    throw new IngotError('PREFLIGHT_FAILED', `the sealing key ${path} cannot be written: ${messageOf(error)}`, {
      mend: 'A key that systemd hands over is not a file of ours: name another with "sealing_key_file" in ingot.json.',
      cause: error,
    })
  }
}

function writeSynced(path: string, bytes: Buffer): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    writeSync(fd, bytes)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
