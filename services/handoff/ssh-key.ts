/**
 * Ingot's own SSH key pair: made once, kept in OpenSSH's private key format (OpenSSH PROTOCOL.key; the key's own encoding is
 * RFC 8709 §4), so that ssh reads it without ssh-keygen having been there. An operator may put another unencrypted key in its place.
 */
import {generateKeyPairSync, randomBytes} from 'node:crypto'
import {chmodSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {dirname} from 'node:path'

export type KeyPair = {
  readonly privateKeyPath: string
  /** One line for authorized_keys. */
  readonly publicKey: string
}

const MAGIC = Buffer.from('openssh-key-v1\0')
const KEY_TYPE = 'ssh-ed25519'
const COMMENT = 'ingot'

/** Reads the key pair at `path`, making it first if there is none. Two processes that make it at once end with the same one. */
export function ensureKeyPair(path: string): KeyPair {
  return readKeyPair(path) ?? makeKeyPair(path)
}

function readKeyPair(path: string): KeyPair | undefined {
  try {
    const publicKey = publicKeyOf(readFileSync(path, 'utf8'))
    chmodSync(path, 0o600)
    return {privateKeyPath: path, publicKey}
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function makeKeyPair(path: string): KeyPair {
  mkdirSync(dirname(path), {recursive: true, mode: 0o700})
  const draft = `${path}.${process.pid}.${randomBytes(6).toString('hex')}`
  writeFileSync(draft, generatePrivateKey(), {mode: 0o600, flag: 'wx', flush: true})
  try {
    // A link, unlike a rename, fails when another process was quicker; then its key is the one.
    linkSync(draft, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(draft, {force: true})
  }
  return {privateKeyPath: path, publicKey: publicKeyOf(readFileSync(path, 'utf8'))}
}

/** A fresh ed25519 key as the text of an OpenSSH private key file, without a passphrase. */
export function generatePrivateKey(): string {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({format: 'jwk'})
  const seed = Buffer.from(jwk.d ?? '', 'base64url')
  const publicBytes = Buffer.from(jwk.x ?? '', 'base64url')
  const publicBlob = Buffer.concat([sshString(KEY_TYPE), sshString(publicBytes)])
  // The same random word twice: how a reader of an encrypted file knows that its passphrase was right.
  const check = randomBytes(4)
  const secret = Buffer.concat([
    check,
    check,
    sshString(KEY_TYPE),
    sshString(publicBytes),
    sshString(Buffer.concat([seed, publicBytes])),
    sshString(COMMENT),
  ])
  // Padded with 1, 2, 3 … to the block size, which is 8 for cipher `none`.
  const padding = Buffer.from(Array.from({length: (8 - (secret.length % 8)) % 8}, (_, index) => index + 1))
  const one = Buffer.from([0, 0, 0, 1])
  const file = Buffer.concat([
    MAGIC,
    sshString('none'),
    sshString('none'),
    sshString(''),
    one,
    sshString(publicBlob),
    sshString(Buffer.concat([secret, padding])),
  ])
  const lines = file.toString('base64').match(/.{1,70}/g) ?? []
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n')
}

/** The authorized_keys line of a private key file: its public half stands in front, in the clear. */
export function publicKeyOf(privateKeyFile: string): string {
  const body = /-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----/.exec(privateKeyFile)?.[1]
  const file = Buffer.from(body ?? '', 'base64')
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) throw new Error('not a private key in OpenSSH format')
  let at = MAGIC.length
  const next = (): Buffer => {
    const length = file.readUInt32BE(at)
    at += 4 + length
    return file.subarray(at - length, at)
  }
  if (next().toString() !== 'none') throw new Error('the private key has a passphrase; Ingot cannot ask for one')
  next()
  next()
  at += 4
  const blob = next()
  const type = blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1')
  return `${type} ${blob.toString('base64')} ${COMMENT}`
}

/** RFC 4251 §5: four bytes of length, then the bytes. */
function sshString(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
