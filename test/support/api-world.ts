/**
 * The operator API on a real listener over the lifecycle world's database, with a pool so small that a request which asks for a second
 * connection while it holds one would starve it, and a log that is kept to be read.
 */
import {request as httpRequest, type IncomingHttpHeaders, type Server} from 'node:http'
import type {AddressInfo} from 'node:net'
import {Writable} from 'node:stream'
import {pino} from 'pino'
import {expect} from 'vitest'
import {type Clock, systemClock} from '../../lib/clock.ts'
import {createDb} from '../../lib/db.ts'
import type {Problem} from '../../lib/errors.ts'
import {createSealer} from '../../lib/seal.ts'
import {createApi, createToken, type Permission} from '../../services/api/index.ts'
import {createBoot} from '../../services/boot/index.ts'
import {changeLoaders, changeOptions, listOptionTypes} from '../../services/dhcpd/index.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {createLifecycle, databaseNow, openJobsOf, profilesOf} from '../../services/lifecycle/index.ts'
import {createCaptureExplainer} from '../../services/supervisor/capture-explainer.ts'
import {createExplainer} from '../../services/supervisor/explainer.ts'
import {createMetrics} from '../../services/supervisor/metrics.ts'
import {createLifecycleWorld} from './lifecycle-world.ts'

export type Answer = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** of the answer's text, when it is JSON */
  readonly body: Record<string, unknown> & Partial<Problem>
}

export type Ask = {
  readonly token?: string | null
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type ApiWorld = Awaited<ReturnType<typeof createApiWorld>>

const POOL = 4

export async function createApiWorld() {
  const world = await createLifecycleWorld()
  const said: string[] = []
  const log = pino(
    {level: 'debug'},
    new Writable({
      write(chunk, _encoding, done) {
        said.push(String(chunk))
        done()
      },
    }),
  )
  const db = createDb({url: world.url, applicationName: 'test-api', maxConnections: POOL, log})
  let aheadMs = 0
  const clock: Clock = {now: systemClock.now, monotonicMs: () => systemClock.monotonicMs() + aheadMs}
  const evidence = createEvidence({db})
  const inventory = createInventory({db, sealer: createSealer(Buffer.alloc(32, 7))})
  const ipam = createIpam({db, clock, log})
  const lifecycle = createLifecycle({...world.services, db, evidence, inventory, ipam, log})
  const {artefacts, handoff, power} = world.services
  const boot = createBoot({db, evidence, claims: world.claims, artefacts, clock, log})
  const snapshot = {ipam, inventory, openJobs: () => openJobsOf(db), profiles: () => profilesOf(db), now: () => databaseNow(db)}
  const explainers = {snapshot, inventory, ipam, boot, clock, artefacts}
  const explain = createExplainer(explainers)
  const explainCapture = createCaptureExplainer(explainers)
  const metrics = createMetrics(lifecycle, evidence)
  const services = {
    db,
    clock,
    log,
    evidence,
    inventory,
    ipam,
    lifecycle,
    power,
    artefacts,
    handoff,
    dhcp: {changeOptions, changeLoaders, listOptionTypes},
    explain,
    explainCapture,
    metrics,
  }
  const api = createApi(services, '0.0.0-test')
  const servers: Server[] = []

  async function listen(where: {port: 0} | {path: string}): Promise<Server> {
    const server = api.listen()
    servers.push(server)
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen({...where, host: '127.0.0.1'}, resolve))
    return server
  }

  const port = ((await listen({port: 0})).address() as AddressInfo).port
  const tokens = {} as Record<Permission, string>
  for (const permission of ['view', 'operate', 'administer'] as const)
    tokens[permission] = (await createToken(db, {name: `test-${permission}`, permission})).reveal()

  return {
    world,
    db,
    port,
    tokens,
    services,
    /** what was logged since the beginning */
    said: () => said.join(''),
    listen,
    /** Lets time pass for what only looks at a monotonic clock. */
    skip(ms: number) {
      aheadMs += ms
    },
    /** By default with the administrator's token; a body that is no text or bytes is sent as JSON. */
    ask: (method: string, path: string, how: Ask = {}) => ask(port, method, path, {token: tokens.administer, ...how}),
    async close() {
      for (const server of servers) {
        server.closeAllConnections()
        await new Promise<void>(resolve => server.close(() => resolve()))
      }
      await db.destroy()
      await world.close()
    },
  }
}

export function ask(port: number, method: string, path: string, how: Ask): Promise<Answer> {
  const {body} = how
  const bytes =
    body === undefined
      ? undefined
      : typeof body === 'string' || body instanceof Uint8Array
        ? Buffer.from(body)
        : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const sent = httpRequest({
      host: '127.0.0.1',
      port,
      method,
      path,
      headers: {
        ...(how.token ? {authorization: `Bearer ${how.token}`} : {}),
        ...(bytes === undefined ? {} : {'content-length': String(Buffer.byteLength(bytes))}),
        ...how.headers,
      },
    })
    sent.on('error', reject)
    sent.on('response', response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk as Buffer))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8')
        const isJson = /json/.test(response.headers['content-type'] ?? '')
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          body: isJson && text !== '' ? JSON.parse(text) : {},
        })
      })
    })
    sent.end(bytes)
  })
}

/** Expects a problem document of this status and code, with a mend. */
export function expectProblem(answer: Answer, status: number, code: string) {
  expect(answer).toMatchObject({status, headers: {'content-type': 'application/problem+json'}})
  expect(answer.body).toMatchObject({status, code, type: expect.stringContaining('://'), title: expect.any(String)})
  expect(answer.body.mend, 'a mend').toMatch(/\w{3}/)
  return answer.body
}
