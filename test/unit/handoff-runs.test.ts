/** What is done around every kind: limits, ends, redaction, records. The kinds here are stubs; the programs they start are real. */
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterEach, beforeEach, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {createLog} from '../../lib/log.ts'
import {handoffCause} from '../../services/handoff/causes.ts'
import {DEFAULT_SEARCH_PATH, missingPrograms, scrubbedEnvironment} from '../../services/handoff/environment.ts'
import type {BoundKind, KindOutcome, RunContext} from '../../services/handoff/kinds/kind.ts'
import {processesOf, processIdentity, startProgram} from '../../services/handoff/processes.ts'
import {carryOutRun, type RunSetting} from '../../services/handoff/run.ts'
import {createRunDirs, KEPT_RUNS} from '../../services/handoff/run-dirs.ts'
import {createSlots} from '../../services/handoff/slots.ts'
import {ensureKeyPair} from '../../services/handoff/ssh-key.ts'

const machine = {id: 'm1', name: 'node1', address: '192.0.2.1', sshHostKeys: [], facts: {}, parameters: {}}
let root: string
let setting: RunSetting

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'how-'))
  const log = createLog('handoff', 'silent')
  setting = {
    dir: root,
    keyPath: join(root, 'id_ed25519'),
    searchPath: DEFAULT_SEARCH_PATH,
    log,
    clock: systemClock,
    dirs: createRunDirs({dir: root, log, clock: systemClock}),
    slots: createSlots(2),
  }
})
afterEach(() => rmSync(root, {recursive: true, force: true}))

const kindOf = (run: (context: RunContext) => Promise<KindOutcome>, change: Partial<BoundKind> = {}): BoundKind => ({
  config: {kind: 'stub'},
  timeoutMs: 60_000,
  publicKeys: () => [],
  secrets: () => [],
  run,
  ...change,
})
const carryOut = (bound: BoundKind, runId = 'r1', stop = new AbortController().signal) =>
  carryOutRun(setting, {runId, bound, machine, stop})
const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), {once: true})))

/** Starts a shell script as a kind would, and waits until it wrote a line to the file `up` of its directory. */
const shell = async (context: RunContext, script: string) => {
  const program = startProgram({
    command: 'sh',
    args: ['-c', script],
    env: scrubbedEnvironment(context.runDir, context.searchPath),
    cwd: context.runDir,
    signal: context.signal,
    onOutput: chunk => context.output(chunk),
  })
  await until(() => existsSync(join(context.runDir, 'up')))
  return program
}

describe('a run', () => {
  test('has its own directory, which is gone afterwards', async () => {
    const result = await carryOut(
      kindOf(async ({runDir, kindDir}) => {
        writeFileSync(join(runDir, 'secret'), 'x')
        expect(kindDir).toBe(join(root, 'stub'))
        return {outcome: 'done', summary: {at: 1}}
      }),
    )
    expect(result).toMatchObject({outcome: 'done', summary: {at: 1}})
    expect(result).not.toHaveProperty('cause')
    expect(readdirSync(join(root, 'active'))).toEqual([])
  })

  test('that throws has failed, and its directory is gone too', async () => {
    const result = await carryOut(kindOf(() => Promise.reject(new Error('unforeseen'))))
    expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_INTERNAL', detail: 'unforeseen'}})
    expect(readdirSync(join(root, 'active'))).toEqual([])
  })

  test('that takes too long says where it was', async () => {
    const waiting = kindOf(
      async ({signal}) => {
        await aborted(signal)
        return {outcome: 'aborted', at: 'in the middle', summary: {tasks: 3}}
      },
      {timeoutMs: 20},
    )
    expect(await carryOut(waiting)).toMatchObject({
      outcome: 'failed',
      cause: {code: 'HANDOFF_TIMEOUT', detail: 'not finished after 0.02 s: it was in the middle'},
      summary: {tasks: 3},
    })
  })

  test('that is stopped is called stopped, whatever its kind makes of it', async () => {
    const stop = new AbortController()
    const waiting = kindOf(async ({signal}) => {
      stop.abort()
      await aborted(signal)
      return {outcome: 'failed', cause: handoffCause('HANDOFF_FAILED', 'killed'), summary: {}}
    })
    expect(await carryOut(waiting, 'r1', stop.signal)).toMatchObject({cause: {code: 'HANDOFF_STOPPED'}})
  })

  test('I5 shows no secret and no private key in any part of its result or its record', async () => {
    const secret = 'a-very-secret-text'
    const {privateKeyPath} = ensureKeyPair(setting.keyPath)
    const key = readFileSync(privateKeyPath, 'utf8')
    const result = await carryOut(
      kindOf(
        async context => {
          context.output(`${secret} ${key}`)
          return {outcome: 'failed', cause: handoffCause('HANDOFF_FAILED', `because ${secret}`), summary: {[secret]: [secret]}}
        },
        {secrets: () => [secret]},
      ),
    )
    const kept = join(root, 'kept', 'm1')
    const all = [
      JSON.stringify(result),
      ...readdirSync(kept, {recursive: true, encoding: 'utf8'})
        .filter(name => /\.(json|txt)$/.test(name))
        .map(name => readFileSync(join(kept, name), 'utf8')),
    ]
    expect(all).toHaveLength(3)
    for (const text of all) {
      expect(text).toContain('[redacted]')
      expect(text).not.toContain(secret)
      for (const line of key.split('\n').slice(1, -2)) expect(text).not.toContain(line)
    }
  })

  test(`keeps the records of the last ${KEPT_RUNS} runs of a machine`, async () => {
    for (let number = 1; number <= KEPT_RUNS + 2; number += 1) {
      setting = {...setting, clock: {...systemClock, now: () => new Date(Date.UTC(2030, 0, 1, 0, 0, number))}}
      await carryOut(
        kindOf(async () => ({outcome: 'done', summary: {}})),
        `r${number}`,
      )
    }
    expect(readdirSync(join(root, 'kept', 'm1')).map(name => name.split('-').at(-1))).toEqual(['r3', 'r4', 'r5', 'r6', 'r7'])
  })

  test('waits for its place, and can be stopped while it waits', async () => {
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const begun: number[] = []
    const run = (index: number, stop?: AbortSignal) =>
      carryOut(
        kindOf(async () => {
          begun.push(index)
          await gates[index]?.promise
          return {outcome: 'done', summary: {}}
        }),
        `r${index}`,
        stop,
      )
    const stop = new AbortController()
    const [first, second] = [run(0), run(1)]
    await until(() => begun.length === 2)
    const stopped = run(9, stop.signal)
    const third = run(2)
    stop.abort()
    expect(await stopped).toMatchObject({cause: {code: 'HANDOFF_STOPPED'}})
    expect(begun.toSorted()).toEqual([0, 1])
    gates[0]?.resolve()
    expect(await first).toMatchObject({outcome: 'done'})
    gates[1]?.resolve()
    gates[2]?.resolve()
    expect((await Promise.all([second, third])).map(result => result.outcome)).toEqual(['done', 'done'])
    expect(begun.toSorted()).toEqual([0, 1, 2])
  })
})

describe('what a run starts', () => {
  test('sees nothing of the environment of Ingot', async () => {
    process.env.HANDOFF_CANARY = 'seen'
    const result = await carryOut(
      kindOf(async context => {
        const program = await shell(context, 'env; touch up')
        expect(await program.ended).toEqual({code: 0, signal: null})
        return {outcome: 'done', summary: {}}
      }),
    )
    delete process.env.HANDOFF_CANARY
    const names = result.outputTail
      .trim()
      .split('\n')
      .map(line => line.split('=')[0])
    expect(names.filter(name => !['PWD', 'SHLVL', '_', 'OLDPWD'].includes(name!)).sort()).toEqual([
      'HOME',
      'INGOT_HANDOFF_RUN',
      'LANG',
      'LC_ALL',
      'PATH',
      'TMPDIR',
    ])
  })

  test('ends with it: children that ignore the signal, daemons, and those with another environment', async () => {
    const stop = new AbortController()
    const script = `
      trap '' TERM
      sh -c 'trap "" TERM; echo $$ > ignoring; ${loop()}' &
      setsid sh -c 'echo $$ > daemon; ${loop()}' &
      setsid sh -c 'env -i sh -c "echo \\$\\$ > stray; ${loop()}" & ${loop()}' &
      until [ -s ignoring ] && [ -s daemon ] && [ -s stray ]; do sleep 0.05; done
      touch up
      ${loop()}`
    let pids: number[] = []
    const result = await carryOut(
      kindOf(async context => {
        const program = await shell(context, script)
        pids = ['ignoring', 'daemon', 'stray'].map(name => Number(readFileSync(join(context.runDir, name), 'utf8')))
        expect(pids.map(pid => processIdentity(pid))).not.toContain(undefined)
        stop.abort()
        await program.ended
        return {outcome: 'aborted', at: 'x', summary: {}}
      }),
      'r1',
      stop.signal,
    )
    expect(result.cause?.code).toBe('HANDOFF_STOPPED')
    expect(pids.filter(pid => processIdentity(pid) !== undefined)).toEqual([])
    expect(processesOf(join(root, 'active', 'r1'))).toEqual([])
  })

  test('is signalled as a group', async () => {
    const stop = new AbortController()
    const program = startProgram({
      command: 'sh',
      args: ['-c', `sh -c 'echo $$ > child; ${loop()}' & ${loop()}`],
      env: {PATH: DEFAULT_SEARCH_PATH},
      cwd: root,
      signal: stop.signal,
      onOutput: () => expect.unreachable(),
    })
    const pidFile = join(root, 'child')
    await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '')
    const child = Number(readFileSync(pidFile, 'utf8'))
    expect(processIdentity(child)).toBeDefined()
    stop.abort()
    expect(await program.ended).toEqual({code: null, signal: 'SIGTERM'})
    await until(() => processIdentity(child) === undefined)
  })

  test('does not hold the run up by keeping its output open', async () => {
    const result = await carryOut(
      kindOf(async context => {
        const program = await shell(context, `setsid sh -c '${loop()}' & echo said; touch up`)
        expect(await program.ended).toMatchObject({code: 0})
        return {outcome: 'done', summary: {}}
      }),
    )
    expect(result).toMatchObject({outcome: 'done', outputTail: 'said\n'})
  })

  test('that cannot be started is said so', async () => {
    const end = await startProgram({
      command: join(root, 'absent'),
      args: [],
      env: {},
      cwd: root,
      signal: new AbortController().signal,
      onOutput: () => expect.unreachable(),
    }).ended
    expect(end.fault?.message).toContain('ENOENT')
  })

  test('reads a held input until it is released', async () => {
    let heard = ''
    const program = startProgram({
      command: 'cat',
      args: [],
      env: {PATH: DEFAULT_SEARCH_PATH},
      cwd: root,
      signal: new AbortController().signal,
      input: 'held',
      onOutput: chunk => {
        heard += chunk
      },
    })
    program.release()
    expect(await program.ended).toEqual({code: 0, signal: null})
    expect(heard).toBe('')
  })
})

describe('reclaiming', () => {
  test('leaves alone what belongs to a living process and removes the rest', async () => {
    const living = await setting.dirs.open('living')
    mkdirSync(join(root, 'active', 'unowned'))
    mkdirSync(join(root, 'active', 'dead'))
    writeFileSync(join(root, 'active', 'dead.owner'), `${process.pid} 1`)
    expect((await setting.dirs.reclaim()).sort()).toEqual(['dead', 'unowned'])
    expect(readdirSync(join(root, 'active')).sort()).toEqual(['living', 'living.owner'])
    await setting.dirs.close(living)
    expect(readdirSync(join(root, 'active'))).toEqual([])
  })

  test('a run that another living process has in hands is not taken from it', async () => {
    mkdirSync(join(root, 'active', 'r1'), {recursive: true})
    writeFileSync(join(root, 'active', 'r1.owner'), processIdentity(process.ppid)!)
    const result = await carryOut(kindOf(async () => ({outcome: 'done', summary: {}})))
    expect(result).toMatchObject({cause: {code: 'HANDOFF_INTERNAL', detail: `run r1 is in the hands of process ${process.ppid}`}})
    expect(existsSync(join(root, 'active', 'r1'))).toBe(true)
  })
})

test('programs that are missing are named', () => {
  writeFileSync(join(root, 'not-executable'), '', {mode: 0o644})
  mkdirSync(join(root, 'a-folder'))
  writeFileSync(join(root, 'present'), '', {mode: 0o755})
  expect(missingPrograms(['present', 'absent', 'not-executable', 'a-folder'], `/nowhere:${root}`)).toEqual([
    ...['absent', 'not-executable', 'a-folder'],
  ])
})

/** Shell text that goes on for as long as the test's directory is there. */
function loop(): string {
  return `while [ -d ${root} ]; do sleep 0.05; done`
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${holds}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
