/** What must not be seen: secrets go in and never come out; and who may make the control host run something. */
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import type {AnsibleInventory} from '../../services/handoff/index.ts'
import {type Answer, type ApiWorld, createApiWorld} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
})
afterAll(() => api.close())

const CANARY = {
  bmc: 'canary-bmc-Zq81',
  window: 'canary-win-Yp72',
  extra: 'canary-extra-Xo63',
  playbook: 'canary-play-Wn54',
  program: 'canary-prog-Vm45',
}
const ansible = {
  kind: 'ansible',
  playbook_yaml: `- hosts: all\n  vars:\n    secret: ${CANARY.playbook}\n  tasks: []\n`,
  extra_vars: {password: CANARY.extra},
}
const program = {name: 'join', body: `#!/bin/sh\njoin ${CANARY.program}\n`}
const install = {template: 'debian/12', image: 'debian-12'}
const profile = {...install, parameters: {user_data: [program]}, handoff: ansible}

/** Every GET there is, with what it needs to answer well. */
async function everything(token: string, machineId: string): Promise<Answer[]> {
  const jobs = (await api.ask('GET', '/v1/jobs?limit=500', {token})).body.items as {id: string}[]
  const paths = [
    '/v1/machines',
    ...['', '/events', '/evidence?limit=500', '/explain', '/actions', '/power'].map(part => `/v1/machines/${machineId}${part}`),
    '/v1/jobs',
    ...jobs.map(job => `/v1/jobs/${job.id}`),
    ...['/v1/windows', '/v1/sightings', '/v1/prefixes', '/v1/images', '/v1/events?limit=500', '/v1/ansible-inventory'],
    ...['/v1/openapi.json', '/metrics', '/healthz'],
  ]
  const answers = await Promise.all(paths.map(path => api.ask('GET', path, {token})))
  for (const [index, answer] of answers.entries()) expect(answer.status, `${paths[index]}: ${answer.text}`).toBe(200)
  return answers
}

describe('secrets', () => {
  it('F24 shows no credential, playbook, variable or token in any answer, event or log line', async () => {
    const machine = await api.world.declare('52:54:00:ee:00:01')
    const name = machine.name
    const changes: Answer[] = [
      await api.ask('PUT', `/v1/machines/${name}/bmc`, {
        body: {driver: 'ipmi', address: '127.0.0.1', username: 'root', password: CANARY.bmc},
        headers: {'idempotency-key': 'bmc'},
      }),
      await api.ask('POST', '/v1/windows', {
        body: {prefix: '127.0.0.0/16', bmc: {username: 'root', password: CANARY.window}},
        headers: {'idempotency-key': 'window'},
      }),
      // What is refused must not come back either.
      await api.ask('PUT', `/v1/machines/${name}/bmc`, {body: {driver: 'manual', password: CANARY.bmc}}),
      await api.ask('PUT', `/v1/machines/${name}/bmc`, {
        body: {driver: 'ipmi', address: '127.0.0.1', password: `${CANARY.bmc}-too-long`},
      }),
      await api.ask('POST', '/v1/windows', {body: {prefix: 'x', bmc: {password: CANARY.window}}}),
      await api.ask('PUT', '/v1/profiles/broken', {
        body: {...profile, handoff: {...ansible, extra_vars: {ansible_host: CANARY.extra}}},
      }),
      await api.ask('POST', `/v1/machines/${name}/inspect`),
    ]
    expect(changes.map(answer => answer.status)).toEqual([200, 201, 400, 400, 400, 400, 202])
    await api.world.settled((changes[6]!.body.job as {id: string}).id)
    const clean = await api.ask('POST', `/v1/machines/${name}/clean`)
    await api.world.settled((clean.body.job as {id: string}).id)
    expect((await api.ask('PUT', '/v1/profiles/web', {body: profile})).status).toBe(200)
    const provision = await api.ask('POST', `/v1/machines/${name}/provision`, {body: {profile: 'web', handoff: {kind: 'none'}}})
    expect(provision.status, provision.text).toBe(202)
    expect((await api.world.settled((provision.body.job as {id: string}).id)).job.state).toBe('succeeded')

    const answers = [...changes, clean, provision]
    for (const permission of ['view', 'operate', 'administer'] as const)
      answers.push(...(await everything(api.tokens[permission], machine.id)))
    const seen = `${answers.map(answer => answer.text).join('\n')}\n${api.said()}`
    for (const canary of [...Object.values(CANARY), ...Object.values(api.tokens)]) expect(seen).not.toContain(canary)
    const stored = await api.db.selectFrom('idempotency_keys').selectAll().execute()
    expect(stored.length).toBeGreaterThan(1)
    for (const canary of Object.values(CANARY)) expect(JSON.stringify(stored)).not.toContain(canary)
  })

  it('shows `view` that a profile has parameters and a handoff, but no value of them', async () => {
    expect((await api.ask('PUT', '/v1/profiles/shown', {body: profile})).status).toBe(200)
    const shown = async (token: string) =>
      ((await api.ask('GET', '/v1/profiles', {token})).body.items as {name: string}[]).find(row => row.name === 'shown')
    expect(await shown(api.tokens.view)).toMatchObject({
      parameters: {user_data: '[hidden]'},
      handoff: {kind: 'ansible', extra_vars: '[hidden]', playbook_yaml: '[hidden]'},
    })
    expect(JSON.stringify(await shown(api.tokens.view))).not.toContain('canary')
    expect(await shown(api.tokens.operate)).toMatchObject({parameters: {user_data: [program]}, handoff: {extra_vars: '[hidden]'}})
    expect(await shown(api.tokens.administer)).toMatchObject({handoff: ansible})
  })

  it('stores no answer that shows a token: a repetition under its key tells that it was shown', async () => {
    const headers = {'idempotency-key': 'make-token'}
    const body = {name: 'robot', permission: 'view'}
    const first = await api.ask('POST', '/v1/tokens', {headers, body})
    const token = String(first.body.token)
    expect(token).toMatch(/^ingot_[\w-]{43}$/)
    const again = await api.ask('POST', '/v1/tokens', {headers, body})
    expect(again).toMatchObject({status: 201, body: {id: first.body.id, token: null}})
    const stored = JSON.stringify(await api.db.selectFrom('idempotency_keys').selectAll().execute())
    expect(stored).not.toContain(token)
    expect((await api.ask('GET', '/v1/tokens')).text).not.toContain(token)
  })

  it('stores of a request under a key only what cannot be guessed back without its token', async () => {
    const {createHash} = await import('node:crypto')
    const machine = await api.world.declare('52:54:00:ee:00:02', {silent: true})
    const path = `/v1/machines/${machine.id}/bmc`
    const body = '{"driver":"ipmi","address":"127.0.0.1","password":"1234"}'
    await api.ask('PUT', path, {body, headers: {'idempotency-key': 'weak'}})
    const {request_hash} = await api.db
      .selectFrom('idempotency_keys')
      .selectAll()
      .where('key', '=', 'weak')
      .executeTakeFirstOrThrow()
    for (const text of [body, `put ${path}\n${body}`])
      expect(request_hash.equals(createHash('sha256').update(text).digest())).toBe(false)
  })
})

describe('handoffs', () => {
  const operate = () => api.tokens.operate

  it('lets only an administrator write a profile or a provision whose handoff runs something', async () => {
    const machine = await api.world.declare('52:54:00:ee:00:03', {silent: true})
    for (const handoff of [ansible, {kind: 'ansible', playbook: 'site.yml'}, {kind: 'webhook', url: 'http://x'}]) {
      const written = await api.ask('PUT', '/v1/profiles/theirs', {token: operate(), body: {...install, handoff}})
      expect([400, 403], written.text).toContain(written.status)
      const asked = await api.ask('POST', `/v1/machines/${machine.id}/provision`, {token: operate(), body: {...install, handoff}})
      expect(asked).toMatchObject({status: 403, body: {code: 'FORBIDDEN', detail: expect.stringContaining("'administer'")}})
    }
    const written = await api.ask('PUT', '/v1/profiles/theirs', {token: operate(), body: {...install, handoff: ansible}})
    expect(written).toMatchObject({status: 403, body: {code: 'FORBIDDEN'}})
    for (const handoff of [undefined, {kind: 'none'}])
      expect((await api.ask('PUT', '/v1/profiles/theirs', {token: operate(), body: {...install, handoff}})).status).toBe(200)
  })

  it('keeps what an administrator handed over from being written over by somebody who may not', async () => {
    await api.ask('PUT', '/v1/profiles/kept', {body: {...install, handoff: ansible}})
    expect((await api.ask('PUT', '/v1/profiles/kept', {token: operate(), body: install})).status).toBe(403)
    const {handoff} = ((await api.ask('GET', '/v1/profiles')).body.items as {name: string; handoff: unknown}[]).find(
      row => row.name === 'kept',
    )!
    expect(handoff).toMatchObject(ansible)
  })

  it('complains of a handoff when its profile is written, by the name of the field', async () => {
    const body = {...install, handoff: {kind: 'ansible', playbook: '../site.yml', extra_vars: {ansible_host: 'x'}}}
    const answer = await api.ask('PUT', '/v1/profiles/wrong', {body})
    expect(answer).toMatchObject({status: 400, body: {code: 'INVALID_INPUT'}})
    expect(answer.body.errors?.map(error => error.field).toSorted()).toEqual([
      'handoff.extra_vars.ansible_host',
      'handoff.playbook',
    ])
  })
})

describe('the Ansible inventory', () => {
  it('lists active machines with their host address, grouped by profile and label, facts inert, parameters left out', async () => {
    const declared = await api.ask('POST', '/v1/machines', {
      body: {macs: ['52:54:00:ee:00:04'], name: 'inv1', labels: {rack: 'R-1'}, bmc: {driver: 'ipmi', address: '127.0.0.1'}},
    })
    const id = String(declared.body.id)
    api.world.machines.set(id, {mac: '52:54:00:ee:00:04' as never, behaviour: {}, on: false, boots: 0, journal: []})
    await api.ask('PUT', '/v1/profiles/inv', {body: {...install, parameters: {user_data: [program]}}})
    await api.ask('POST', '/v1/prefixes', {body: {cidr: '10.92.0.0/24'}})
    for (const [verb, body] of [
      ['inspect', undefined],
      ['clean', undefined],
      ['provision', {profile: 'inv', prefix: '10.92.0.0/24'}],
    ] as const) {
      const answer = await api.ask('POST', `/v1/machines/inv1/${verb}`, {body})
      expect(answer.status, answer.text).toBe(202)
      expect((await api.world.settled((answer.body.job as {id: string}).id)).job.state).toBe('succeeded')
    }
    await api.world.declare('52:54:00:ee:00:05', {silent: true})
    const answer = await api.ask('GET', '/v1/ansible-inventory', {token: api.tokens.view})
    const inventory = answer.body as unknown as AnsibleInventory
    const {inv1} = inventory._meta.hostvars
    expect(inv1).toMatchObject({
      ansible_host: expect.stringMatching(/^10\.92\.0\./),
      ansible_user: 'root',
      ingot: {id, parameters: {}},
    })
    expect(JSON.stringify(inv1)).toContain('{"__ansible_unsafe":"6.1"}')
    expect(inventory.inv).toEqual({hosts: ['inv1']})
    expect(inventory.rack_r_1).toEqual({hosts: ['inv1']})
    expect(Object.keys(inventory._meta.hostvars)).not.toContain('node-525400ee0005')
    expect((await api.ask('GET', '/v1/ansible-inventory', {token: null})).status).toBe(401)
  })
})
