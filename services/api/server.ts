/**
 * The operator API on express: the table of routes, each request authenticated, capped and held against its schemas before its handler
 * runs, and answered with JSON or a problem document. A change and its Idempotency-Key commit in one transaction.
 */
import express, {type NextFunction, type Request, type Response} from 'express'
import {withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {createAttempts} from './attempts.ts'
import {authenticate, type Caller} from './authenticate.ts'
import {parseBody, readBody} from './body.ts'
import {createEventFeed, type EventFeed} from './event-feed.ts'
import {type Answer, type Change, runOnce} from './idempotency.ts'
import {checkInput} from './input.ts'
import {openApiDocument} from './openapi.ts'
import {answerProblem} from './problems.ts'
import {type Call, NO_BODY, type Reply, type Route} from './route.ts'
import {ROUTES} from './routes/registry.ts'
import type {ApiServices} from './services.ts'
import type {Permission} from './tokens.ts'

type Handler = (request: Request, response: Response) => Promise<void>

/** @param stopping ends long polls */
export function createApiApp(services: ApiServices, version: string, stopping: AbortSignal): express.Express {
  const app = express()
  const attempts = createAttempts(services.clock)
  const events = createEventFeed(services)
  const admit = (request: Request, needs: Permission) => authenticate(services, attempts, request, needs)
  const openApi = JSON.stringify(openApiDocument(ROUTES, version))
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', 'simple')
  app.use((request: Request, response: Response, next: NextFunction) => {
    response.set({'cache-control': 'no-store', 'x-content-type-options': 'nosniff'})
    // RFC 9112 §3.2; Node would refuse it too, but without saying what to do.
    if (request.httpVersion === '1.1' && request.headers.host === undefined)
      throw new IngotError('INVALID_INPUT', 'an HTTP/1.1 request names its host', {mend: 'Send a Host header.'})
    next()
  })
  const on = (method: Route['method'], path: string, handler: Handler) => {
    app[method](path.replace(/\{(\w+)\}/g, ':$1'), (request, response, next) => void handler(request, response).catch(next))
  }
  on('get', '/healthz', health(services))
  on('get', '/v1/openapi.json', async (_request, response) => void response.type('application/json').send(openApi))
  on('get', '/metrics', async (request, response) => {
    const {token} = await admit(request, 'view')
    if (token.tenant !== null) throw notForTenants(token.tenant)
    response.type('text/plain; version=0.0.4').send(await services.metrics())
  })
  for (const route of ROUTES) {
    on(route.method, route.path, async (request, response) => {
      const caller = await admit(request, route.permission)
      if (caller.token.tenant !== null && !route.tenants) throw notForTenants(caller.token.tenant)
      send(response, await serve(services, route, {caller, request, response, events, stopping}))
    })
  }
  app.use((request: Request, response: Response) => {
    throw unknownPath(request, response)
  })
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    answerProblem(services, error, request, response).catch(fault => {
      services.log.error({err: fault}, 'a problem could not be answered')
      response.destroy()
    })
  })
  return app
}

async function serve(
  services: ApiServices,
  route: Route,
  how: {caller: Caller; request: Request; response: Response; events: EventFeed; stopping: AbortSignal},
): Promise<Answer> {
  const {caller, request, response} = how
  const body = route.body ?? (route.changes ? NO_BODY : undefined)
  const bytes = body || route.upload ? await readBody(request, response, route.upload?.mostBytes) : Buffer.alloc(0)
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  const call: Call<unknown, unknown, unknown> = {
    params: checkInput(route.params, request.params),
    query: checkInput(route.query, request.query),
    body: route.upload ? bytes : body ? checkInput(body, parseBody(bytes)) : undefined,
    actor: `api:${caller.token.name}`,
    permission: caller.token.permission,
    tenant: caller.token.tenant,
    services,
    events: how.events,
    signal: AbortSignal.any([gone.signal, how.stopping]),
  }
  if (!route.changes) return toChange(await route.handle(call, services.db)).answer
  const key = request.get('idempotency-key')
  return await withTx(services.db, async tx => {
    const change = async () => toChange(await route.handle(call, tx))
    if (key === undefined) return (await change()).answer
    return await runOnce(tx, {caller, key, method: route.method, url: request.originalUrl, bytes}, change)
  })
}

function notForTenants(tenant: string): IngotError {
  return new IngotError('FORBIDDEN', `the token speaks for tenant ${tenant} and reaches its addresses only`, {
    mend: 'Use a token of the site.',
  })
}

function toChange(reply: Reply): Change {
  if (reply.tar !== undefined) {
    const headers = {...reply.headers, 'content-type': 'application/x-tar'}
    return {answer: {status: reply.status, headers, text: reply.tar}, storedText: null}
  }
  const headers = {...reply.headers, ...(reply.body === undefined ? {} : {'content-type': 'application/json; charset=utf-8'})}
  const text = reply.body === undefined ? null : JSON.stringify(reply.body)
  const storedText = reply.replay === undefined ? text : JSON.stringify(reply.replay)
  return {answer: {status: reply.status, headers, text}, storedText}
}

function send(response: Response, answer: Answer): void {
  response.status(answer.status).set(answer.headers)
  if (answer.text === null) response.end()
  else response.end(answer.text)
}

/** Anybody may ask; however many do at once, the database is asked once. */
function health(services: ApiServices): Handler {
  let asking: Promise<unknown> | undefined
  return async (_request, response) => {
    asking ??= services.lifecycle.now().finally(() => {
      asking = undefined
    })
    const well = await asking.then(
      () => true,
      () => false,
    )
    response.status(well ? 200 : 503).json({status: well ? 'ok' : 'database away'})
  }
}

function unknownPath(request: Request, response: Response): IngotError {
  const methods = ROUTES.filter(route => pathMatches(route.path, request.path)).map(route => route.method.toUpperCase())
  if (methods.length === 0) {
    return new IngotError('NOT_FOUND', `${request.method} ${request.path}`, {mend: 'GET /v1/openapi.json lists what there is.'})
  }
  response.set('allow', methods.join(', '))
  return new IngotError('NOT_FOUND', `${request.path} takes no ${request.method}`, {mend: `It takes ${methods.join(', ')}.`})
}

function pathMatches(template: string, path: string): boolean {
  const wanted = template.split('/')
  const given = path.split('/')
  return wanted.length === given.length && wanted.every((part, index) => part.startsWith('{') || part === given[index])
}
