/** A listener of the API: closes sockets that do not get on with their request, and answers even bytes that are no HTTP with a problem. */
import {createServer, type RequestListener, type Server, type ServerResponse} from 'node:http'
import type {Duplex} from 'node:stream'
import type {ErrorCode} from '../../lib/errors.ts'
import {rawProblem} from './problems.ts'

/** A request is there whole within this time, or its socket is closed; looked at once a second, so within 10 s at the latest. */
const HEADERS_MS = 6_000
const REQUEST_MS = 8_000
const LOOK_MS = 1_000
/** Longer than the longest wait for events: a client that does not take its answer holds no memory for ever. */
const SILENCE_MS = 60_000

type Unfinished = {readonly status: number; readonly code: ErrorCode; readonly detail: string; readonly mend: string}

const SLOW: Unfinished = {
  status: 408,
  code: 'INVALID_INPUT',
  detail: `the request was not complete after ${REQUEST_MS / 1000} s`,
  mend: 'Send it whole; a connection that waits is closed.',
}
const LONG: Unfinished = {
  status: 431,
  code: 'BODY_TOO_LARGE',
  detail: 'the path and headers are longer than 16 KiB',
  mend: 'Send a shorter path and fewer headers.',
}
const NO_HTTP: Unfinished = {
  status: 400,
  code: 'INVALID_INPUT',
  detail: 'this is not HTTP/1.1',
  mend: 'Send an HTTP/1.1 request.',
}

/** @param stopping aborted when the server is told to close, so that nobody waits for those who wait for events */
export function createListener(app: RequestListener, stopping: AbortController): Server {
  const open = new Set<ServerResponse>()
  const answering = new WeakSet<Duplex>()
  const listen: RequestListener = (request, response) => {
    open.add(response)
    answering.add(request.socket)
    response.on('close', () => {
      open.delete(response)
      answering.delete(request.socket)
    })
    if (stopping.signal.aborted) response.setHeader('connection', 'close')
    app(request, response)
  }
  const server = createServer(
    {headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, connectionsCheckingInterval: LOOK_MS, requireHostHeader: false},
    listen,
  )
  server.setTimeout(SILENCE_MS)
  // The app says "100 Continue" itself, once it knows who asks and how much would come.
  server.on('checkContinue', listen)
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    // An answer is under way: more bytes would only spoil it.
    if (!socket.writable || answering.has(socket) || error.code === 'ECONNRESET') return void socket.destroy()
    const {status, code, detail, mend} =
      error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? SLOW : error.code === 'HPE_HEADER_OVERFLOW' ? LONG : NO_HTTP
    socket.end(rawProblem(status, code, detail, mend), () => socket.destroy())
  })
  const close = server.close.bind(server)
  server.close = callback => {
    // Else a client would ask again on its connection, and the last one would never end.
    for (const response of open) if (!response.headersSent) response.setHeader('connection', 'close')
    stopping.abort()
    return close(callback)
  }
  return server
}
