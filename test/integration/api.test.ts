/** The operator API as its clients meet it: who may do what, and what goes wrong and how it is said. */
import type {AddressInfo} from 'node:net'
import pg from 'pg'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {createDb} from '../../lib/db.ts'
import {type ApiServices, createApi, createToken} from '../../services/api/index.ts'
import {type Answer, type ApiWorld, ask, createApiWorld, expectProblem} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
})
afterAll(() => api.close())

let macs = 0
function nextMac(): string {
  macs++
  return `52:54:00:ab:${(macs >> 8).toString(16).padStart(2, '0')}:${(macs & 255).toString(16).padStart(2, '0')}`
}

const template = {template: 'debian/12', image: 'debian-12'}

describe('tokens', () => {
  it('lets each permission do its own and what is below it, and names what is missing', async () => {
    const declare = (token: string) => api.ask('POST', '/v1/machines', {token, body: {macs: [nextMac()]}})
    expect((await api.ask('GET', '/v1/machines', {token: api.tokens.view})).status).toBe(200)
    expect(expectProblem(await declare(api.tokens.view), 403, 'FORBIDDEN').detail).toContain("'operate'")
    expect((await declare(api.tokens.operate)).status).toBe(201)
    expect((await declare(api.tokens.administer)).status).toBe(201)
    expectProblem(await api.ask('GET', '/v1/tokens', {token: api.tokens.operate}), 403, 'FORBIDDEN')
    expect((await api.ask('GET', '/v1/tokens')).status).toBe(200)
  })

  it('refuses a token that has expired or was revoked, at once', async () => {
    const expired = await createToken(api.db, {name: 'old', permission: 'view', expiresAt: new Date(Date.now() - 1000)})
    expectProblem(await api.ask('GET', '/v1/machines', {token: expired.reveal()}), 401, 'UNAUTHENTICATED')
    const made = await api.ask('POST', '/v1/tokens', {body: {name: 'ci', permission: 'view', days: 1}})
    expect(made).toMatchObject({status: 201, body: {name: 'ci', permission: 'view', token: expect.stringMatching(/^ingot_/)}})
    const token = String(made.body.token)
    expect((await api.ask('GET', '/v1/machines', {token})).status).toBe(200)
    expect((await api.ask('DELETE', `/v1/tokens/${made.body.id}`)).status).toBe(204)
    expectProblem(await api.ask('GET', '/v1/machines', {token}), 401, 'UNAUTHENTICATED')
    const listed = (await api.ask('GET', '/v1/tokens')).body.items as {name: string; revoked_at: string | null}[]
    expect(listed.find(row => row.name === 'ci')?.revoked_at).toMatch(/^\d{4}-/)
  })

  it('says 401 with the scheme it wants, whatever stands in the header', async () => {
    for (const authorization of [
      undefined,
      '',
      'Basic YTpi',
      'Bearer',
      'Bearer  ',
      `Bearer ${api.tokens.view}x`,
      'Bearer \u00ff\u00fe',
    ]) {
      const answer = await api.ask('GET', '/v1/machines', {
        token: null,
        headers: authorization === undefined ? {} : {authorization},
      })
      expectProblem(answer, 401, 'UNAUTHENTICATED')
      expect(answer.headers['www-authenticate']).toBe('Bearer')
    }
    api.skip(61_000)
    const lower = {authorization: `bearer ${api.tokens.view}`}
    expect((await api.ask('GET', '/v1/machines', {token: null, headers: lower})).status).toBe(200)
  })

  it('F25 locks a guesser out and says for how long; a token that was right goes on; time lets a fresh one in', async () => {
    const guess = (n: number) => api.ask('GET', '/v1/machines', {token: `ingot_${String(n).padStart(43, 'A')}`})
    expect((await api.ask('GET', '/v1/machines', {token: api.tokens.view})).status).toBe(200)
    const fresh = (await createToken(api.db, {name: 'fresh', permission: 'view'})).reveal()
    for (let n = 0; n < 10; n++) expectProblem(await guess(n), 401, 'UNAUTHENTICATED')
    const locked = await guess(11)
    expectProblem(locked, 429, 'TOO_MANY_ATTEMPTS')
    expect(Number(locked.headers['retry-after'])).toBeGreaterThan(50)
    expectProblem(await api.ask('GET', '/v1/machines', {token: fresh}), 429, 'TOO_MANY_ATTEMPTS')
    expect((await api.ask('GET', '/v1/machines', {token: api.tokens.view})).status).toBe(200)
    api.skip(61_000)
    expect((await api.ask('GET', '/v1/machines', {token: fresh})).status).toBe(200)
  })

  it('F25 counts no probe without a token', async () => {
    const fresh = (await createToken(api.db, {name: 'after-probes', permission: 'view'})).reveal()
    for (let n = 0; n < 15; n++) expectProblem(await api.ask('GET', '/v1/machines', {token: null}), 401, 'UNAUTHENTICATED')
    expect((await api.ask('GET', '/v1/machines', {token: fresh})).status).toBe(200)
  })

  it('F25 refuses what a page of another site sends, and takes what its own sends', async () => {
    for (const headers of [{origin: 'https://evil.example'}, {'sec-fetch-site': 'cross-site'}, {origin: 'null'}] as Record<
      string,
      string
    >[]) {
      expectProblem(await api.ask('POST', '/v1/machines', {headers, body: {macs: [nextMac()]}}), 403, 'FORBIDDEN')
    }
    const own = {origin: `http://127.0.0.1:${api.port}`, 'sec-fetch-site': 'same-origin'}
    expect((await api.ask('POST', '/v1/machines', {headers: own, body: {macs: [nextMac()]}})).status).toBe(201)
  })
})

describe('problems', () => {
  it('answers an unknown path with 404, and a path that takes other methods with those', async () => {
    expectProblem(await api.ask('GET', '/v1/nothing'), 404, 'NOT_FOUND')
    expectProblem(await api.ask('GET', '/'), 404, 'NOT_FOUND')
    const wrong = await api.ask('DELETE', '/v1/machines')
    expectProblem(wrong, 404, 'NOT_FOUND')
    expect(wrong.headers.allow).toBe('POST, GET')
  })

  it('answers unknown and weird ids with 400 or 404, never with a fault', async () => {
    const unknown = '00000000-0000-4000-8000-000000000000'
    const weird = [
      unknown,
      'no-such',
      '%2F',
      '..%2f..',
      '%00',
      'a%00b',
      '%ff%fe',
      '%',
      '%zz',
      'x'.repeat(5000),
      '%F0%9F%92%A9',
      '__proto__',
      "';--",
      '*',
      '%0d%0a',
    ]
    const paths = [
      ...['', '/actions', '/events', '/evidence', '/explain', '/power'].map(part => (id: string) => `/v1/machines/${id}${part}`),
      (id: string) => `/v1/jobs/${id}`,
      (id: string) => `/v1/jobs?machine=${id}`,
      (id: string) => `/v1/jobs?before=${id}`,
      (id: string) => `/v1/prefixes/${id}`,
      (id: string) => `/v1/addresses/${id}`,
      (id: string) => `/v1/events?machine=${id}`,
      (id: string) => `/v1/events?after=${id}`,
      (id: string) => `/v1/sightings?after=${id}`,
      (id: string) => `/v1/windows?after=${id}`,
      (id: string) => `/v1/machines?mac=${id}`,
    ]
    for (const path of paths) {
      for (const id of weird) {
        const answer = await api.ask('GET', path(id))
        expect([400, 404], `${path(id)} → ${answer.status} ${answer.text}`).toContain(answer.status)
        expect(answer.headers['content-type'], path(id)).toBe('application/problem+json')
      }
    }
    for (const id of weird) {
      for (const [method, path, body] of [
        ['PUT', `/v1/profiles/${id}`, template],
        ['POST', `/v1/machines/${id}/provision`, template],
        ['POST', `/v1/machines/${id}/retire`, undefined],
        ['POST', `/v1/jobs/${id}/cancel`, undefined],
        ['PATCH', `/v1/prefixes/${id}`, {lease_s: 600}],
        ['DELETE', `/v1/allocations/${id}`, undefined],
        ['DELETE', `/v1/windows/${id}`, undefined],
        ['DELETE', `/v1/tokens/${id}`, undefined],
      ] as const) {
        const answer = await api.ask(method, path, {body})
        const fine = path === '/v1/profiles/no-such' || path === `/v1/profiles/${unknown}` ? [200] : [400, 404]
        expect(fine, `${method} ${path} → ${answer.status} ${answer.text}`).toContain(answer.status)
      }
    }
    expect(api.said()).not.toContain('a request failed')
  })

  it('names every field that is wrong, and a field that it does not know by its own name', async () => {
    const body = {macs: ['nonsense', 7], firmware: 'efi', nmae: 'web', labels: {rack: 12}, bmc: {driver: 'ipmi', username: 'x'}}
    const problem = expectProblem(await api.ask('POST', '/v1/machines', {body}), 400, 'INVALID_INPUT')
    expect(problem.errors?.map(error => error.field).toSorted()).toEqual(
      ['bmc.address', 'firmware', 'labels.rack', 'macs.0', 'macs.1', 'nmae'].toSorted(),
    )
    const query = expectProblem(await api.ask('GET', '/v1/machines?limit=9999&sate=failed'), 400, 'INVALID_INPUT')
    expect(query.errors?.map(error => error.field).toSorted()).toEqual(['limit', 'sate'])
    const path = expectProblem(await api.ask('GET', '/v1/addresses/10.1'), 400, 'INVALID_INPUT')
    expect(path.errors?.[0]?.field).toBe('address')
  })

  it('takes an empty selector for an error, not for everything', async () => {
    expectProblem(await api.ask('GET', '/v1/machines?state='), 400, 'INVALID_INPUT')
    expectProblem(await api.ask('GET', '/v1/jobs?machine='), 400, 'INVALID_INPUT')
  })

  it('refuses texts that no database stores, by the name of their field', async () => {
    const mac = nextMac()
    for (const [body, field] of [
      [{macs: [mac], serial: 'a\0b'}, 'serial'],
      [{macs: [mac], labels: {'a\0': 'x'}}, 'labels.a\\0'],
      ['{"macs":["x"],"labels":{"l":"\\ud800"}}', 'labels.l'],
      ['{"macs":["x"],"__proto__":{"name":"x"}}', '__proto__'],
    ] as const) {
      const problem = expectProblem(await api.ask('POST', '/v1/machines', {body}), 400, 'INVALID_INPUT')
      expect(problem.errors?.map(error => error.field)).toContain(field)
    }
    const nul = await api.ask('PUT', '/v1/profiles/nul', {body: {...template, parameters: {deep: [{x: 'a\0'}]}}})
    expect(expectProblem(nul, 400, 'INVALID_INPUT').errors?.[0]?.field).toBe('parameters.deep.0.x')
  })

  it('does not repeat the text of a body that is not JSON', async () => {
    const answer = await api.ask('POST', '/v1/windows', {body: '{"prefix": "x", "bmc": {"password": "hunter2", }'})
    expectProblem(answer, 400, 'INVALID_INPUT')
    expect(answer.text).not.toContain('hunter2')
  })

  it('takes a DMI UUID as firmware has it, whatever RFC 9562 says of its version', async () => {
    const body = {macs: [nextMac()], dmi_uuid: '11111111-2222-0333-0444-000000000001'}
    expect((await api.ask('POST', '/v1/machines', {body})).status).toBe(201)
  })

  it('answers two that declare the same machine at once with one machine and one conflict', async () => {
    for (let round = 0; round < 5; round++) {
      const body = {macs: [nextMac()], name: `twin-${round}`}
      const answers = await Promise.all(Array.from({length: 8}, () => api.ask('POST', '/v1/machines', {body})))
      expect(answers.map(answer => answer.status).toSorted()).toEqual([201, ...Array(7).fill(409)])
    }
  })
})

describe('faults', () => {
  async function askWith(services: Partial<ApiServices>, path: string): Promise<Answer> {
    const server = createApi({...api.services, ...services}, 'x').listen()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
    try {
      return await ask((server.address() as AddressInfo).port, 'GET', path, {token: api.tokens.view})
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }

  const failing = (error: Error) => ({
    inventory: {
      ...api.services.inventory,
      listProfiles: async () => {
        throw error
      },
    },
  })

  it.each([
    ['53100', 507, 'STORAGE_FULL'],
    ['23505', 409, 'CONFLICT'],
    ['23503', 409, 'CONFLICT'],
    ['40P01', 409, 'CONFLICT'],
    ['22P02', 400, 'INVALID_INPUT'],
    ['57014', 503, 'DATABASE_AWAY'],
    ['57P01', 503, 'DATABASE_AWAY'],
    ['42P01', 500, 'INTERNAL'],
  ])('F4 F16 SQLSTATE %s is told as %i %s, without what PostgreSQL quotes of rows', async (code, status, name) => {
    const error = Object.assign(new pg.DatabaseError('refused', 7, 'error'), {code, detail: 'Failing row: (canary-row)'})
    const answer = await askWith(failing(error), '/v1/profiles')
    expectProblem(answer, status, name)
    expect(`${answer.text}${api.said()}`).not.toContain('canary-row')
  })

  it('tells a fault by the number of its log line, and keeps its words to the log', async () => {
    const answer = await askWith(failing(new TypeError('canary: x is not a function')), '/v1/profiles')
    const {request_id} = expectProblem(answer, 500, 'INTERNAL') as {request_id?: string}
    expect(answer.text).not.toContain('canary')
    const line = api
      .said()
      .split('\n')
      .find(text => text.includes(String(request_id)))
    expect(line).toContain('canary: x is not a function')
  })

  it('F2 says that the database is away when it is, also on /healthz', async () => {
    const db = createDb({url: 'postgresql://nobody@127.0.0.1:9/none', applicationName: 'test', log: api.services.log})
    expectProblem(await askWith({db}, '/v1/machines'), 503, 'DATABASE_AWAY')
    const lifecycle = {...api.services.lifecycle, now: () => Promise.reject(new Error('away'))}
    expect(await askWith({lifecycle}, '/healthz')).toMatchObject({status: 503, body: {status: 'database away'}})
    expect(await askWith({}, '/healthz')).toMatchObject({status: 200, body: {status: 'ok'}})
    await db.destroy()
  })
})
