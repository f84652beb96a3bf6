/**
 * A boot service for ramdisk tests: speaks the ramdisk's protocol from memory, remembers every request, and can misbehave on demand.
 * Decides nothing by itself; a test sets the answers.
 */
import {createReadStream} from 'node:fs'
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http'
import type {AddressInfo} from 'node:net'

export type FakeRequest = {
  readonly method: string
  readonly path: string
  readonly bearer: string | undefined
  readonly range: string | undefined
  readonly body: string
  readonly atMs: number
}

export type Artefact = {readonly bytes: Buffer} | {readonly file: string; readonly sizeBytes: number}

export type Answers = {
  stage: 'inspect' | 'clean' | 'install' | 'test' | 'rescue' | 'leave'
  /** Lines of `GET /ramdisk/order`. */
  order: readonly string[]
  /** The line after facts; `wait` keeps the machine asking. */
  afterFacts: 'poweroff' | 'reboot' | 'wait'
  /** Lines of a granted claim, or a refusal. */
  claim: {readonly lines: readonly string[]} | {readonly refused: string}
  afterDone: 'poweroff' | 'reboot'
  config: Buffer
  artefacts: Map<string, Artefact>
  /** Changes bytes on their way out: a corrupting network. */
  tamper?: (sha256: string, start: number, bytes: Buffer) => void
  /** Answers this status instead, while it returns one. */
  fault?: (request: {readonly path: string; readonly range: string | undefined}) => number | undefined
}

export const BOOT_TOKEN = 'boot-token-of-this-attempt'
export const SESSION = '5e55105e55105e55105e55105e5510aa'
export const FIRST_BOOT_TOKEN = 'first-boot-token-of-this-attempt'

export type FakeBoot = Awaited<ReturnType<typeof startFakeBoot>>

export async function startFakeBoot(overrides: Partial<Answers> = {}) {
  const answers: Answers = {
    stage: 'inspect',
    order: [],
    afterFacts: 'poweroff',
    claim: {refused: 'NO_JOB'},
    afterDone: 'poweroff',
    config: Buffer.alloc(1024),
    artefacts: new Map(),
    ...overrides,
  }
  const requests: FakeRequest[] = []
  const waiting = new Set<() => void>()
  let server = await listen(0)
  const port = (server.address() as AddressInfo).port

  function listen(wantedPort: number): Promise<Server> {
    const created = createServer((request, response) => {
      void handle(request, response)
    })
    return new Promise((resolve, reject) => {
      created.once('error', reject)
      created.listen(wantedPort, '127.0.0.1', () => resolve(created))
    })
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const path = request.url ?? '/'
    const range = request.headers.range
    const bearer = request.headers.authorization?.replace(/^Bearer /, '')
    requests.push({
      method: request.method ?? '',
      path,
      bearer,
      range,
      body: Buffer.concat(chunks).toString('utf8'),
      atMs: performance.now(),
    })
    const status = answers.fault?.({path, range})
    if (status === undefined) answer(path, bearer, range, response)
    else response.writeHead(status).end()
    for (const wake of waiting) wake()
  }

  function answer(path: string, bearer: string | undefined, range: string | undefined, response: ServerResponse): void {
    const body = requests.at(-1)?.body ?? ''
    if (path === '/first-boot') return text(response, bearer === FIRST_BOOT_TOKEN ? 200 : 401, '')
    if (bearer !== BOOT_TOKEN && bearer !== SESSION) return text(response, 401, '')
    if (path === '/ramdisk/hello') return text(response, 200, `time ${Math.floor(Date.now() / 1000)}\nstage ${answers.stage}\n`)
    if (path === '/ramdisk/facts') return text(response, 200, `then ${answers.afterFacts}\n`)
    if (path === '/ramdisk/log') return text(response, 204, '')
    if (path === '/ramdisk/claim') {
      if ('refused' in answers.claim) return text(response, 409, `refused ${answers.claim.refused}\n`)
      return text(response, 200, `session ${SESSION}\n${answers.claim.lines.join('\n')}\n`)
    }
    if (path === '/ramdisk/order') return text(response, 200, `${answers.order.join('\n')}\n`)
    const claims = answers.stage === 'clean' || answers.stage === 'install'
    if (claims && bearer !== SESSION) return text(response, 401, '')
    if (path === '/ramdisk/events') {
      const {kind} = JSON.parse(body) as {kind: string}
      const done = kind === 'wiped' || kind === 'local_boot_set' || kind === 'tested'
      return text(response, done ? 200 : 204, done ? `then ${answers.afterDone}\n` : '')
    }
    if (path === '/ramdisk/config') return bytes(response, answers.config)
    const sha256 = /^\/artefacts\/([0-9a-f]{64})$/.exec(path)?.[1]
    const artefact = sha256 === undefined ? undefined : answers.artefacts.get(sha256)
    if (sha256 === undefined || artefact === undefined) return text(response, 404, '')
    serveArtefact(sha256, artefact, range, response)
  }

  function serveArtefact(sha256: string, artefact: Artefact, range: string | undefined, response: ServerResponse): void {
    const size = 'bytes' in artefact ? artefact.bytes.length : artefact.sizeBytes
    const match = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')
    const start = match ? Number(match[1]) : 0
    const end = match ? Math.min(Number(match[2]), size - 1) : size - 1
    response.writeHead(match ? 206 : 200, {
      'content-length': end - start + 1,
      ...(match ? {'content-range': `bytes ${start}-${end}/${size}`} : {}),
    })
    if ('bytes' in artefact) {
      response.end(artefact.bytes.subarray(start, end + 1))
      return
    }
    const stream = createReadStream(artefact.file, {start, end, highWaterMark: 262_144})
    let at = start
    stream.on('data', chunk => {
      const piece = chunk as Buffer
      answers.tamper?.(sha256, at, piece)
      at += piece.length
      if (!response.write(piece)) {
        stream.pause()
        response.once('drain', () => stream.resume())
      }
    })
    stream.on('end', () => response.end())
    response.on('close', () => stream.destroy())
  }

  return {
    answers,
    requests,
    /** How a guest on QEMU's user network reaches this server. */
    guestUrl: `http://10.0.2.2:${port}`,
    /** Bodies of `POST path`, parsed, in order. */
    bodies(path: string): Record<string, unknown>[] {
      return requests.filter(request => request.path === path).map(request => JSON.parse(request.body) as Record<string, unknown>)
    },
    events(kind: string): Record<string, unknown>[] {
      return this.bodies('/ramdisk/events').filter(event => event.kind === kind)
    },
    /** Resolves when `done` holds after some request; rejects at the deadline, naming what was waited for. */
    until(what: string, done: () => boolean, deadlineMs = 300_000): Promise<void> {
      return new Promise((resolve, reject) => {
        const check = () => {
          if (!done()) return
          clearTimeout(timer)
          waiting.delete(check)
          resolve()
        }
        const timer = setTimeout(() => {
          waiting.delete(check)
          reject(
            new Error(`waited ${deadlineMs / 1000} s for ${what}; requests: ${requests.map(request => request.path).join(' ')}`),
          )
        }, deadlineMs)
        waiting.add(check)
        check()
      })
    },
    /** Breaks every connection and stops answering, as a killed process does. */
    async kill(): Promise<void> {
      const closed = new Promise(resolve => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
    async restart(): Promise<void> {
      server = await listen(port)
    },
  }
}

function text(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {'content-type': 'text/plain'}).end(body)
}

function bytes(response: ServerResponse, body: Buffer): void {
  response.writeHead(200, {'content-length': body.length}).end(body)
}
