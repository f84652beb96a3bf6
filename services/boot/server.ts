/**
 * The boot HTTP server: a listener of its own on the hostile network, with no operator route. Bodies are capped before they are read,
 * files are served by digest or manifest name only, and nothing here may delay a DHCP answer.
 */
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http'
import type {Socket} from 'node:net'
import {z} from 'zod'
import type {Clock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {parseJson} from '../../lib/json.ts'
import {redactUrl} from '../../lib/log.ts'
import {answerEntry, type EntryServices, macOfPath} from './entry.ts'
import {serveArtefact} from './files.ts'
import {isUnanswered} from './patience.ts'
import type {Ramdisk, RamdiskAnswer} from './ramdisk.ts'
import {type BootPath, findRoute} from './routes.ts'
import {renderEntryScript} from './scripts.ts'
import {parseToken} from './token.ts'

export type BootServerServices = EntryServices & {readonly ramdisk: Ramdisk; readonly clock: Clock}

type Exchange = {readonly request: IncomingMessage; readonly response: ServerResponse; readonly url: URL; readonly from: string}
type Handler = (services: BootServerServices, exchange: Exchange, rest: string) => Promise<void>

const FACTS_BYTES = 1024 * 1024
const SMALL_BYTES = 64 * 1024
const LOG_BYTES = 256 * 1024
const IDLE_MS = 60_000

const HANDLERS: Readonly<Record<BootPath, Handler>> = {
  '/boot.ipxe': serveEntryScript,
  '/ipxe/': serveTarget,
  '/loaders/': (services, exchange, rest) => serveFile(services, exchange, services.artefacts.lookup(`loaders/${rest}`)),
  '/artefacts/': (services, exchange, rest) => serveFile(services, exchange, services.artefacts.byDigest(rest)),
  '/ramdisk/hello': ramdiskCall('hello', SMALL_BYTES),
  '/ramdisk/facts': ramdiskCall('facts', FACTS_BYTES),
  '/ramdisk/claim': ramdiskCall('claim', SMALL_BYTES),
  '/ramdisk/events': ramdiskCall('event', SMALL_BYTES),
  '/ramdisk/log': ramdiskLog,
  '/ramdisk/config': ramdiskCall('config', 0),
  '/ramdisk/order': ramdiskCall('order', 0),
  '/first-boot': ramdiskCall('firstBoot', FACTS_BYTES),
  '/healthz': async (_services, {response}) => void response.end('ok\n'),
}

export function createBootServer(services: BootServerServices): Server {
  // A slow client holds a socket, not a slot: head and body must come, and an idle socket goes (slow-loris). Node looks for those that
  // are late only so often: by default every 30 s.
  const limits = {headersTimeout: 8_000, requestTimeout: 10_000, connectionsCheckingInterval: 1_000, keepAliveTimeout: 5_000}
  const server = createServer(limits, (request, response) => {
    answer(services, request, response).catch(error => fail(services, request, response, error))
  })
  server.maxHeadersCount = 64
  // A client that stopped reading holds an open file.
  server.setTimeout(IDLE_MS)
  server.on('clientError', (_error: Error, socket: Socket) => socket.destroy())
  return server
}

async function answer(services: BootServerServices, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const route = findRoute(request.method ?? 'GET', request.url ?? '/')
  if ('status' in route) {
    if (route.status === 405) response.setHeader('allow', route.allow)
    return text(response, route.status, route.because)
  }
  // An IPv4 client of a dual-stack socket; a link-local one with its interface.
  const from = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '').replace(/%.*$/, '')
  await HANDLERS[route.path](services, {request, response, url: route.url, from}, route.rest)
}

async function serveEntryScript(_services: BootServerServices, {request, response}: Exchange): Promise<void> {
  text(response, 200, renderEntryScript(bootUrlOf(request)))
}

async function serveTarget(services: BootServerServices, {request, response, from}: Exchange, rest: string): Promise<void> {
  const mac = macOfPath(rest)
  if (!mac) return text(response, 400, 'that is no MAC address')
  const script = await answerEntry(services, mac, from, bootUrlOf(request))
  if (script === undefined) return text(response, 404, 'this machine is not known here')
  text(response, 200, script)
}

async function serveFile(
  services: BootServerServices,
  {request, response}: Exchange,
  entry: {sha256: string} | undefined,
): Promise<void> {
  if (!entry) return text(response, 404, 'there is no such artefact')
  await serveArtefact(services.artefacts, entry.sha256, request, response)
}

function ramdiskCall(verb: Exclude<keyof Ramdisk, 'log'>, maxBytes: number): Handler {
  return async (services, {request, response, from}) => {
    const token = await callerToken(services, request)
    if (!token) return text(response, 401, 'refused BAD_TOKEN')
    const bytes = maxBytes > 0 ? await readBody(request, maxBytes) : new Uint8Array()
    const body = bytes.length > 0 ? parseJson(bytes, maxBytes) : undefined
    send(response, await services.ramdisk[verb]({token, from}, body))
  }
}

async function ramdiskLog(services: BootServerServices, {request, response, from}: Exchange): Promise<void> {
  const token = await callerToken(services, request)
  if (!token) return text(response, 401, 'refused BAD_TOKEN')
  send(response, await services.ramdisk.log({token, from}, await readBody(request, LOG_BYTES)))
}

async function callerToken(services: BootServerServices, request: IncomingMessage) {
  const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ')
  return scheme === 'Bearer' ? parseToken(await services.key(), token) : undefined
}

function send(response: ServerResponse, answer: RamdiskAnswer): void {
  if ('refused' in answer) return text(response, 409, `refused ${answer.refused}`)
  if ('lines' in answer) return text(response, 200, answer.lines.join('\n'))
  if ('file' in answer) {
    response.writeHead(200, {'content-type': 'application/x-tar', 'content-length': answer.file.length})
    response.end(answer.file)
    return
  }
  response.writeHead(204).end()
}

/** Reads a body of at most `maxBytes`; refuses a longer one by its announced length already. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > maxBytes) throw new IngotError('BODY_TOO_LARGE', `${announced} bytes, at most ${maxBytes} are taken`)
  const chunks: Buffer[] = []
  let size = 0
  // Its socket is still needed to say why.
  for await (const chunk of request.iterator({destroyOnReturn: false})) {
    size += (chunk as Buffer).length
    if (size > maxBytes) throw new IngotError('BODY_TOO_LARGE', `more than the ${maxBytes} bytes that are taken`)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

/** The URL that the client itself used, so that an answer names the address which evidently works for it. */
function bootUrlOf(request: IncomingMessage): string {
  const host = request.headers.host
  if (host && /^[\w.:[\]-]{1,255}$/.test(host)) return `http://${host}`
  const {localAddress, localPort} = request.socket
  return `http://${(localAddress ?? '').replace(/^::ffff:/, '')}:${localPort}`
}

function fail(services: BootServerServices, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (request.destroyed && !request.complete) {
    services.log.debug({url: redactUrl(request.url ?? '')}, 'a client went away')
    return void response.destroy()
  }
  const [status, cause] =
    error instanceof IngotError
      ? [error.status, error.code]
      : error instanceof z.ZodError
        ? [400, 'INVALID_INPUT']
        : isUnanswered(error)
          ? [503, 'DATABASE_AWAY']
          : [500, 'INTERNAL']
  services.log[status >= 500 ? 'error' : 'warn']({url: redactUrl(request.url ?? ''), err: error, status}, 'a boot request failed')
  if (response.headersSent) return void response.destroy()
  text(response, status, `refused ${cause}`)
}

function text(response: ServerResponse, status: number, body: string): void {
  const bytes = Buffer.from(body.endsWith('\n') ? body : `${body}\n`)
  // Whoever was refused may still be sending a body that nobody will read.
  if (status >= 400) response.setHeader('connection', 'close')
  response.writeHead(status, {'content-type': 'text/plain; charset=utf-8', 'content-length': bytes.length})
  response.end(bytes)
}
