import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {type ApiWorld, createApiWorld} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
})
afterAll(() => api.close())

const CANARIES = {
  parameter: 'canary-parameter-7f3a',
  program: '#!/bin/sh\nexport DB_PASSWORD=canary-program-91bc\n',
  variable: 'canary-variable-55de',
  fact: 'canary-fact-password-e0',
}

/** Names and contents of an archive that is text throughout (POSIX.1-1988 §10.1.1). */
function untar(text: string): Map<string, string> {
  const bytes = Buffer.from(text, 'utf8')
  const files = new Map<string, string>()
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const field = (from: number, length: number) => bytes.toString('latin1', at + from, at + from + length).replace(/\0.*$/s, '')
    const size = Number.parseInt(field(124, 12), 8)
    files.set(field(0, 100), bytes.toString('utf8', at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  return files
}

describe('a bundle', () => {
  it('holds history, evidence, rendered files, logs and versions of a job that failed, and none of the canaries', async () => {
    const {world} = api
    const machine = await world.declare('52:54:00:b3:00:01', {fails: {cause: 'WRITE_FAILED', detail: 'sector 7'}})
    await world.place(machine.id, 'available')
    const asked = await api.ask('POST', `/v1/machines/${machine.id}/provision`, {
      token: api.tokens.administer,
      body: {
        template: 'debian/12',
        image: 'debian-12',
        hostname: 'web01',
        parameters: {note: CANARIES.parameter, user_data: [{name: 'p', body: CANARIES.program}]},
        handoff: {kind: 'ansible', playbook: 'site.yml', extra_vars: {colour: CANARIES.variable}},
      },
    })
    expect(asked.status).toBe(202)
    const jobId = (asked.body.job as {id: string}).id
    const {job} = await world.settled(jobId)
    // What a machine or a person wrote elsewhere that is the same secret, and what looks like one.
    const about = {source: 'ramdisk', machineId: machine.id, jobId, fence: job.fence}
    await world.evidence.recordAll([
      {
        ...about,
        at: new Date(),
        kind: 'ramdisk_log',
        detail: {lines: [`argument ${CANARIES.parameter}`, `ingot.token=a.${job.fence}.install.${'x'.repeat(43)}`]},
      },
      {...about, at: new Date(), kind: 'progress', detail: {root_password: CANARIES.fact, said: `run with ${CANARIES.variable}`}},
    ])
    for (const path of [`/v1/machines/${machine.id}/bundle`, `/v1/jobs/${jobId}/bundle`]) {
      const {status, text, headers} = await api.ask('GET', path, {token: api.tokens.operate})
      expect(status).toBe(200)
      expect(headers['content-type']).toContain('application/x-tar')
      const files = untar(text)
      const folder = `jobs/${jobId.slice(0, 8)}`
      expect([...files.keys()]).toEqual(
        expect.arrayContaining([
          'README.txt',
          'versions.json',
          'machine.json',
          'events.json',
          'evidence.json',
          'explain.json',
          `${folder}/job.json`,
        ]),
      )
      expect(files.get(`${folder}/files/etc/hostname`)).toBe('web01\n')
      expect(files.get(`${folder}/files/etc/ingot/first-boot.conf`)).toMatch(/^\[cut\]: \d+ characters, mode 600/)
      expect(JSON.parse(files.get(`${folder}/job.json`)!)).toMatchObject({state: 'failed', cause: {code: 'WRITE_FAILED'}})
      expect(JSON.parse(files.get('versions.json')!)).toMatchObject({
        ingot: '0.0.0-test',
        postgresql: expect.stringContaining('PostgreSQL'),
      })
      expect(JSON.parse(files.get('evidence.json')!).map((row: {kind: string}) => row.kind)).toEqual(
        expect.arrayContaining(['claimed', 'failed', 'progress']),
      )
      const log = [...files].find(([name]) => name.startsWith('console/ramdisk-'))?.[1]
      expect(log).toBe('argument [cut]\ningot.token=[cut]\n')
      for (const canary of [...Object.values(CANARIES), 'canary-program-91bc', 'x'.repeat(43)]) expect(text).not.toContain(canary)
      for (const token of Object.values(api.tokens)) expect(text).not.toContain(token)
    }
    expect((await api.ask('GET', `/v1/machines/${machine.id}/bundle`, {token: api.tokens.view})).status).toBe(403)
  })
})
