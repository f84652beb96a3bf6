/** The CLI's way to the API: over TCP or the Unix socket, with the token from the environment or its file. Any client can do the same. */
import {randomUUID} from 'node:crypto'
import {readFileSync} from 'node:fs'
import {type IncomingMessage, type RequestOptions, request} from 'node:http'
import {request as httpsRequest} from 'node:https'
import {homedir} from 'node:os'
import {join} from 'node:path'
import {sleep} from '../lib/clock.ts'
import {loadConfig} from '../lib/config.ts'
import {IngotError, messageOf, type Problem, toProblem} from '../lib/errors.ts'

export type ConnectionOptions = {
  readonly api?: string
  readonly tokenFile?: string
  readonly state?: string
  readonly json?: boolean
}

/** A problem document that the API answered, or one made here for what went wrong on the way. */
export class ApiProblem extends Error {
  readonly problem: Pick<Problem, 'code' | 'detail' | 'mend'> & Partial<Problem>

  constructor(problem: Pick<Problem, 'code' | 'detail' | 'mend'> & Partial<Problem>) {
    super(`${problem.title ?? problem.code}: ${problem.detail}`)
    this.problem = problem
  }
}

/** Nobody answered. `lost`: the connection was there and broke, so the request may or may not have been served. */
export class Unreachable extends ApiProblem {
  readonly lost: boolean

  constructor(where: string, error: NodeJS.ErrnoException) {
    const forbidden = error.code === 'EACCES'
    super({
      code: 'INTERNAL',
      title: 'Ingot does not answer',
      detail: `${where}: ${error.message}`,
      mend: forbidden
        ? 'This user may not open the socket: use sudo, or the TCP listener with --api or INGOT_API.'
        : 'Is `ingot serve` running? Another address is given with --api or INGOT_API.',
    })
    this.lost = error.code === 'ECONNRESET' || error.code === 'EPIPE'
  }
}

type Query = Record<string, string | number | boolean | undefined>

export type Client = {
  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T>
  send<T>(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T>
  /** What comes is no JSON, and is given as it is. */
  download(path: string): Promise<string>
  /** Sends a file as it is. */
  upload<T>(path: string, file: {readonly type: string; readonly bytes: Uint8Array}, query?: Query): Promise<T>
}

const ANSWER_MS = 60_000
const TRIES = 3
const AGAIN_MS = 500

export function createClient(options: ConnectionOptions): Client {
  const place = placeOf(options)
  const token = tokenOf(options)
  return {
    get: (path, query, signal) => call(place, token, {method: 'GET', path: withQuery(path, query), signal}),
    send: (method, path, body) => call(place, token, {method, path, ...(body === undefined ? {} : {content: asJson(body)})}),
    download: path => call(place, token, {method: 'GET', path, raw: true}),
    upload: (path, file, query) => call(place, token, {method: 'POST', path: withQuery(path, query), content: file}),
  }
}

type Place = {readonly socketPath: string} | {readonly url: URL}

/** `unix:/path`, or a URL; without either, the socket of this host's state directory. */
function placeOf(options: ConnectionOptions): Place {
  const text = options.api || process.env.INGOT_API || undefined
  if (text === undefined) return {socketPath: socketOfThisHost(options.state)}
  if (text.startsWith('unix:/')) return {socketPath: text.slice('unix:'.length)}
  const url = URL.parse(/^[\w.-]+:\d+$/.test(text) ? `http://${text}` : text)
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return {url}
  throw new ApiProblem({
    code: 'INVALID_INPUT',
    title: 'The request is not valid',
    detail: `'${text}' is no API address`,
    mend: 'Use http://host:port or unix:/path.',
  })
}

function socketOfThisHost(state: string | undefined): string {
  try {
    return loadConfig(state === undefined ? {} : {state}).api.socket
  } catch (error) {
    if (!(error instanceof IngotError)) throw error
    const mend = 'Mend the file, or use sudo to read it; or name the API with --api or INGOT_API.'
    throw new ApiProblem({...toProblem(error), mend})
  }
}

/** `INGOT_TOKEN`, else the file that was named, else `~/.config/ingot/token`. Never an argument: arguments are seen by everybody. */
function tokenOf(options: ConnectionOptions): string {
  const file = options.tokenFile ?? join(homedir(), '.config', 'ingot', 'token')
  const [text, from] = process.env.INGOT_TOKEN ? [process.env.INGOT_TOKEN, 'INGOT_TOKEN'] : [readToken(file), file]
  const token = text.trim()
  // It goes into a header: nothing else fits there, and nothing else is a token.
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw noToken(`what ${from} holds is no token`)
}

function readToken(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw noToken(
      missing ? `INGOT_TOKEN is not set and ${file} does not exist` : `INGOT_TOKEN is not set, and ${messageOf(error)}`,
    )
  }
}

function noToken(detail: string): ApiProblem {
  return new ApiProblem({
    code: 'UNAUTHENTICATED',
    title: 'There is no API token',
    detail,
    mend: 'Set INGOT_TOKEN to the token that `ingot init` showed, or put it into that file with mode 0600.',
  })
}

function withQuery(path: string, query: Query = {}): string {
  const pairs = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, String(value)] as [string, string]],
  )
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs)}`
}

type Content = {readonly type: string; readonly bytes: Uint8Array}

type Asked = {
  readonly method: string
  readonly path: string
  readonly content?: Content
  readonly raw?: boolean
  readonly signal?: AbortSignal | undefined
}

function asJson(body: unknown): Content {
  return {type: 'application/json', bytes: Buffer.from(JSON.stringify(body))}
}

/** A request whose answer was lost is sent again under the same key: what it changed, it changed once. */
async function call<T>(place: Place, token: string, asked: Asked): Promise<T> {
  const key = asked.method === 'GET' ? undefined : randomUUID()
  for (let tries = 1; ; tries++) {
    try {
      return (await callOnce(place, token, asked, key)) as T
    } catch (error) {
      if (!(error instanceof Unreachable && error.lost) || tries >= TRIES || asked.signal?.aborted) throw error
      await sleep(AGAIN_MS, asked.signal)
    }
  }
}

async function callOnce(place: Place, token: string, asked: Asked, key: string | undefined): Promise<unknown> {
  const {method, path, content, signal} = asked
  const options: RequestOptions = {
    method,
    ...(signal ? {signal} : {}),
    headers: {
      authorization: `Bearer ${token}`,
      accept: asked.raw ? '*/*' : 'application/json',
      ...(key === undefined ? {} : {'idempotency-key': key}),
      ...(content === undefined ? {} : {'content-type': content.type, 'content-length': content.bytes.length}),
    },
  }
  const response = await send(place, path, options, content?.bytes)
  if (asked.raw && response.status < 400) return response.text
  const answer = parseAnswer(response.text)
  if (response.status < 400) return answer
  throw new ApiProblem(asProblem(answer, response.status))
}

function send(
  place: Place,
  path: string,
  options: RequestOptions,
  bytes: Uint8Array | undefined,
): Promise<{status: number; text: string}> {
  const where = 'socketPath' in place ? place.socketPath : place.url.origin
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new Unreachable(where, error))
    const sent =
      'socketPath' in place
        ? request({...options, socketPath: place.socketPath, path})
        : (place.url.protocol === 'https:' ? httpsRequest : request)(new URL(path, place.url), options)
    sent.setTimeout(ANSWER_MS, () => sent.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)))
    sent.on('error', fail)
    sent.on('response', (response: IncomingMessage) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', fail)
      response.on('end', () => resolve({status: response.statusCode ?? 500, text: Buffer.concat(chunks).toString('utf8')}))
    })
    sent.end(bytes)
  })
}

function parseAnswer(text: string): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    return {detail: `the answer is not JSON (${messageOf(error)}): ${text.slice(0, 200)}`}
  }
}

function asProblem(answer: unknown, status: number): Problem {
  const given = typeof answer === 'object' && answer !== null ? (answer as Partial<Problem>) : {}
  return {
    type: given.type ?? 'about:blank',
    title: given.title ?? `HTTP ${status}`,
    status,
    code: given.code ?? 'INTERNAL',
    detail: given.detail ?? 'no detail was given',
    mend: given.mend ?? 'Look at the log of Ingot.',
    ...(given.errors ? {errors: given.errors} : {}),
  }
}
