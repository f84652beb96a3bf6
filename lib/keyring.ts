/**
 * The keys that seal secrets at rest: one seals, any opens. Usually there is one; a rotation has two for a while.
 *
 * In its file a ring of one is the 32 bytes of the key; a ring under rotation is text, a line a key:
 *
 *   ingot-sealing-keys 1
 *   primary <base64>      seals and opens
 *   coming <base64>       opens; is to seal once every process has it
 *   leaving <base64>      opens what has not been sealed anew
 */
import {createHash} from 'node:crypto'

export const KEY_BYTES = 32

export type KeyRole = 'primary' | 'coming' | 'leaving'
/** `id` names a key without telling it: 8 bytes in hex. */
export type SealingKey = {readonly id: string; readonly role: KeyRole; readonly key: Buffer}
export type Keyring = {readonly primary: SealingKey; readonly keys: readonly SealingKey[]}

const HEADER = 'ingot-sealing-keys 1'
const ID_BYTES = 8

export function keyringOf(...keys: readonly (readonly [role: KeyRole, key: Buffer])[]): Keyring {
  const entries = keys.map(([role, key]) => ({id: keyId(key), role, key}))
  const [primary, second] = entries.filter(({role}) => role === 'primary')
  if (!primary || second) throw new Error('a ring of sealing keys has one primary key')
  return {primary, keys: entries}
}

/** Undefined when it is neither a key nor a ring of them. */
export function parseKeyring(bytes: Buffer): Keyring | undefined {
  if (bytes.length === KEY_BYTES) return keyringOf(['primary', Buffer.from(bytes)])
  const [header, ...lines] = bytes.toString('latin1').trimEnd().split('\n')
  if (header !== HEADER) return undefined
  const entries = lines.map(line => {
    const [, role, text] = /^(primary|coming|leaving) ([A-Za-z0-9+/]{43}=)$/.exec(line) ?? []
    return role === undefined || text === undefined ? undefined : ([role as KeyRole, Buffer.from(text, 'base64')] as const)
  })
  const known = entries.filter(entry => entry !== undefined)
  if (known.length !== lines.length || known.filter(([role]) => role === 'primary').length !== 1) return undefined
  return keyringOf(...known)
}

export function encodeKeyring({primary, keys}: Keyring): Buffer {
  if (keys.length === 1) return primary.key
  return Buffer.from([HEADER, ...keys.map(({role, key}) => `${role} ${key.toString('base64')}`), ''].join('\n'))
}

function keyId(key: Buffer): string {
  return createHash('sha256')
    .update('ingot sealing key')
    .update(key)
    .digest('hex')
    .slice(0, 2 * ID_BYTES)
}
