/** Follows a job in the terminal: each phase as it is proven, with its time and its evidence. */
import {sleep} from '../lib/clock.ts'
import {ApiProblem, type Client, Unreachable} from './client.ts'
import {untilInterrupted} from './interrupt.ts'
import {cellOf, printJson, printLine, visible} from './output.ts'
import type {Job} from './shapes.ts'
import type {Context} from './verb.ts'

/** Looks often at first, for what is over at once, and then less so. */
const LOOK_MS = {first: 100, factor: 1.3, last: 1_000}
/** As a shell counts a program that SIGINT ended. */
const INTERRUPTED = 130

/** Shows a job until it ends; the exit code says whether it succeeded. */
export async function followJob({client, json}: Context, jobId: string): Promise<void> {
  const interrupted = await untilInterrupted(async signal => {
    const job = await watch(client, jobId, json, signal)
    if (!job) return
    if (json) printJson(job)
    if (job.state !== 'succeeded') process.exitCode = 1
  })
  if (!interrupted) return
  process.exitCode = INTERRUPTED
  process.stderr.write(`The job goes on; \`ingot jobs follow ${jobId}\` shows it, \`ingot jobs cancel ${jobId}\` ends it.\n`)
}

async function watch(client: Client, jobId: string, quiet: boolean, signal: AbortSignal): Promise<Job | undefined> {
  const shown = new Set<string>()
  let pauseMs = LOOK_MS.first
  const ask = () => client.get<Job>(`/v1/jobs/${encodeURIComponent(jobId)}`, {}, signal)
  for (let job: Job | undefined = await ask(); job; job = await patiently(ask, signal)) {
    if (!quiet) showNew(job, shown)
    if (job.finished_at) {
      if (!quiet) showEnd(job)
      return job
    }
    await sleep(pauseMs, signal)
    pauseMs = Math.min(pauseMs * LOOK_MS.factor, LOOK_MS.last)
  }
  return undefined
}

const PATIENCE_MS = 300_000
const AGAIN_MS = 1_000

/** Asks again while Ingot or its database is away: it restarts, and what is followed goes on. */
export async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const began = performance.now()
  for (let told = false; ; told = true) {
    try {
      return await ask()
    } catch (error) {
      if (signal.aborted) return undefined
      const away = error instanceof Unreachable || (error instanceof ApiProblem && error.problem.status === 503)
      if (!away || performance.now() - began > PATIENCE_MS) throw error
      if (!told) process.stderr.write(`${visible(error.message)}; waiting for it\n`)
      await sleep(AGAIN_MS, signal)
    }
  }
}

function showNew(job: Job, shown: Set<string>): void {
  const start = Date.parse(job.created_at)
  for (const attempt of job.attempts ?? []) {
    for (const row of attempt.phases) {
      const key = `${attempt.number}:${row.phase}`
      if (shown.has(key)) continue
      shown.add(key)
      printLine(phaseLine(row, start))
    }
    const ended = `${attempt.number}:end`
    if (attempt.outcome && attempt.outcome !== 'succeeded' && !shown.has(ended)) {
      shown.add(ended)
      printLine(`           attempt ${attempt.number} of ${job.max_attempts} ended: ${attempt.outcome}`)
    }
  }
}

function showEnd(job: Job): void {
  const took = seconds(Date.parse(job.finished_at ?? job.created_at) - Date.parse(job.created_at)).trim()
  printLine(`${job.kind} ${job.state} after ${took}`)
  if (job.cause && job.state !== 'succeeded') printLine(causeLines(job.cause))
}

export function phaseLine(row: {phase: string; at: string; evidence: Record<string, unknown>}, startMs: number): string {
  return `${seconds(Date.parse(row.at) - startMs)}  ${row.phase.padEnd(15)} ${evidenceLine(row.evidence)}`.trimEnd()
}

export function causeLines(cause: {code: string; detail: string; mend: string}): string {
  return `  ${cause.code}: ${cellOf(cause.detail)}\n  → ${cellOf(cause.mend)}`
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(7)} s`
}

/** The parts of a phase's evidence that a person reads. */
export function evidenceLine(evidence: Record<string, unknown>): string {
  const hidden = ['evidence_id', 'effect', 'ok', 'kind']
  if (evidence.implied_by) return `implied by ${cellOf(evidence.implied_by)}`
  const parts = Object.entries(evidence).filter(([key, value]) => !hidden.includes(key) && value !== null)
  return parts.map(([key, value]) => `${key}=${shorten(cellOf(value))}`).join(' ')
}

function shorten(text: string): string {
  return text.length > 120 ? `${text.slice(0, 119)}…` : text
}
