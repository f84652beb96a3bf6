/**
 * One run from start to result, the same for every kind: a place, a directory, the time limit, the kind's own work, the certain end of
 * all its processes, redaction, and a record for diagnosis.
 */
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import type {Clock} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {type HandoffCause, handoffCause} from './causes.ts'
import type {BoundKind, KindOutcome} from './kinds/kind.ts'
import {createOutputTail} from './output.ts'
import {createRedactor} from './redact.ts'
import type {HandoffMachine, HandoffResult} from './result.ts'
import type {RunDirs} from './run-dirs.ts'
import type {Slots} from './slots.ts'
import {ensureKeyPair, type KeyPair} from './ssh-key.ts'

export type RunSetting = {
  readonly dir: string
  readonly keyPath: string
  readonly searchPath: string
  readonly log: Log
  readonly clock: Clock
  readonly dirs: RunDirs
  readonly slots: Slots
}

export type RunOrder = {
  readonly runId: string
  readonly bound: BoundKind
  readonly machine: HandoffMachine
  /** Aborts when somebody stops the run. */
  readonly stop: AbortSignal
}

/** Never rejects: whatever goes wrong is the result's cause. */
export async function carryOutRun(setting: RunSetting, order: RunOrder): Promise<HandoffResult> {
  const {clock, log, slots} = setting
  const about = {run: order.runId, machine: order.machine.id}
  let startedAt = clock.now()
  let result: HandoffResult
  try {
    const giveBack = await slots.take(order.stop)
    startedAt = clock.now()
    log.info({...about, kind: order.bound.config.kind}, 'handoff begins')
    result = giveBack ? await runInPlace(setting, order, startedAt).finally(giveBack) : neverBegan(startedAt)
  } catch (error) {
    log.error({...about, err: error}, 'handoff broke')
    const cause = handoffCause('HANDOFF_INTERNAL', messageOf(error))
    result = {outcome: 'failed', cause, summary: {}, outputTail: '', startedAt, finishedAt: clock.now()}
  }
  try {
    await setting.dirs.keep({runId: order.runId, config: order.bound.config, machine: order.machine, result})
  } catch (error) {
    log.warn({...about, err: error}, 'the record of a handoff could not be kept')
  }
  log.info({...about, outcome: result.outcome, cause: result.cause?.code}, 'handoff ended')
  return result
}

function neverBegan(at: Date): HandoffResult {
  const cause = handoffCause('HANDOFF_STOPPED', 'stopped before it began')
  return {outcome: 'failed', cause, summary: {}, outputTail: '', startedAt: at, finishedAt: at}
}

async function runInPlace(setting: RunSetting, order: RunOrder, startedAt: Date): Promise<HandoffResult> {
  const tail = createOutputTail()
  const outcome = await runKind(setting, order, chunk => tail.add(chunk))
  const cause = causeOf(outcome, order)
  const redactor = createRedactor([...order.bound.secrets(order.machine), ...keyTexts(setting.keyPath)])
  return {
    outcome: cause === undefined ? 'done' : 'failed',
    ...(cause === undefined ? {} : {cause: {...cause, detail: redactor.text(cause.detail)}}),
    summary: redactor.value(outcome.summary) as Record<string, unknown>,
    outputTail: tail.text(redactor),
    startedAt,
    finishedAt: setting.clock.now(),
  }
}

async function runKind(setting: RunSetting, order: RunOrder, output: (chunk: Uint8Array | string) => void): Promise<KindOutcome> {
  const {bound, runId, machine} = order
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), bound.timeoutMs)
  const runDir = await setting.dirs.open(runId)
  let pair: KeyPair | undefined
  try {
    return await bound.run({
      runId,
      machine,
      runDir,
      kindDir: join(setting.dir, bound.config.kind),
      searchPath: setting.searchPath,
      clock: setting.clock,
      log: setting.log,
      signal: AbortSignal.any([order.stop, late.signal]),
      keyPair: () => {
        pair ??= ensureKeyPair(setting.keyPath)
        return pair
      },
      output,
    })
  } finally {
    clearTimeout(timer)
    await setting.dirs.close(runDir)
  }
}

function causeOf(outcome: KindOutcome, order: RunOrder): HandoffCause | undefined {
  if (outcome.outcome === 'done') return undefined
  const at = outcome.outcome === 'aborted' ? ` ${outcome.at}` : ''
  if (order.stop.aborted) return handoffCause('HANDOFF_STOPPED', `stopped${at}`)
  if (outcome.outcome === 'failed') return outcome.cause
  return handoffCause('HANDOFF_TIMEOUT', `not finished after ${order.bound.timeoutMs / 1000} s: it was${at}`)
}

/** The private key's lines: a playbook could print the file. */
function keyTexts(keyPath: string): string[] {
  try {
    return readFileSync(keyPath, 'latin1')
      .split('\n')
      .filter(line => line !== '' && !line.startsWith('-----'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
