/** One POST to one address that was judged, and nowhere else: no redirect is followed, no name is looked up again. */
import {createHmac} from 'node:crypto'
import {request as httpRequest} from 'node:http'
import {request as httpsRequest} from 'node:https'
import {isIP} from 'node:net'
import {judgeAddress} from './addresses.ts'

/** All addresses of a name, as the system resolves it. */
export type Resolve = (host: string) => Promise<readonly string[]>

export type Delivery =
  | {readonly status: number; readonly body: string; readonly address: string}
  | {readonly blocked: string}
  | {readonly unreachable: string}

const ANSWER_BYTES = 65_536

export async function deliver(order: {
  url: URL
  body: string
  headers: Readonly<Record<string, string>>
  allowed: readonly string[]
  resolve: Resolve
  timeout_ms: number
  signal: AbortSignal
}): Promise<Delivery> {
  const {url} = order
  const host = url.hostname.replace(/^\[|\]$/g, '')
  let addresses: readonly string[]
  try {
    addresses = isIP(host) === 0 ? await order.resolve(host) : [host]
  } catch (error) {
    return {unreachable: `${host} cannot be resolved: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`}
  }
  const [address] = addresses
  if (address === undefined) return {unreachable: `${host} has no address`}
  // A name with one good and one bad address is somebody's attempt.
  for (const one of addresses) {
    const judged = judgeAddress(one, order.allowed)
    if ('blocked' in judged) return {blocked: judged.blocked}
  }
  return post({...order, address})
}

/** `t=<seconds>,v1=<HMAC-SHA256 over "<seconds>.<body>">`: who receives it refuses what is old or does not fit. */
export function sign(key: Uint8Array, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', key).update(`${seconds}.${body}`).digest('hex')}`
}

function post(order: {
  url: URL
  body: string
  headers: Readonly<Record<string, string>>
  address: string
  timeout_ms: number
  signal: AbortSignal
}): Promise<Delivery> {
  const {url, body, address} = order
  const family = isIP(address)
  return new Promise(resolve => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest
    const request = send(
      url,
      {
        method: 'POST',
        headers: {...order.headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body)},
        // A connection of its own: one that is kept alive may have been made for another judgement.
        agent: false,
        signal: AbortSignal.any([order.signal, AbortSignal.timeout(order.timeout_ms)]),
        lookup: (_host, options, callback) =>
          options.all ? callback(null, [{address, family}]) : callback(null, address, family),
      },
      response => {
        const chunks: Buffer[] = []
        let size = 0
        const done = () =>
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8').slice(0, ANSWER_BYTES),
            address,
          })
        response.on('data', (chunk: Buffer) => {
          if (size < ANSWER_BYTES) chunks.push(chunk)
          size += chunk.length
          if (size >= ANSWER_BYTES) response.destroy()
        })
        response.on('end', done).on('close', done).on('error', done)
      },
    )
    request.on('error', (error: NodeJS.ErrnoException) =>
      resolve({unreachable: `${url.host} (${address}): ${error.code ?? error.name}`}),
    )
    request.end(body)
  })
}
