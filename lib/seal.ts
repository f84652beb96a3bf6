/**
 * Seals secrets at rest: AES-256-GCM with a fresh data key per record, itself sealed under the key-encryption key, and the record's
 * place (table, row, field) as additional data, so that a sealed value copied into another row does not open.
 *
 * Layout of a sealed value: version (1 byte, 2) ‖ id of the key (8) ‖ key iv (12) ‖ sealed data key (32) ‖ tag (16) ‖ iv (12) ‖
 * ciphertext ‖ tag (16). Version 1 had no id: each key of the ring is tried.
 */
import {createCipheriv, createDecipheriv, randomBytes} from 'node:crypto'
import {KEY_BYTES, type Keyring, keyringOf} from './keyring.ts'
import {Secret} from './secret.ts'

const VERSION = 2
const VERSION_WITHOUT_ID = 1
const ID_BYTES = 8
const IV_BYTES = 12
const TAG_BYTES = 16

/** Where a sealed value lives; it opens nowhere else. */
export type SealPlace = {readonly table: string; readonly row: string; readonly field: string}

export type Sealer = {
  seal(secret: Secret, place: SealPlace): Buffer
  /** @throws Error when no key opens it, or the place is not the one it was sealed for */
  open(sealed: Buffer, place: SealPlace): Secret
  /** The same secret under the key that seals now; undefined when it is so already. @throws as `open` */
  reseal(sealed: Buffer, place: SealPlace): Buffer | undefined
}

/** @param keys 32 bytes: the key-encryption key; or what tells the ring at this moment, as it may change under a running process */
export function createSealer(keys: Buffer | (() => Keyring)): Sealer {
  const only = Buffer.isBuffer(keys) ? keyringOf(['primary', requireKey(keys)]) : undefined
  const ring = () => only ?? (keys as () => Keyring)()

  function seal(secret: Secret, place: SealPlace): Buffer {
    const {id, key} = ring().primary
    const dataKey = randomBytes(KEY_BYTES)
    return Buffer.concat([
      Buffer.from([VERSION]),
      Buffer.from(id, 'hex'),
      encrypt(key, dataKey, additionalData(place, VERSION, id)),
      encrypt(dataKey, Buffer.from(secret.reveal()), additionalData(place, VERSION, id)),
    ])
  }

  function open(sealed: Buffer, place: SealPlace): Secret {
    if (sealed[0] === VERSION_WITHOUT_ID) return openWithoutId(ring(), sealed, place)
    const id = sealedUnder(sealed)
    if (id === undefined) throw new Error(`sealed value has version ${sealed[0]}, expected ${VERSION}`)
    const entry = ring().keys.find(candidate => candidate.id === id)
    if (!entry) throw new Error(`the value is sealed under key ${id}, which this process does not have`)
    return openUnder(entry.key, sealed.subarray(1 + ID_BYTES), additionalData(place, VERSION, id))
  }

  return {
    seal,
    open,
    reseal(sealed, place) {
      if (sealedUnder(sealed) === ring().primary.id) return undefined
      return seal(open(sealed, place), place)
    },
  }
}

/** The id of the key that a value is sealed under; undefined where the value does not say. */
export function sealedUnder(sealed: Buffer): string | undefined {
  return sealed[0] === VERSION && sealed.length > 1 + ID_BYTES ? sealed.subarray(1, 1 + ID_BYTES).toString('hex') : undefined
}

function openWithoutId({keys}: Keyring, sealed: Buffer, place: SealPlace): Secret {
  const data = additionalData(place, VERSION_WITHOUT_ID)
  for (const {key} of keys) {
    try {
      return openUnder(key, sealed.subarray(1), data)
    } catch (error) {
      if (key === keys.at(-1)?.key) throw error
    }
  }
  throw new Error('there is no sealing key')
}

function openUnder(key: Buffer, sealed: Buffer, data: Buffer): Secret {
  const keyEnd = IV_BYTES + KEY_BYTES + TAG_BYTES
  const dataKey = decrypt(key, sealed.subarray(0, keyEnd), data)
  return new Secret(decrypt(dataKey, sealed.subarray(keyEnd), data).toString('utf8'))
}

function requireKey(key: Buffer): Buffer {
  if (key.length !== KEY_BYTES) throw new Error(`the sealing key must have ${KEY_BYTES} bytes, not ${key.length}`)
  return key
}

function additionalData(place: SealPlace, version: number, id?: string): Buffer {
  return Buffer.from(JSON.stringify([place.table, place.row, place.field, version, ...(id === undefined ? [] : [id])]))
}

function encrypt(key: Buffer, plain: Buffer, data: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  cipher.setAAD(data)
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function decrypt(key: Buffer, sealed: Buffer, data: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_BYTES))
  decipher.setAAD(data)
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
  return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()])
}
