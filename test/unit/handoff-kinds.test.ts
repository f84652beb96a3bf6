/** What must hold for every handoff kind in the registry. */
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs'
import {createServer} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterEach, beforeEach, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {createLog} from '../../lib/log.ts'
import {
  createHandoff,
  HANDOFF_CAUSES,
  type Handoff,
  type HandoffMachine,
  type HandoffResult,
} from '../../services/handoff/index.ts'
import {HANDOFF_KINDS} from '../../services/handoff/kinds/registry.ts'
import {processesOf} from '../../services/handoff/processes.ts'

let root: string
let handoff: Handoff
let machine: HandoffMachine

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'how-'))
  mkdirSync(join(root, 'no-programs'))
  const log = createLog('handoff', 'silent')
  handoff = createHandoff({dir: join(root, 'handoff'), log, clock: systemClock, searchPath: join(root, 'no-programs')})
  machine = {id: 'm1', name: 'node1', address: '127.0.0.1', port: await closedPort(), sshHostKeys: [], facts: {}, parameters: {}}
})
afterEach(() => rmSync(root, {recursive: true, force: true}))

test('names of kinds are plain and used once', () => {
  const names = HANDOFF_KINDS.map(kind => kind.kind)
  expect(new Set(names).size).toBe(names.length)
  for (const name of names) expect(name).toMatch(/^[a-z][a-z0-9_]*$/)
})

test('the names of directories that every run uses are not names of kinds', () => {
  expect(HANDOFF_KINDS.map(kind => kind.kind).filter(name => ['active', 'kept', 'id_ed25519'].includes(name))).toEqual([])
})

describe.each(HANDOFF_KINDS.map(kind => [kind.kind, kind] as const))('the kind %s', (name, kind) => {
  test('says in a line what it does', () => {
    expect(kind.about).toMatch(/^[^\n]{10,120}\.$/)
  })

  test('takes its own example, and what validation gave passes again unchanged, also through JSON', () => {
    expect(kind.example.kind).toBe(name)
    const valid = handoff.validate(kind.example)
    expect(handoff.validate(JSON.parse(JSON.stringify(valid)))).toEqual(valid)
  })

  test('names a field that it does not know', () => {
    expect(() => handoff.validate({...kind.example, surely_unknown: 1})).toThrow(
      expect.objectContaining({code: 'INVALID_INPUT', errors: [expect.objectContaining({field: 'surely_unknown'})]}),
    )
  })

  test('has a time limit', () => {
    const bound = kind.bind(kind.example)
    expect('bound' in bound && bound.bound.timeoutMs).toBeGreaterThan(0)
    expect('bound' in bound && bound.bound.timeoutMs).toBeLessThanOrEqual(86_400_000)
  })

  test('asks for well-formed public keys, the same each time', () => {
    const keys = handoff.publicKeys(kind.example)
    for (const key of keys) expect(key).toMatch(/^(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}( [^\s]+)?$/)
    expect(handoff.publicKeys(kind.example)).toEqual(keys)
  })

  test('without its programs, its files or a machine it ends with a cause from the table, and leaves nothing', async () => {
    const result = await start(kind.example).done
    expectWellFormed(result)
    expectNothingActive()
  })

  test('stopped before it begins it runs nothing', async () => {
    const result = await start(kind.example, AbortSignal.abort()).done
    expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_STOPPED'}, outputTail: ''})
    expectWellFormed(result)
    expectNothingActive()
  })

  test('a run under an id that goes on is that same run', async () => {
    const first = start(kind.example)
    expect(start(kind.example)).toBe(first)
    expect(handoff.running()).toEqual(['r1'])
    await handoff.stop('r1')
    expect(handoff.running()).toEqual([])
    expectWellFormed(await first.done)
  })

  test('keeps a record without its configuration', async () => {
    await start(kind.example).done
    const kept = join(root, 'handoff', 'kept', 'm1')
    const [only] = readdirSync(kept)
    expect(readdirSync(join(kept, only!)).sort()).toEqual(['output.txt', 'result.json'])
    const record = JSON.parse(readFileSync(join(kept, only!, 'result.json'), 'utf8'))
    expect(record).toMatchObject({run_id: 'r1', kind: name, machine: {id: 'm1', name: 'node1'}})
    expect(Object.keys(record)).not.toContain('config')
  })
})

function start(config: unknown, signal?: AbortSignal) {
  return handoff.start({runId: 'r1', config, machine, ...(signal ? {signal} : {})})
}

function expectWellFormed(result: HandoffResult): void {
  expect(result.finishedAt.getTime()).toBeGreaterThanOrEqual(result.startedAt.getTime())
  expect(JSON.parse(JSON.stringify(result.summary))).toEqual(result.summary)
  expect(result.cause === undefined).toBe(result.outcome === 'done')
  if (result.outcome === 'done') return
  expect(Object.keys(HANDOFF_CAUSES)).toContain(result.cause?.code)
  expect(result.cause?.code).not.toBe('HANDOFF_INTERNAL')
  expect(result.cause?.detail).not.toBe('')
  expect(result.cause?.mend).not.toBe('')
}

function expectNothingActive(): void {
  const active = join(root, 'handoff', 'active')
  if (existsSync(active)) expect(readdirSync(active)).toEqual([])
  expect(processesOf(join(active, 'r1'))).toEqual([])
}

function closedPort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const {port} = server.address() as {port: number}
      server.close(() => resolve(port))
    })
  })
}
