/** Reads what a client sends, never more than is taken: by its announced length before a byte is read, else by counting. */
import type {IncomingMessage, ServerResponse} from 'node:http'
import {sleep} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {parseJson} from '../../lib/json.ts'

export const BODY_BYTES = 1024 * 1024
const LINGER_MS = 1_000

/** The client went away while it was sending: nobody is left to answer. */
export class ClientGone extends Error {}

/** @throws IngotError BODY_TOO_LARGE; ClientGone */
export async function readBody(request: IncomingMessage, response: ServerResponse, mostBytes = BODY_BYTES): Promise<Buffer> {
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > mostBytes) throw tooLarge(`${announced} bytes, at most ${mostBytes} are taken`)
  // RFC 9110 §10.1.1: who waits for a word before sending gets it only now that it was let in.
  if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue()
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of request.iterator({destroyOnReturn: false})) {
      size += (chunk as Buffer).length
      if (size > mostBytes) throw tooLarge(`more than the ${mostBytes} bytes that are taken`)
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    if (error instanceof IngotError) throw error
    throw new ClientGone('the client went away while it was sending', {cause: error})
  }
  return Buffer.concat(chunks)
}

/** Nothing at all counts as an empty object. What a parser would quote of the text is not repeated: it may be a secret. */
export function parseBody(bytes: Buffer): unknown {
  if (bytes.length === 0) return {}
  try {
    return parseJson(bytes, BODY_BYTES)
  } catch (error) {
    if (!(error instanceof IngotError) || error.code !== 'INVALID_INPUT') throw error
    const place = /position \d+( \(line \d+ column \d+\))?/.exec(error.detail)?.[0]
    throw new IngotError('INVALID_INPUT', `the body is not JSON${place ? `: look at ${place}` : ''}`, {
      errors: [{field: '(body)', code: 'json', message: 'is not JSON'}],
    })
  }
}

/**
 * Answers a client that may still be sending. Closing at once would reset the connection, and the reset throws away what the client has
 * not read yet, its answer included (RFC 9112 §9.6); so what still comes is read and dropped for a moment.
 */
export async function answerAndLinger(request: IncomingMessage, response: ServerResponse, text: string): Promise<void> {
  response.setHeader('connection', 'close')
  response.setHeader('content-length', Buffer.byteLength(text))
  response.write(text)
  request.resume()
  const ended = new AbortController()
  for (const event of ['end', 'close', 'error']) request.once(event, () => ended.abort())
  await sleep(LINGER_MS, ended.signal)
  response.end()
}

function tooLarge(detail: string): IngotError {
  return new IngotError('BODY_TOO_LARGE', detail)
}
