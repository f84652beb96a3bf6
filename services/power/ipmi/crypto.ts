/**
 * RAKP codes, session keys and the encrypted payload of RMCP+ (IPMI 2.0 §13.28–13.32). Pure: randomness comes in as arguments.
 *
 * Keys are key objects, made once: with the bytes of a key Node 24 takes five times as long for each code and cipher (23 µs for a code
 * against 5), and a key object prints nothing.
 */
import {createCipheriv, createDecipheriv, createHmac, createSecretKey, type KeyObject, timingSafeEqual} from 'node:crypto'
import type {Suite} from './suites.ts'

const BLOCK_BYTES = 16
const ONES = Buffer.alloc(20, 1)
const TWOS = Buffer.alloc(20, 2)

/** What both sides of a RAKP exchange know. Session ids are four bytes, least significant first. */
export type RakpFacts = {
  readonly consoleId: Buffer
  readonly bmcId: Buffer
  readonly consoleRandom: Buffer
  readonly bmcRandom: Buffer
  readonly bmcGuid: Buffer
  /** Requested privilege byte of RAKP 1, name-only bit included. */
  readonly role: number
  readonly username: Buffer
}

export type SessionKeys = {readonly suite: Suite; readonly integrityKey: KeyObject; readonly cipherKey: KeyObject}

/** The BMC proves that it knows the password (§13.21, §13.31). */
export function rakp2Code(suite: Suite, password: KeyObject, facts: RakpFacts): Buffer {
  const {consoleId, bmcId, consoleRandom, bmcRandom, bmcGuid} = facts
  return hmac(suite, password, consoleId, bmcId, consoleRandom, bmcRandom, bmcGuid, named(facts))
}

/** The console proves that it knows the password (§13.22, §13.31). */
export function rakp3Code(suite: Suite, password: KeyObject, facts: RakpFacts): Buffer {
  return hmac(suite, password, facts.bmcRandom, facts.consoleId, named(facts))
}

/** Session integrity key, SIK (§13.31). The key is K_G where the BMC has one, else the user's password. */
export function sessionSecret(suite: Suite, key: KeyObject, facts: RakpFacts): KeyObject {
  return createSecretKey(hmac(suite, key, facts.consoleRandom, facts.bmcRandom, named(facts)))
}

/** The BMC proves that it derived the same SIK (§13.23). */
export function rakp4Code(suite: Suite, secret: KeyObject, facts: RakpFacts): Buffer {
  return hmac(suite, secret, facts.consoleRandom, facts.bmcId, facts.bmcGuid).subarray(0, suite.checkBytes)
}

/** K1 for integrity and K2 for encryption, from twenty bytes of 01 and of 02 (§13.32). */
export function sessionKeys(suite: Suite, secret: KeyObject): SessionKeys {
  return {
    suite,
    integrityKey: createSecretKey(hmac(suite, secret, ONES)),
    cipherKey: createSecretKey(hmac(suite, secret, TWOS).subarray(0, BLOCK_BYTES)),
  }
}

/** The code at the end of an authenticated packet (§13.28.4). */
export function checkCode(keys: SessionKeys, covered: Buffer): Buffer {
  return hmac(keys.suite, keys.integrityKey, covered).subarray(0, keys.suite.checkBytes)
}

/** AES-CBC-128 payload: initialisation vector, then data, pad 01 02 03 …, pad length (§13.29). */
export function encrypt(cipherKey: KeyObject, iv: Buffer, data: Buffer): Buffer {
  const padBytes = (BLOCK_BYTES - ((data.length + 1) % BLOCK_BYTES)) % BLOCK_BYTES
  const tail = Buffer.from(Array.from({length: padBytes + 1}, (_, index) => (index < padBytes ? index + 1 : padBytes)))
  const cipher = createCipheriv('aes-128-cbc', cipherKey, iv).setAutoPadding(false)
  return Buffer.concat([iv, cipher.update(data), cipher.update(tail), cipher.final()])
}

/** Undefined when the length or the pad is wrong; the pad's bytes are checked too, as §13.29 asks. */
export function decrypt(cipherKey: KeyObject, payload: Buffer): Buffer | undefined {
  if (payload.length < 2 * BLOCK_BYTES || payload.length % BLOCK_BYTES !== 0) return undefined
  const decipher = createDecipheriv('aes-128-cbc', cipherKey, payload.subarray(0, BLOCK_BYTES)).setAutoPadding(false)
  const plain = Buffer.concat([decipher.update(payload.subarray(BLOCK_BYTES)), decipher.final()])
  const padBytes = plain.at(-1) ?? BLOCK_BYTES
  if (padBytes >= BLOCK_BYTES) return undefined
  const end = plain.length - 1 - padBytes
  for (let index = 0; index < padBytes; index++) {
    if (plain[end + index] !== index + 1) return undefined
  }
  return plain.subarray(0, end)
}

/** Compares in constant time; different lengths are different. */
export function sameBytes(left: Buffer, right: Buffer): boolean {
  return left.length === right.length && timingSafeEqual(left, right)
}

function named(facts: RakpFacts): Buffer {
  return Buffer.concat([Buffer.from([facts.role, facts.username.length]), facts.username])
}

function hmac(suite: Suite, key: KeyObject, ...parts: Buffer[]): Buffer {
  const code = createHmac(suite.hash, key)
  for (const part of parts) code.update(part)
  return code.digest()
}
