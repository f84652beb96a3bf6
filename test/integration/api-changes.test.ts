/** Changes that happen once and starve nobody, and every list to its end. */
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {withTx} from '../../lib/db.ts'
import {type ApiWorld, createApiWorld, expectProblem} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
})
afterAll(() => api.close())

let macs = 0
function nextMac(): string {
  macs++
  return `52:54:00:ac:${(macs >> 8).toString(16).padStart(2, '0')}:${(macs & 255).toString(16).padStart(2, '0')}`
}

describe('changes', () => {
  it('does 16 at once on a pool of 4 connections without starving it', async () => {
    const declared = await Promise.all(
      Array.from({length: 16}, () => api.ask('POST', '/v1/machines', {body: {macs: [nextMac()]}})),
    )
    expect(declared.map(answer => answer.status)).toEqual(Array(16).fill(201))
    const prefix = encodeURIComponent('127.0.0.0/16')
    const allocated = await Promise.all(
      declared.map(({body}) =>
        api.ask('POST', `/v1/prefixes/${prefix}/allocations`, {body: {for: {kind: 'machine', name: String(body.name)}}}),
      ),
    )
    expect(allocated.map(answer => answer.status)).toEqual(Array(16).fill(201))
    expect(new Set(allocated.map(answer => answer.body.address)).size).toBe(16)
  })

  it('gives the same key the same answer, byte for byte, and makes one job of 16 posts at once', async () => {
    const machine = await api.world.declare(nextMac(), {silent: true})
    const headers = {'idempotency-key': 'one-inspection'}
    const answers = await Promise.all(
      Array.from({length: 16}, () => api.ask('POST', `/v1/machines/${machine.id}/inspect`, {headers})),
    )
    expect(answers.map(answer => answer.status)).toEqual(Array(16).fill(202))
    expect(new Set(answers.map(answer => answer.text)).size).toBe(1)
    expect(new Set(answers.map(answer => answer.headers.location)).size).toBe(1)
    expect(answers.filter(answer => answer.headers['idempotent-replay'] === 'true')).toHaveLength(15)
    const jobs = await api.ask('GET', `/v1/jobs?machine=${machine.id}`)
    expect(jobs.body.items).toHaveLength(1)
    const other = await api.ask('POST', `/v1/machines/${machine.id}/clean`, {headers})
    expectProblem(other, 422, 'IDEMPOTENCY_MISMATCH')
    const id = (answers[0]!.body.job as {id: string}).id
    expect((await api.ask('POST', `/v1/jobs/${id}/cancel`)).status).toBe(202)
    await api.world.settled(id)
  })

  it('refuses a key with another body, keeps keys of tokens apart, and leaves the key of a refused change free', async () => {
    const headers = {'idempotency-key': 'declare-1'}
    const body = {macs: [nextMac()]}
    const first = await api.ask('POST', '/v1/machines', {headers, body})
    expect(first.status).toBe(201)
    expectProblem(await api.ask('POST', '/v1/machines', {headers, body: {macs: [nextMac()]}}), 422, 'IDEMPOTENCY_MISMATCH')
    const another = await api.ask('POST', '/v1/machines', {headers, body: {macs: [nextMac()]}, token: api.tokens.operate})
    expect(another.status).toBe(201)
    const free = {'idempotency-key': 'refused-first'}
    const name = `late-${macs}`
    const path = `/v1/machines/${name}/retire`
    expectProblem(await api.ask('POST', path, {headers: free}), 404, 'NOT_FOUND')
    await api.ask('POST', '/v1/machines', {body: {macs: [nextMac()], name}})
    expect((await api.ask('POST', path, {headers: free})).status).toBe(204)
    expect((await api.ask('POST', path, {headers: free})).status).toBe(204)
    for (const key of ['', 'a b', 'x'.repeat(201)])
      expectProblem(await api.ask('POST', path, {headers: {'idempotency-key': key}}), 400, 'INVALID_INPUT')
  })

  it('takes `{}` or nothing for a change without words, and nothing else', async () => {
    const machine = await api.world.declare(nextMac(), {silent: true})
    const problem = await api.ask('POST', `/v1/machines/${machine.id}/retire`, {body: {force: true}})
    expect(expectProblem(problem, 400, 'INVALID_INPUT').errors?.[0]?.field).toBe('force')
    expect((await api.ask('POST', `/v1/machines/${machine.id}/retire`, {body: {}})).status).toBe(204)
  })

  it('changes what a prefix’s machines are told, and refuses to change nothing', async () => {
    const made = await api.ask('POST', '/v1/prefixes', {body: {cidr: '10.91.0.0/24', gateway: '10.91.0.1', cool_down_s: 600}})
    expect(made).toMatchObject({status: 201, body: {cool_down_s: 600}})
    const changed = await api.ask('PATCH', `/v1/prefixes/${made.body.id}`, {body: {gateway: '10.91.0.254', lease_s: 900}})
    expect(changed).toMatchObject({status: 200, body: {gateway: '10.91.0.254', lease_s: 900, cool_down_s: 600}})
    expectProblem(await api.ask('PATCH', `/v1/prefixes/${made.body.id}`, {body: {}}), 400, 'INVALID_INPUT')
    const wrong = await api.ask('PATCH', `/v1/prefixes/${made.body.id}`, {body: {gateway: '10.92.0.1'}})
    expect(expectProblem(wrong, 400, 'INVALID_INPUT').errors?.[0]?.field).toBe('gateway')
  })
})

describe('lists', () => {
  async function walk(path: string, cursor: string): Promise<Record<string, unknown>[]> {
    const found: Record<string, unknown>[] = []
    for (let next: string | null = ''; next !== null; ) {
      const at: string = next === '' ? '' : `&${cursor}=${encodeURIComponent(next)}`
      const answer = await api.ask('GET', `${path}${at}`)
      expect(answer.status, answer.text).toBe(200)
      found.push(...(answer.body.items as Record<string, unknown>[]))
      next = answer.body.next as string | null
      expect(found.length).toBeLessThan(5000)
    }
    return found
  }

  it('walks machines to the end, each once, whatever the page', async () => {
    await Promise.all(Array.from({length: 11}, () => api.ask('POST', '/v1/machines', {body: {macs: [nextMac()]}})))
    const all = await walk('/v1/machines?limit=500', 'after')
    for (const limit of [1, 3, 7, all.length]) {
      const ids = (await walk(`/v1/machines?limit=${limit}`, 'after')).map(row => row.id)
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids).toEqual(all.map(row => row.id))
    }
  })

  it('walks jobs of one and the same millisecond to the end, each once', async () => {
    const machines = await Promise.all(Array.from({length: 9}, () => api.world.declare(nextMac(), {silent: true})))
    const jobs = await Promise.all(
      machines.map(machine => withTx(api.world.db, tx => api.world.lifecycle.inspect(tx, machine.id, 'test'))),
    )
    await api.world.db
      .updateTable('jobs')
      .set({created_at: new Date('2020-01-01T00:00:00Z') as never})
      .where(
        'id',
        'in',
        jobs.map(job => job.id),
      )
      .execute()
    const all = (await walk('/v1/jobs?limit=500', 'before')).map(row => row.id)
    for (const limit of [1, 2, 4]) {
      const ids = (await walk(`/v1/jobs?limit=${limit}`, 'before')).map(row => row.id)
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids.toSorted()).toEqual(all.toSorted())
    }
    for (const job of jobs) await withTx(api.world.db, tx => api.world.lifecycle.cancel(tx, job.id, 'test'))
    for (const job of jobs) await api.world.settled(job.id)
  })

  it('walks sightings of one MAC on several circuits, and windows, to the end, each once', async () => {
    const {world} = api
    const sightings = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'].flatMap(mac =>
      ['a', 'b', 'c', 'd'].map(circuit => ({
        mac: mac as never,
        prefixId: world.prefix.id,
        circuit,
        lastSeen: new Date(),
        packets: 1,
      })),
    )
    await world.inventory.recordSightings(sightings)
    const seen = (await walk('/v1/sightings?limit=2', 'after')).map(row => `${row.mac} ${row.circuit}`)
    expect(seen.toSorted()).toEqual(sightings.map(row => `${row.mac} ${row.circuit}`).toSorted())
    const windows = []
    for (let n = 0; n < 5; n++)
      windows.push((await api.ask('POST', '/v1/windows', {body: {prefix: world.prefix.id, minutes: 1}})).body.id)
    expect((await walk('/v1/windows?limit=2', 'after')).map(row => row.id)).toEqual(windows.toReversed())
    for (const id of windows) expect((await api.ask('DELETE', `/v1/windows/${id}`)).status).toBe(204)
  })

  it('filters machines by state and MAC together', async () => {
    const mac = nextMac()
    const {body} = await api.ask('POST', '/v1/machines', {body: {macs: [mac]}})
    expect((await walk(`/v1/machines?state=discovered,enrolled&mac=${mac}`, 'after')).map(row => row.id)).toEqual([body.id])
    expect(await walk(`/v1/machines?state=active&mac=${mac}`, 'after')).toEqual([])
  })
})
