/** `explain` over the API and the command line: every stage, from the records of a machine or for a MAC that nobody declared. */
import {spawn} from 'node:child_process'
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {withTx} from '../../lib/db.ts'
import type {Explained} from '../../services/api/index.ts'
import {type ApiWorld, createApiWorld, expectProblem} from '../support/api-world.ts'
import {PCAP_FOLDER} from '../support/pcap.ts'

const INGOT = new URL('../../bin/ingot', import.meta.url).pathname
const MAC = '52:54:00:e0:00:01'
const STRANGER = '52:54:00:e0:00:02'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
  await api.world.declare(MAC)
})
afterAll(() => api.close())

async function explain(query: string): Promise<Explained> {
  const answer = await api.ask('GET', `/v1/explain?${query}`)
  expect(answer.status, answer.text).toBe(200)
  return answer.body as unknown as Explained
}

const stepsOf = (explained: Explained, stage: string) => explained.stages.find(row => row.stage === stage)?.steps ?? []

function ingot(...words: string[]): Promise<string> {
  const env = {PATH: process.env.PATH, INGOT_API: `http://127.0.0.1:${api.port}`, INGOT_TOKEN: api.tokens.view}
  const child = spawn(INGOT, words, {env, stdio: ['ignore', 'pipe', 'pipe']})
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', chunk => (said += chunk))
  return new Promise(resolve => child.on('close', () => resolve(said)))
}

describe('explain', () => {
  it('walks a known machine through every stage, with file, options and reasons', async () => {
    const explained = await explain(`mac=${MAC}&arch=uefi`)
    expect(explained).toMatchObject({mac: MAC, architecture: 'x64 UEFI', prefix: '127.0.0.0/16', relay: null})
    expect(explained.stages.map(row => row.stage)).toEqual(['rom', 'ipxe', 'loader', 'ramdisk', 'installer', 'os'])
    const [offer, ack] = stepsOf(explained, 'rom')
    expect(offer).toMatchObject({asks: 'DISCOVER', answer: expect.stringMatching(/^OFFER 127\.0\./), file: 'snponly.efi'})
    expect(ack).toMatchObject({asks: 'REQUEST', answer: expect.stringMatching(/^ACK 127\.0\./), file: 'snponly.efi'})
    expect(offer?.options).toMatchObject({subnet_mask: '255.255.0.0', routers: ['127.0.255.254']})
    expect(offer?.reasons.map(reason => reason.rule)).toEqual(expect.arrayContaining(['client', 'link', 'host', 'boot file']))
    const script = stepsOf(explained, 'ipxe').find(step => step.asks?.startsWith('GET '))
    expect(script?.body).toContain('#!ipxe')
    expect(stepsOf(explained, 'loader')).toMatchObject([{answer: 'its own disk', reasons: [{rule: 'no_open_job'}]}])
    for (const stage of ['ramdisk', 'installer', 'os']) {
      expect(stepsOf(explained, stage)[0], stage).toMatchObject({answer: offer?.answer, file: null})
    }
  })

  it('asks as the machine of the records, by its name too', async () => {
    const found = await api.ask('GET', `/v1/machines?mac=${MAC}`)
    const {items} = found.body as unknown as {items: {name: string}[]}
    const named = await api.ask('GET', `/v1/machines/${items[0]?.name}/explain`)
    expect(named.body).toMatchObject({mac: MAC, machine: expect.any(String)})
  })

  it('answers for a MAC never seen: silence, and why', async () => {
    const explained = await explain(`mac=${STRANGER}`)
    expect(explained.machine).toBeNull()
    expect(stepsOf(explained, 'rom')).toMatchObject([{answer: 'nothing: unknown_mac'}])
    expect(stepsOf(explained, 'loader')).toMatchObject([{answer: 'nothing (404)', reasons: [{rule: 'unknown_mac'}]}])
  })

  it('shows one stage, a user class and an unlisted relay with its port', async () => {
    const chained = await explain(`mac=${MAC}&stage=rom&user_class=iPXE`)
    expect(chained.stages.map(row => row.stage)).toEqual(['rom'])
    expect(stepsOf(chained, 'rom')[0]?.file).toMatch(/\/boot\.ipxe$/)
    const relayed = await explain(`mac=${MAC}&stage=os&relay=192.0.2.1&circuit_id=Gi1/0/7`)
    expect(stepsOf(relayed, 'os')).toMatchObject([{answer: 'nothing: unlisted_relay'}])
    const http = await explain(`mac=${MAC}&stage=http&arch=uefi`)
    expect(stepsOf(http, 'http')[0]).toMatchObject({
      file: expect.stringMatching(/^http.*snponly\.efi$/),
      options: {vendor_class: 'HTTPClient'},
    })
  })

  it('refuses what it does not know, naming the field', async () => {
    for (const [query, field] of [
      ['mac=nonsense', 'mac'],
      [`mac=${MAC}&stage=moon`, 'stage'],
      [`mac=${MAC}&relay=10.1`, 'relay'],
      [`mac=${MAC}&arch=vax`, 'arch'],
    ] as const) {
      const problem = expectProblem(await api.ask('GET', `/v1/explain?${query}`), 400, 'INVALID_INPUT')
      expect(problem.errors?.[0]?.field, query).toBe(field)
    }
    expectProblem(await api.ask('GET', `/v1/explain?mac=${MAC}&prefix=10.99.0.0/24`), 404, 'NOT_FOUND')
  })

  it('reads well on a terminal', async () => {
    const text = await ingot('explain', MAC, '--arch', 'uefi')
    if (process.env.SHOW) process.stderr.write(text)
    expect(text).toContain('DISCOVER → OFFER 127.0.')
    expect(text).toContain('file  snponly.efi')
    expect(text).toContain('why   client: 52:54:00:e0:00:01 is at stage rom')
    expect(text).toContain('| #!ipxe')
    expect(await ingot('explain', STRANGER)).toContain('DISCOVER → nothing: unknown_mac')
  })
})

describe('explain of a capture', () => {
  const CAPTURE = join(PCAP_FOLDER, 'bios-ipxe-undionly-bootloop.pcap')
  const send = (body: Buffer, query = '') => api.ask('POST', `/v1/explain/capture${query}`, {body, token: api.tokens.view})

  it('says what went wrong, and what Ingot would answer from what it knows now', async () => {
    await withTx(api.db, tx =>
      api.services.ipam.createPrefix(tx, {cidr: '10.77.0.0/22', boot_url: 'http://10.77.0.1:8480'}, 'test'),
    )
    const strange = await send(readFileSync(CAPTURE))
    expect(strange.status, strange.text).toBe(200)
    expect(strange.body).toMatchObject({packets: 40, findings: [{cause: 'CHAIN_LOOP', mac: '52:54:00:77:00:02', machine: null}]})
    const [discover] = strange.body.shown as {ingot: {answer: string}}[]
    expect(discover?.ingot.answer).toBe('nothing: unknown_mac')
    const declared = await api.ask('POST', '/v1/machines', {
      body: {name: 'loops', macs: ['52:54:00:77:00:02'], prefix: '10.77.0.0/22'},
    })
    expect(declared.status, declared.text).toBe(201)
    const {body} = await send(readFileSync(CAPTURE))
    const [known] = body.shown as {ingot: {answer: string; file: string; reasons: {rule: string}[]}}[]
    expect(body.findings).toMatchObject([{cause: 'CHAIN_LOOP', machine: 'loops'}])
    expect(known?.ingot).toMatchObject({
      answer: expect.stringMatching(/^OFFER 10\.77\./),
      file: 'http://10.77.0.1:8480/boot.ipxe',
    })
    expect(known?.ingot.reasons.map(({rule}) => rule)).toContain('host')
    const elsewhere = await send(readFileSync(CAPTURE), '?prefix=127.0.0.0/16')
    expect((elsewhere.body.shown as typeof body.shown & {ingot: {answer: string}}[])[0]?.ingot.answer).toBe(
      'nothing: other_prefix',
    )
  })

  it('refuses what is no capture, and more than it takes, before it reads it', async () => {
    expect(expectProblem(await send(Buffer.from('no capture, but more than 24 bytes')), 400, 'INVALID_INPUT').mend).toContain(
      'tcpdump',
    )
    const announced = {'content-length': String(9 * 1024 * 1024)}
    expectProblem(
      await api.ask('POST', '/v1/explain/capture', {headers: announced, body: Buffer.alloc(0)}),
      413,
      'BODY_TOO_LARGE',
    )
  })

  it('reads well on a terminal', async () => {
    const text = await ingot('explain', '--pcap', CAPTURE)
    expect(text).toContain('40 packets in 10.282 s, 1 machine')
    expect(text).toMatch(/1 {5}0\.000 {2}DISCOVER: iPXE, x86 BIOS\n +Ingot: OFFER 10\.77\./)
    expect(text).toMatch(/CHAIN_LOOP {2}loops \(52:54:00:77:00:02\): iPXE was given its own loader again/)
    expect(text).toContain('→ The server ignores user class 77')
    expect(await ingot('explain', '--pcap', INGOT)).toContain('the capture cannot be read')
    expect(await ingot('explain', '--pcap', '/nowhere/x.pcap')).toContain('A file is not usable')
    expect(await ingot('explain')).toContain('neither a machine nor a capture is named')
  })
})
