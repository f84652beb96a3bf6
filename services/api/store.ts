/** Every SQL statement on api_tokens and idempotency_keys. */
import type {Kysely, Selectable} from 'kysely'
import type {ApiTokensTable, Database, IdempotencyKeysTable} from '../../lib/schema.ts'

export type TokenRow = Selectable<ApiTokensTable>
export type IdempotencyRow = Selectable<IdempotencyKeysTable>

export async function insertToken(
  db: Kysely<Database>,
  row: {name: string; token_hash: Buffer; permission: TokenRow['permission']; expires_at: Date | null; tenant: string | null},
): Promise<TokenRow> {
  return db.insertInto('api_tokens').values(row).returningAll().executeTakeFirstOrThrow()
}

export function selectToken(db: Kysely<Database>, hash: Buffer): Promise<TokenRow | undefined> {
  return db.selectFrom('api_tokens').selectAll().where('token_hash', '=', hash).executeTakeFirst()
}

export function selectTokens(db: Kysely<Database>): Promise<TokenRow[]> {
  return db.selectFrom('api_tokens').selectAll().orderBy('created_at').orderBy('id').execute()
}

/** @returns the token, revoked before or now; undefined when there is none */
export function revokeToken(db: Kysely<Database>, id: string, now: Date): Promise<TokenRow | undefined> {
  return db
    .updateTable('api_tokens')
    .set(({fn, ref, val}) => ({revoked_at: fn.coalesce(ref('revoked_at'), val(now))}))
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst()
}

/** Takes a key. @returns the row that was there before, or undefined when it is now ours */
export async function takeIdempotencyKey(
  db: Kysely<Database>,
  row: {token_id: string; key: string; request_hash: Buffer},
): Promise<IdempotencyRow | undefined> {
  const inserted = await db
    .insertInto('idempotency_keys')
    .values(row)
    .onConflict(conflict => conflict.doNothing())
    .returning('key')
    .executeTakeFirst()
  if (inserted) return undefined
  return db
    .selectFrom('idempotency_keys')
    .selectAll()
    .where('token_id', '=', row.token_id)
    .where('key', '=', row.key)
    .executeTakeFirst()
}

export async function storeResponse(
  db: Kysely<Database>,
  tokenId: string,
  key: string,
  status: number,
  response: unknown,
): Promise<void> {
  await db
    .updateTable('idempotency_keys')
    .set({status, response: JSON.stringify(response)})
    .where('token_id', '=', tokenId)
    .where('key', '=', key)
    .execute()
}

export async function deleteIdempotencyKeys(db: Kysely<Database>, before: Date): Promise<void> {
  await db.deleteFrom('idempotency_keys').where('created_at', '<', before).execute()
}
