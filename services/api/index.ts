/** The operator API: REST with problem documents, tokens, idempotency, OpenAPI. A door: it reaches the services by their façades only. */
import type {Server} from 'node:http'
import {createListener} from './listener.ts'
import {createApiApp} from './server.ts'
import type {ApiServices} from './services.ts'

export {type ApiServices, type Explained, type ExplainedStep, type ExplainHow, STAGES, type StageName} from './services.ts'
export {deleteIdempotencyKeys} from './store.ts'
export {createToken, type Permission} from './tokens.ts'

/** @returns a server for each listener; they share one app */
export function createApi(services: ApiServices, version: string): {listen: () => Server} {
  const stopping = new AbortController()
  const app = createApiApp({...services, version}, version, stopping.signal)
  return {listen: () => createListener(app, stopping)}
}
