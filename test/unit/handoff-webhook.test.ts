/** The webhook against a receiver of ours on loopback, which it may reach only because the operator's list says so. */
import {createHmac} from 'node:crypto'
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http'
import type {AddressInfo} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterEach, beforeEach, describe, expect, it} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {createLog} from '../../lib/log.ts'
import type {HandoffMachine} from '../../services/handoff/index.ts'
import type {KindOutcome} from '../../services/handoff/kinds/kind.ts'
import {judgeAddress, parseAllowed} from '../../services/handoff/kinds/webhook/addresses.ts'
import {makeWebhookKind, type WebhookConfig} from '../../services/handoff/kinds/webhook.ts'

const KEY = 'a key of a receiver'
const MACHINE: HandoffMachine = {
  ...{id: 'm1', name: 'web01', address: '10.20.0.9', sshHostKeys: ['ssh-ed25519 AAAA']},
  ...{facts: {kernel: '6.1'}, parameters: {role: 'web'}},
}

let folder: string
let server: Server
let port: number
let heard: {headers: IncomingMessage['headers']; body: string; url: string}[]
let answer: (response: ServerResponse, nth: number) => void

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'webhook-'))
  mkdirSync(join(folder, 'kind'))
  writeFileSync(join(folder, 'kind', 'cmdb.key'), `${KEY}\n`)
  writeFileSync(join(folder, 'kind', 'allowed-networks'), '127.0.0.0/8 # the receiver of this test\n')
  heard = []
  answer = response => response.writeHead(200).end('{"ok":true}')
  server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    heard.push({headers: request.headers, body, url: request.url ?? ''})
    answer(response, heard.length)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
  rmSync(folder, {recursive: true, force: true})
})

type Told = {over?: Partial<WebhookConfig>; resolve?: (host: string) => Promise<readonly string[]>; withdraw?: boolean}

async function tell({over = {}, resolve = async () => ['127.0.0.1'], withdraw}: Told = {}): Promise<KindOutcome> {
  const kind = makeWebhookKind(resolve, 1)
  const config = kind.schema.parse({kind: 'webhook', url: `http://cmdb.example.org:${port}/hook`, key: 'cmdb', ...over})
  const context = {
    ...{runId: 'job-1', machine: MACHINE, runDir: folder, kindDir: join(folder, 'kind'), searchPath: '', clock: systemClock},
    ...{log: createLog('test', 'silent'), signal: AbortSignal.timeout(60_000)},
    keyPair: () => {
      throw new Error('it needs none')
    },
    output: () => undefined,
  }
  return withdraw ? kind.withdraw!(config, context) : kind.run(config, context)
}

describe('a webhook', () => {
  it('sends the machine, signed with its time, and takes a 2xx as done', async () => {
    expect(await tell()).toMatchObject({outcome: 'done', summary: {event: 'provisioned', status: 200, attempts: 1}})
    const [{headers, body, url} = {headers: {}, body: '', url: ''}] = heard
    expect(url).toBe('/hook')
    expect(headers.host).toBe(`cmdb.example.org:${port}`)
    expect(JSON.parse(body)).toEqual({
      event: 'provisioned',
      delivery: 'job-1',
      machine: {
        id: 'm1',
        name: 'web01',
        address: '10.20.0.9',
        ssh_host_keys: ['ssh-ed25519 AAAA'],
        facts: {kernel: '6.1'},
        parameters: {role: 'web'},
      },
    })
    const [, seconds, digest] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['ingot-signature']))!
    expect(digest).toBe(createHmac('sha256', KEY).update(`${seconds}.${body}`).digest('hex'))
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(600)
    expect(headers).toMatchObject({'ingot-event': 'provisioned', 'ingot-delivery': 'job-1'})
  })

  it('tells that a machine is given back', async () => {
    expect(await tell({withdraw: true})).toMatchObject({outcome: 'done', summary: {event: 'withdrawn'}})
    expect(heard[0]!.headers['ingot-event']).toBe('withdrawn')
  })

  it('tries again what may pass, under the same name, and not what is refused', async () => {
    answer = (response, nth) => response.writeHead(nth < 3 ? 503 : 204).end()
    expect(await tell()).toMatchObject({outcome: 'done', summary: {attempts: 3}})
    expect(new Set(heard.map(one => one.headers['ingot-delivery'])).size).toBe(1)
    heard.length = 0
    answer = response => response.writeHead(403).end('no')
    expect(await tell()).toMatchObject({
      outcome: 'failed',
      cause: {code: 'HANDOFF_WEBHOOK_REFUSED', detail: expect.stringContaining('403')},
    })
    expect(heard).toHaveLength(1)
    answer = response => response.destroy()
    expect(await tell({over: {attempts: 2}})).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_WEBHOOK_FAILED'}})
    expect(heard).toHaveLength(3)
  })

  it('says what is wrong with its key before it sends anything', async () => {
    expect(await tell({over: {key: 'none'}})).toMatchObject({cause: {code: 'HANDOFF_WEBHOOK_KEY'}})
    writeFileSync(join(folder, 'kind', 'cmdb.key'), 'short')
    expect(await tell()).toMatchObject({cause: {code: 'HANDOFF_WEBHOOK_KEY', detail: expect.not.stringContaining('short\n')}})
    expect(heard).toEqual([])
  })
})

describe('F23 a webhook', () => {
  it.each([
    ...['127.0.0.1', '127.8.8.8', '::1', '10.1.2.3', '172.31.0.1', '192.168.1.1', '100.64.0.1', 'fd00::1', '0.0.0.0', '::'],
    ...[
      '169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      '224.0.0.1',
      'ff02::1',
      '255.255.255.255',
      '::ffff:127.0.0.1',
      '::ffff:a9fe:a9fe',
    ],
    ...['64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1', '64:ff9b::10.0.0.1', '::7f00:1', 'not an address', ''],
  ])('never goes to %s unasked', address => {
    expect(judgeAddress(address, [])).toHaveProperty('blocked')
  })

  it('goes to public addresses, and to private ones of the list, but to link-local ones not even then', () => {
    for (const address of ['93.184.216.34', '2606:2800:220:1::1', '::ffff:93.184.216.34'])
      expect(judgeAddress(address, [])).toEqual({allowed: true})
    expect(judgeAddress('10.1.2.3', ['10.1.0.0/16'])).toEqual({allowed: true})
    expect(judgeAddress('10.2.2.3', ['10.1.0.0/16'])).toHaveProperty('blocked')
    expect(judgeAddress('169.254.169.254', ['0.0.0.0/0', '169.254.0.0/16'])).toHaveProperty('blocked')
    expect(judgeAddress('fe80::1', ['::/0'])).toHaveProperty('blocked')
    expect(parseAllowed('10.0.0.0/8 # a\n\nfd00::/8\n')).toEqual({ranges: ['10.0.0.0/8', 'fd00::/8']})
    expect(parseAllowed('10.0.0.0')).toEqual({wrong: '10.0.0.0'})
  })

  it('is not sent where any of its name’s addresses is blocked, nor to an address in disguise', async () => {
    const mixed = async () => ['127.0.0.1', '169.254.169.254']
    expect(await tell({resolve: mixed})).toMatchObject({
      cause: {code: 'HANDOFF_WEBHOOK_BLOCKED', detail: expect.stringContaining('169.254')},
    })
    writeFileSync(join(folder, 'kind', 'allowed-networks'), '')
    for (const host of ['127.0.0.1', '0x7f.1', '2130706433', '[::1]', '[::ffff:127.0.0.1]', '127.1'])
      expect(await tell({over: {url: `http://${host}:${port}/`}}), host).toMatchObject({cause: {code: 'HANDOFF_WEBHOOK_BLOCKED'}})
    expect(heard).toEqual([])
  })

  it('goes to the very address that was judged, though its name means another by then', async () => {
    let asked = 0
    const rebinding = async () => (asked++ === 0 ? ['127.0.0.1'] : ['169.254.169.254'])
    expect(await tell({resolve: rebinding})).toMatchObject({outcome: 'done'})
    expect(asked).toBe(1)
    heard.length = 0
    answer = response => response.writeHead(503).end()
    asked = 0
    expect(await tell({resolve: rebinding})).toMatchObject({cause: {code: 'HANDOFF_WEBHOOK_BLOCKED'}})
    expect(heard).toHaveLength(1)
  })

  it('follows no redirect', async () => {
    answer = response => response.writeHead(307, {location: `http://127.0.0.1:${port}/elsewhere`}).end()
    expect(await tell()).toMatchObject({cause: {code: 'HANDOFF_WEBHOOK_REFUSED', detail: expect.stringContaining('redirects')}})
    expect(heard.map(one => one.url)).toEqual(['/hook'])
  })

  it.each(['ftp://x.example/', 'http://user:pw@x.example/', 'file:///etc/passwd', 'x.example', 'http://'])('takes no %s', url => {
    expect(makeWebhookKind(async () => []).schema.safeParse({kind: 'webhook', url, key: 'cmdb'}).success).toBe(false)
  })
})
