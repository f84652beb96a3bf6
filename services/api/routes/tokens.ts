/** API tokens: made, listed and revoked by administrators. */
import {z} from 'zod'
import {IngotError} from '../../../lib/errors.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {uuidParam} from '../fields.ts'
import {route} from '../route.ts'
import * as store from '../store.ts'
import {issueToken, PERMISSIONS} from '../tokens.ts'
import {tokenView} from '../views.ts'

export const tokenRoutes = [
  route({
    method: 'post',
    path: '/v1/tokens',
    summary: 'Make an API token; it is shown in this answer only',
    permission: 'administer',
    changes: true,
    body: z.strictObject({
      name: z
        .string()
        .regex(/^[\w.@-]{1,63}$/, 'has 1 to 63 letters, digits, `.`, `@`, `_` or `-`')
        .describe('events name its holder by it'),
      permission: z.enum(PERMISSIONS),
      days: z.number().positive().max(3650).optional().describe('until it expires; without, it does not'),
      tenant: z
        .string()
        .min(1)
        .max(63)
        .optional()
        .describe('whom it speaks for: it reaches that tenant’s addresses and nothing else'),
    }),
    answers: {201: 'the token', 404: 'there is no such tenant'},
    async handle({body, actor, services}, tx) {
      const now = await databaseNow(tx)
      const expiresAt = body.days === undefined ? undefined : new Date(now.getTime() + body.days * 86_400_000)
      const {tenant} = body
      if (tenant !== undefined && !(await services.ipam.listTenants(tx)).some(row => row.name === tenant))
        throw new IngotError('NOT_FOUND', `there is no tenant ${tenant}`)
      const {row, secret} = await issueToken(tx, {name: body.name, permission: body.permission, expiresAt, tenant})
      const shown = tokenView(row)
      await services.evidence.changed(tx, {
        at: now,
        actor,
        kind: 'token_made',
        subject: row.name,
        detail: {token_id: row.id, permission: row.permission, expires_at: row.expires_at, tenant: row.tenant},
      })
      return {status: 201, body: {...shown, token: secret.reveal()}, replay: {...shown, token: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/tokens',
    summary: 'List API tokens, oldest first; never the tokens themselves',
    permission: 'administer',
    changes: false,
    answers: {200: 'the tokens'},
    async handle({services}) {
      return {status: 200, body: {items: (await store.selectTokens(services.db)).map(tokenView), next: null}}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/tokens/{id}',
    summary: 'Revoke an API token now, for good',
    permission: 'administer',
    changes: true,
    params: uuidParam,
    answers: {204: 'it is revoked', 404: 'there is none'},
    async handle({params, actor, services}, tx) {
      const now = await databaseNow(tx)
      const row = await store.revokeToken(tx, params.id, now)
      if (!row) throw new IngotError('NOT_FOUND', `no token '${params.id}'`)
      await services.evidence.changed(tx, {at: now, actor, kind: 'token_revoked', subject: row.name, detail: {token_id: row.id}})
      return {status: 204}
    },
  }),
]
