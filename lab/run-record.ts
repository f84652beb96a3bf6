/**
 * What one lab run made, written down before it is made, so that a later run can remove it after a crash and nothing else.
 * One file per run under /run (root only; gone after a reboot, as are the things it names), one JSON line per thing.
 */
import {appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync} from 'node:fs'
import {join} from 'node:path'
import {identifyProcess, isRunning, type ProcessIdentity} from './processes.ts'

export const RUN_DIR = '/run/ingot-lab'

type RunLine =
  | {readonly kind: 'owner'; readonly name: string; readonly pid: number; readonly start: string}
  | {readonly kind: 'namespace'; readonly inode: number}
  | {readonly kind: 'process'; readonly pid: number; readonly start: string; readonly what: string}
  | {readonly kind: 'directory'; readonly path: string}

export type RunRecord = {
  readonly path: string
  add(line: RunLine): void
  remove(): void
}

/** What a record says: `namespaceInode` is null when the run died before it had made its namespace. */
export type Run = {
  readonly path: string
  readonly name: string
  readonly owner: ProcessIdentity
  readonly namespaceInode: number | null
  readonly processes: readonly ProcessIdentity[]
  readonly directories: readonly string[]
}

/** Opens the record of a run that this process owns. */
export function openRunRecord(name: string, runDir: string): RunRecord {
  const owner = identifyProcess(process.pid)
  if (!owner) throw new Error('cannot read /proc/self')
  mkdirSync(runDir, {recursive: true, mode: 0o700})
  // The owner is part of the name: a record is never rewritten by another run of the same name.
  const path = join(runDir, `${name}.${owner.pid}-${owner.start}.run`)
  const add = (line: RunLine) => appendFileSync(path, `${JSON.stringify(line)}\n`, {mode: 0o600})
  add({kind: 'owner', name, ...owner})
  return {path, add, remove: () => rmSync(path, {force: true})}
}

/** @returns the runs whose name begins with `namePrefix` and whose owner is dead */
export function readStaleRuns(namePrefix: string, runDir: string): Run[] {
  return listRecords(runDir)
    .map(file => readRun(join(runDir, file)))
    .filter(run => run.name.startsWith(namePrefix) && !isRunning(run.owner))
}

function listRecords(runDir: string): string[] {
  try {
    return readdirSync(runDir).filter(file => file.endsWith('.run'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** @throws when the file is no run record */
export function readRun(path: string): Run {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter(line => line.endsWith('}')) // a line torn by the crash names nothing that was made
    .map(line => JSON.parse(line) as RunLine)
  const owner = lines.find(line => line.kind === 'owner')
  if (!owner) throw new Error(`${path} names no owner: remove it by hand`)
  return {
    path,
    name: owner.name,
    owner: {pid: owner.pid, start: owner.start},
    namespaceInode: lines.find(line => line.kind === 'namespace')?.inode ?? null,
    processes: lines.filter(line => line.kind === 'process').map(({pid, start}) => ({pid, start})),
    directories: lines.filter(line => line.kind === 'directory').map(line => line.path),
  }
}
