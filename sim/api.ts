/** The public API as the harness uses it: each change under an idempotency key, sent until it is answered, and remembered once it was. */
import {Agent, request} from 'node:http'
import {sleep} from '../lib/clock.ts'

export type ApiAnswer = {readonly status: number; readonly body: Record<string, unknown>; readonly ms: number}

export type Api = {
  readonly token: string
  answers(): Promise<boolean>
  get(path: string): Promise<ApiAnswer>
  /** One try, whatever comes. */
  once(method: string, path: string, body?: unknown): Promise<ApiAnswer>
  /** Sent again, under the same key, while nothing answers or the server says 5xx. */
  post(path: string, body?: unknown, method?: 'POST' | 'PATCH' | 'PUT'): Promise<ApiAnswer>
}

const LIMIT_MS = 15_000
const AGAIN_MS = 200
const INSIST_MS = 120_000

let keys = 0

export function createApi(url: string, token: string): Api {
  // A kept connection may be closed by the server just as it is used again, which would look like a fault.
  const agent = new Agent({keepAlive: false, maxSockets: 64})

  function once(method: string, path: string, body: unknown, key: string | undefined): Promise<ApiAnswer> {
    const startedMs = performance.now()
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers = {
      authorization: `Bearer ${token}`,
      ...(key === undefined ? {} : {'idempotency-key': key}),
      ...(text === undefined ? {} : {'content-type': 'application/json', 'content-length': Buffer.byteLength(text)}),
    }
    return new Promise((resolve, reject) => {
      const sent = request(`${url}${path}`, {method, agent, headers, timeout: LIMIT_MS}, response => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const said = Buffer.concat(chunks).toString('utf8')
          const answer = said === '' ? {} : (JSON.parse(said) as Record<string, unknown>)
          resolve({status: response.statusCode ?? 0, body: answer, ms: performance.now() - startedMs})
        })
      })
      sent.on('timeout', () => sent.destroy(new Error('the API does not answer in time')))
      sent.on('error', reject)
      sent.end(text)
    })
  }

  async function insist(method: string, path: string, body: unknown, key: string | undefined): Promise<ApiAnswer> {
    const end = performance.now() + INSIST_MS
    for (;;) {
      try {
        const answer = await once(method, path, body, key)
        if (answer.status < 500 || performance.now() > end) return answer
      } catch (error) {
        if (performance.now() > end) throw error
      }
      await sleep(AGAIN_MS)
    }
  }

  return {
    token,
    answers: () =>
      once('GET', '/v1/prefixes', undefined, undefined).then(
        ({status}) => status === 200,
        () => false,
      ),
    once: (method, path, body) => once(method, path, body, undefined),
    get: path => insist('GET', path, undefined, undefined),
    post: (path, body, method = 'POST') => insist(method, path, body, `sim-${process.pid}-${Date.now()}-${++keys}`),
  }
}
