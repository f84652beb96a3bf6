/** How failures leave the API: one RFC 9457 problem document each, whatever was thrown, and a log line only for what an operator mends. */
import {randomUUID} from 'node:crypto'
import {STATUS_CODES} from 'node:http'
import type {Request, Response} from 'express'
import {isAway, sqlState} from '../../lib/db.ts'
import {type ErrorCode, IngotError, type Problem, toProblem} from '../../lib/errors.ts'
import {answerAndLinger, ClientGone} from './body.ts'
import type {ApiServices} from './services.ts'

const DETAIL_AT_MOST = 2_000

/** What PostgreSQL refuses although the schemas let it through, by SQLSTATE or its class. */
const DATABASE_REFUSALS: readonly {readonly states: RegExp; readonly code: ErrorCode; readonly detail: string}[] = [
  {states: /^(23505|23P01)$/, code: 'CONFLICT', detail: 'another request made the same thing at the same moment'},
  {states: /^(23|40)/, code: 'CONFLICT', detail: 'what it refers to was changed at the same moment; send it again'},
  {states: /^22/, code: 'INVALID_INPUT', detail: 'a value cannot be stored as what it stands for'},
  {states: /^53100$/, code: 'STORAGE_FULL', detail: 'PostgreSQL has no space left'},
  {states: /^(57014|55P03|53)/, code: 'DATABASE_AWAY', detail: 'PostgreSQL is too busy; send it again in a moment'},
]

export async function answerProblem(services: ApiServices, thrown: unknown, request: Request, response: Response): Promise<void> {
  if (thrown instanceof ClientGone || response.destroyed) return void response.destroy()
  // By then the parser has seen the end of a request that has no body.
  await undefined
  const error = asIngotError(thrown)
  const problem = {...shortened(toProblem(error)), request_id: randomUUID()}
  log(services, thrown, error, problem, request)
  if (response.headersSent) return void response.destroy()
  if (error instanceof IngotError && error.retryAfter_s) response.set('retry-after', String(error.retryAfter_s))
  if (problem.status === 401) response.set('www-authenticate', 'Bearer')
  const text = JSON.stringify(problem)
  response.status(problem.status).set('content-type', 'application/problem+json')
  // Who waits for "100 Continue" was never told to send.
  const nothingComes = request.complete || request.method === 'GET' || request.method === 'HEAD'
  if (nothingComes) response.end(text)
  else if (request.headers.expect !== undefined) response.set('connection', 'close').end(text)
  else await answerAndLinger(request, response, text)
}

/** A whole HTTP answer for bytes that never became a request. */
export function rawProblem(status: number, code: ErrorCode, detail: string, mend: string): string {
  const text = JSON.stringify({...toProblem(new IngotError(code, detail, {mend})), status})
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n`
  return `${head}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}

function asIngotError(thrown: unknown): unknown {
  if (thrown instanceof IngotError) return thrown
  if (isAway(thrown)) return new IngotError('DATABASE_AWAY', 'try again in a moment', {cause: thrown})
  const state = sqlState(thrown)
  const refusal = state === undefined ? undefined : DATABASE_REFUSALS.find(row => row.states.test(state))
  if (refusal) return new IngotError(refusal.code, refusal.detail, {cause: thrown})
  if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOSPC')
    return new IngotError('STORAGE_FULL', 'a file could not be written', {cause: thrown})
  // express itself complains about a path that is not percent-encoded UTF-8.
  if (thrown instanceof URIError) {
    const errors = [{field: '(path)', code: 'encoding', message: 'is not percent-encoded UTF-8'}]
    return new IngotError('INVALID_INPUT', 'the path is not percent-encoded UTF-8', {errors})
  }
  return thrown
}

function shortened(problem: Problem): Problem {
  const {detail} = problem
  return detail.length > DETAIL_AT_MOST ? {...problem, detail: `${detail.slice(0, DETAIL_AT_MOST)}…`} : problem
}

/** PostgreSQL's own `detail` and `where` quote rows, which may hold what nobody should read; they are left out. */
function log(
  services: ApiServices,
  thrown: unknown,
  error: unknown,
  problem: Problem & {request_id: string},
  request: Request,
): void {
  const about = {request_id: problem.request_id, method: request.method, path: request.path, code: problem.code}
  const state = sqlState(thrown)
  if (state !== undefined) {
    const {message, constraint, table, stack} = thrown as Error & {constraint?: string; table?: string}
    const line = {...about, sqlstate: state, constraint, table, reason: message, stack}
    if (problem.status >= 500) services.log.error(line, 'a request failed')
    else services.log.warn(line, 'PostgreSQL refused a request that validation let through')
  } else if (!(error instanceof IngotError)) services.log.error({...about, err: thrown}, 'a request failed')
  else if (problem.status >= 500) services.log.warn({...about, detail: problem.detail}, 'a request could not be served')
}
