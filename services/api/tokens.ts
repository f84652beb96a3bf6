/** API tokens: 256 random bits with a prefix that secret scanners can find, hashed at rest, shown once. */
import {createHash, randomBytes} from 'node:crypto'
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import {Secret} from '../../lib/secret.ts'
import * as store from './store.ts'

export type Permission = store.TokenRow['permission']

export const PERMISSIONS = ['view', 'operate', 'administer'] as const satisfies readonly Permission[]

/** `tenant`: it speaks for that tenant, and reaches nothing but its addresses. */
export type NewToken = {name: string; permission: Permission; expiresAt?: Date | undefined; tenant?: string | undefined}

/** @returns the token; only its hash is kept */
export async function createToken(db: Kysely<Database>, input: NewToken): Promise<Secret> {
  return (await issueToken(db, input)).secret
}

export async function issueToken(db: Kysely<Database>, input: NewToken): Promise<{row: store.TokenRow; secret: Secret}> {
  const token = `ingot_${randomBytes(32).toString('base64url')}`
  const row = await store.insertToken(db, {
    name: input.name,
    token_hash: hashToken(token),
    permission: input.permission,
    expires_at: input.expiresAt ?? null,
    tenant: input.tenant ?? null,
  })
  return {row, secret: new Secret(token)}
}

export async function findToken(db: Kysely<Database>, token: string, now: Date): Promise<store.TokenRow | undefined> {
  if (!/^ingot_[\w-]{43}$/.test(token)) return undefined
  const row = await store.selectToken(db, hashToken(token))
  if (!row || row.revoked_at || (row.expires_at && row.expires_at <= now)) return undefined
  return row
}

export function permits(has: Permission, needs: Permission): boolean {
  return PERMISSIONS.indexOf(has) >= PERMISSIONS.indexOf(needs)
}

export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
