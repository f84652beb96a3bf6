/** What a route is. The table of routes is the single source: the server, its validation and the OpenAPI document come from it. */
import type {Kysely} from 'kysely'
import {z} from 'zod'
import type {Database} from '../../lib/schema.ts'
import type {EventFeed} from './event-feed.ts'
import type {ApiServices} from './services.ts'
import type {Permission} from './tokens.ts'

export type Call<P, Q, B> = {
  readonly params: P
  readonly query: Q
  readonly body: B
  /** who asks, as events name it: `api:<token name>` */
  readonly actor: string
  /** what the token may; some routes ask for more, or show more, depending on what is in them */
  readonly permission: Permission
  /** whom the token speaks for; null for the operators of the site */
  readonly tenant: string | null
  readonly services: ApiServices
  readonly events: EventFeed
  /** ends when the client goes away or the server stops */
  readonly signal: AbortSignal
}

export type Reply = {
  readonly status: number
  readonly body?: unknown
  /** instead of a body: an archive whose every byte is UTF-8 text */
  readonly tar?: string
  readonly headers?: Readonly<Record<string, string>>
  /** what a repetition under the same Idempotency-Key gets instead of `body`, when that shows a secret */
  readonly replay?: unknown
}

export type Route = {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete'
  /** OpenAPI style: `/v1/machines/{id}` */
  readonly path: string
  readonly summary: string
  readonly permission: Permission
  /** tokens of a tenant may come here; the handler then shows and spends what is the tenant's alone */
  readonly tenants?: true
  readonly params?: z.ZodObject
  readonly query?: z.ZodObject
  readonly body?: z.ZodType
  /** Instead of JSON the request holds a file: the handler gets its bytes as `body`. */
  readonly upload?: {readonly type: string; readonly mostBytes: number; readonly description: string}
  readonly answers: Readonly<Record<number, string>>
  /**
   * Changes something: runs in one transaction together with its Idempotency-Key, perhaps more than once (a deadlock is tried again).
   * Its handler asks everything of `tx`: one that waits for a second connection while it holds one starves the pool.
   */
  readonly changes: boolean
  readonly handle: (call: Call<unknown, unknown, unknown>, tx: Kysely<Database>) => Promise<Reply>
}

/** A change that needs no words takes an empty body or `{}`. */
export const NO_BODY = z.strictObject({})

type Schemas<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> = {params?: P; query?: Q; body?: B}

/** Ties a route's handler to the types of its schemas. */
export function route<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType>(
  definition: Omit<Route, 'params' | 'query' | 'body' | 'upload' | 'handle'> &
    Schemas<P, Q, B> & {handle: (call: Call<z.output<P>, z.output<Q>, z.output<B>>, tx: Kysely<Database>) => Promise<Reply>},
): Route {
  return definition as unknown as Route
}

/** A route that takes a file. It reads and changes nothing. */
export function uploadRoute<P extends z.ZodObject, Q extends z.ZodObject>(
  definition: Omit<Route, 'params' | 'query' | 'body' | 'handle' | 'changes'> &
    Required<Pick<Route, 'upload'>> &
    Omit<Schemas<P, Q, z.ZodType>, 'body'> & {handle: (call: Call<z.output<P>, z.output<Q>, Uint8Array>) => Promise<Reply>},
): Route {
  return {...definition, changes: false} as unknown as Route
}
