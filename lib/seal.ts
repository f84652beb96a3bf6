/**
 * Seals secrets at rest: AES-256-GCM with a fresh data key per record, itself sealed under the key-encryption key, and the record's
 * place (table, row, field) as additional data, so that a sealed value copied into another row does not open.
 *
 * Layout of a sealed value: version (1 byte) ‖ key iv (12) ‖ sealed data key (32) ‖ tag (16) ‖ iv (12) ‖ ciphertext ‖ tag (16).
 */
import {createCipheriv, createDecipheriv, randomBytes} from 'node:crypto'
import {Secret} from './secret.ts'

const VERSION = 1
const IV_BYTES = 12
const TAG_BYTES = 16
const KEY_BYTES = 32

/** Where a sealed value lives; it opens nowhere else. */
export type SealPlace = {readonly table: string; readonly row: string; readonly field: string}

export type Sealer = {
  seal(secret: Secret, place: SealPlace): Buffer
  /** @throws Error when the key or the place is not the one it was sealed with */
  open(sealed: Buffer, place: SealPlace): Secret
}

/** @param key 32 bytes: the key-encryption key */
export function createSealer(key: Buffer): Sealer {
  if (key.length !== KEY_BYTES) throw new Error(`the sealing key must have ${KEY_BYTES} bytes, not ${key.length}`)
  return {
    seal(secret, place) {
      const data = additionalData(place)
      const dataKey = randomBytes(KEY_BYTES)
      return Buffer.concat([
        Buffer.from([VERSION]),
        encrypt(key, dataKey, data),
        encrypt(dataKey, Buffer.from(secret.reveal()), data),
      ])
    },
    open(sealed, place) {
      const data = additionalData(place)
      if (sealed[0] !== VERSION) throw new Error(`sealed value has version ${sealed[0]}, expected ${VERSION}`)
      const keyEnd = 1 + IV_BYTES + KEY_BYTES + TAG_BYTES
      const dataKey = decrypt(key, sealed.subarray(1, keyEnd), data)
      return new Secret(decrypt(dataKey, sealed.subarray(keyEnd), data).toString('utf8'))
    },
  }
}

function additionalData(place: SealPlace): Buffer {
  return Buffer.from(JSON.stringify([place.table, place.row, place.field, VERSION]))
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
