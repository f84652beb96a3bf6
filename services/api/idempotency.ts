/**
 * Idempotency-Key: a change runs once for its key, and the same request again gets the same answer, byte for byte. The key is taken in
 * the transaction of the change: who comes at the same time waits for that commit; a change that is refused leaves its key free.
 */
import {createHmac} from 'node:crypto'
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import type {Caller} from './authenticate.ts'
import * as store from './store.ts'

/** An answer as it goes out. */
export type Answer = {readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly text: string | null}

/** What is stored differs from what goes out only where the answer shows a secret, which is shown once. */
export type Change = {readonly answer: Answer; readonly storedText: string | null}

export async function runOnce(
  tx: Kysely<Database>,
  about: {caller: Caller; key: string; method: string; url: string; bytes: Buffer},
  change: () => Promise<Change>,
): Promise<Answer> {
  const {caller, key} = about
  if (!/^[\x21-\x7e]{1,200}$/.test(key)) {
    throw new IngotError('INVALID_INPUT', 'Idempotency-Key has 1 to 200 printable characters, no spaces', {
      errors: [{field: 'Idempotency-Key', code: 'format', message: 'has 1 to 200 printable characters, no spaces'}],
    })
  }
  // Keyed by the token, which the database does not have: a body may hold a short password, and a bare hash would let it be guessed.
  const hash = createHmac('sha256', caller.text).update(`${about.method} ${about.url}\n`).update(about.bytes).digest()
  const before = await store.takeIdempotencyKey(tx, {token_id: caller.token.id, key, request_hash: hash})
  if (before) {
    if (!before.request_hash.equals(hash)) throw new IngotError('IDEMPOTENCY_MISMATCH', `key '${key}'`)
    const {headers, text} = before.response as Pick<Answer, 'headers' | 'text'>
    return {status: before.status ?? 200, headers: {...headers, 'idempotent-replay': 'true'}, text}
  }
  const {answer, storedText} = await change()
  await store.storeResponse(tx, caller.token.id, key, answer.status, {headers: answer.headers, text: storedText})
  return answer
}
