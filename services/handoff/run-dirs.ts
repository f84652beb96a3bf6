/**
 * The directories of runs. An active one holds secrets and is always removed whole; what is kept for diagnosis is written afresh from
 * the redacted result, so nothing secret can be left in it.
 *
 *   <dir>/active/<run id>/ and <run id>.owner    only while it runs
 *   <dir>/kept/<machine id>/<start>-<run id>/    result.json and output.txt, the last 5 of each machine
 */
import {mkdir, readdir, readFile, rm, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import {processIdentity, sweepRun} from './processes.ts'
import type {HandoffConfig, HandoffMachine, HandoffResult} from './result.ts'

export const KEPT_RUNS = 5

export type RunDirs = {
  open(runId: string): Promise<string>
  /** Ends every process of the run, then removes the directory. */
  close(runDir: string): Promise<void>
  keep(record: KeptRecord): Promise<void>
  /** Closes what a dead Ingot left active; returns the run ids. */
  reclaim(): Promise<string[]>
}

export type KeptRecord = {
  readonly runId: string
  readonly config: HandoffConfig
  readonly machine: HandoffMachine
  readonly result: HandoffResult
}

export function createRunDirs(options: {dir: string; log: Log; clock: Clock}): RunDirs {
  const {dir, log, clock} = options
  const active = join(dir, 'active')

  async function close(runDir: string): Promise<void> {
    const {killed, left} = await sweepRun(runDir, clock)
    if (left > 0) log.error({runDir, left}, 'processes of a handoff survive a kill')
    else if (killed > 0) log.debug({runDir, killed}, 'killed what a handoff left running')
    await rm(runDir, {recursive: true, force: true})
    await rm(ownerFile(runDir), {force: true})
  }

  return {
    close,
    async open(runId) {
      const runDir = join(active, runId)
      await mkdir(active, {recursive: true, mode: 0o700})
      const owner = await ownerOf(runDir)
      if (owner !== undefined && owner !== processIdentity(process.pid) && isAlive(owner))
        throw new Error(`run ${runId} is in the hands of process ${owner.split(' ')[0]}`)
      await close(runDir)
      // The owner first: a directory without one is taken for abandoned.
      await writeFile(ownerFile(runDir), processIdentity(process.pid) ?? '', {mode: 0o600})
      await mkdir(runDir, {mode: 0o700})
      return runDir
    },
    async keep({runId, config, machine, result}) {
      const machineDir = join(dir, 'kept', machine.id)
      const keptDir = join(machineDir, `${result.startedAt.toISOString().replaceAll(':', '')}-${runId}`)
      await mkdir(keptDir, {recursive: true, mode: 0o700})
      const {outputTail, ...rest} = result
      const record = {
        run_id: runId,
        kind: config.kind,
        machine: {id: machine.id, name: machine.name, address: machine.address},
        ...rest,
      }
      await writeFile(join(keptDir, 'result.json'), `${JSON.stringify(record, null, 2)}\n`, {mode: 0o600})
      await writeFile(join(keptDir, 'output.txt'), outputTail, {mode: 0o600})
      // Names begin with the time, so their order is the order of starting.
      for (const old of (await readdir(machineDir)).sort().slice(0, -KEPT_RUNS)) {
        await rm(join(machineDir, old), {recursive: true, force: true})
      }
    },
    async reclaim() {
      await mkdir(active, {recursive: true, mode: 0o700})
      const reclaimed: string[] = []
      for (const runId of await activeRuns(active)) {
        const owner = await ownerOf(join(active, runId))
        if (owner !== undefined && isAlive(owner)) continue
        await close(join(active, runId))
        reclaimed.push(runId)
      }
      if (reclaimed.length > 0) log.warn({runs: reclaimed}, 'ended handoffs that an earlier Ingot left behind')
      return reclaimed
    },
  }
}

async function activeRuns(active: string): Promise<string[]> {
  const entries = await readdir(active, {withFileTypes: true})
  return entries.filter(entry => entry.isDirectory()).map(entry => entry.name)
}

function ownerFile(runDir: string): string {
  return `${runDir}.owner`
}

async function ownerOf(runDir: string): Promise<string | undefined> {
  try {
    return (await readFile(ownerFile(runDir), 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function isAlive(owner: string): boolean {
  return processIdentity(Number(owner.split(' ')[0])) === owner
}
