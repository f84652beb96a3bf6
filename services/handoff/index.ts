/**
 * Hands an installed machine over to config management: starts a run of the configured kind and says how it ended.
 *
 * Under `dir`: `id_ed25519`, Ingot's own SSH key; `<kind>/`, what operators put there (`ansible/`: playbooks and roles); `active/` and
 * `kept/`, see run-dirs.ts.
 */
import {mkdirSync} from 'node:fs'
import {isAbsolute, join} from 'node:path'
import type {z} from 'zod'
import type {Clock} from '../../lib/clock.ts'
import {type FieldError, IngotError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {DEFAULT_SEARCH_PATH} from './environment.ts'
import type {BoundKind} from './kinds/kind.ts'
import {HANDOFF_KINDS} from './kinds/registry.ts'
import {runRequestSchema} from './machine.ts'
import type {HandoffConfig, HandoffMachine, HandoffResult} from './result.ts'
import {carryOutRun} from './run.ts'
import {createRunDirs} from './run-dirs.ts'
import {createSlots} from './slots.ts'
import {ensureKeyPair} from './ssh-key.ts'

export type {HandoffCause, HandoffCauseCode} from './causes.ts'
export {HANDOFF_CAUSES} from './causes.ts'
export {type AnsibleInventory, ansibleInventory, type InventoryMachine} from './inventory.ts'
export type {HandoffConfig, HandoffMachine, HandoffResult} from './result.ts'

export type Handoff = {
  /**
   * The configuration in full, defaults filled in; nothing at all means `{kind: 'none'}`.
   * @throws IngotError INVALID_INPUT naming the fields
   */
  validate(config: unknown): HandoffConfig
  /**
   * Starts a run, or returns the one that goes on under this id.
   * @throws IngotError INVALID_INPUT naming the fields
   */
  start(run: HandoffRequest): HandoffRun
  /** Ends a run and everything that it started; resolves when it has ended. An id that does not run is no error. */
  stop(runId: string): Promise<void>
  running(): string[]
  /** Whether somebody is to be told when a machine with this configuration is given back. */
  withdraws(config: unknown): boolean
  /** Lines for the machine's authorized_keys without which this kind cannot work. */
  publicKeys(config: unknown): string[]
  /** Ends what an earlier, killed Ingot left running, and removes its files; returns the run ids. The first `start` does it too. */
  reclaim(): Promise<string[]>
}

export type HandoffRequest = {
  /** Becomes part of a path: letters, digits, `-` and `_`. */
  readonly runId: string
  readonly config: unknown
  readonly machine: HandoffMachine
  readonly signal?: AbortSignal
  /** tells that the machine is given back, instead of handing it over */
  readonly withdraw?: boolean
}

export type HandoffRun = {
  readonly runId: string
  /** Never rejects. */
  readonly done: Promise<HandoffResult>
}

export type HandoffOptions = {
  readonly dir: string
  readonly log: Log
  readonly clock: Clock
  /** Where programs are looked for. */
  readonly searchPath?: string
  /** How many runs go on at once; the rest wait. */
  readonly runs_at_once?: number
}

export function createHandoff(options: HandoffOptions): Handoff {
  const {dir, log, clock} = options
  // The path stands in ssh_config and in lists separated by colons.
  if (!isAbsolute(dir) || !/^[\w.@+,=/ -]*$/.test(dir)) throw new Error(`not usable as a directory for handoffs: ${dir}`)
  const keyPath = join(dir, 'id_ed25519')
  const dirs = createRunDirs({dir, log, clock})
  const setting = {
    ...{dir, keyPath, log, clock, dirs},
    searchPath: options.searchPath ?? DEFAULT_SEARCH_PATH,
    slots: createSlots(options.runs_at_once ?? 8),
  }
  const runs = new Map<string, {readonly run: HandoffRun; readonly controller: AbortController}>()
  let reclaimed: Promise<unknown> | undefined

  return {
    validate: config => bindConfig(config).config,
    publicKeys: config => [...bindConfig(config).publicKeys(() => ensureKeyPair(keyPath))],
    running: () => [...runs.keys()],
    withdraws: config => bindConfig(config).withdraw !== undefined,
    start({runId, config, machine, signal, withdraw}) {
      const going = runs.get(runId)
      if (going) return going.run
      checkRequest({runId, machine})
      const {withdraw: tell, ...handOver} = bindConfig(config)
      const bound: BoundKind = withdraw && tell ? {...handOver, run: tell} : handOver
      mkdirSync(join(dir, bound.config.kind), {recursive: true, mode: 0o700})
      const controller = new AbortController()
      const stop = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal])
      reclaimed ??= dirs.reclaim().catch(error => log.error({err: error}, 'could not reclaim earlier handoffs'))
      const done = reclaimed
        .then(() => carryOutRun(setting, {runId, bound, machine, stop}))
        .finally(() => {
          runs.delete(runId)
        })
      const run = {runId, done}
      runs.set(runId, {run, controller})
      return run
    },
    async stop(runId) {
      const going = runs.get(runId)
      going?.controller.abort()
      await going?.run.done
    },
    reclaim: () => dirs.reclaim(),
  }
}

function bindConfig(config: unknown): BoundKind {
  const given = config === undefined || config === null ? {kind: 'none'} : config
  const name = typeof given === 'object' && 'kind' in given ? given.kind : undefined
  const kind = HANDOFF_KINDS.find(one => one.kind === name)
  if (kind === undefined) {
    const message = `must be one of: ${HANDOFF_KINDS.map(one => one.kind).join(', ')}`
    throw new IngotError('INVALID_INPUT', 'the handoff has no known kind', {
      errors: [{field: 'kind', code: 'unknown_kind', message}],
    })
  }
  const result = kind.bind(given)
  if ('bound' in result) return result.bound
  throw invalidInput(`the ${kind.kind} handoff`, result.issues)
}

function checkRequest(request: {runId: string; machine: HandoffMachine}): void {
  const parsed = runRequestSchema.safeParse(request)
  if (!parsed.success) throw invalidInput('the handoff run', parsed.error.issues)
}

function invalidInput(what: string, issues: readonly z.core.$ZodIssue[]): IngotError {
  const errors = issues.flatMap(fieldErrors)
  return new IngotError('INVALID_INPUT', `${what} is not valid: ${errors.map(error => error.field).join(', ')}`, {errors})
}

/** An unknown field is reported by its own name, not by that of the object around it. */
function fieldErrors(issue: z.core.$ZodIssue): FieldError[] {
  const names = issue.code === 'unrecognized_keys' ? issue.keys.map(key => [...issue.path, key]) : [issue.path]
  return names.map(path => ({field: path.join('.'), code: issue.code, message: issue.message}))
}
