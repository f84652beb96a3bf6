/**
 * Decides a job's next move from what is recorded about it. Pure: the same rows always give the same move, so a worker may die
 * anywhere and another goes on by asking again.
 *
 * Order: an ending that somebody or something asked for; then phases that the evidence proves; then the first phase that is not
 * proven: done by us if it has a step, else waited for until its deadline.
 */
import type {JobCause} from '../../lib/schema.ts'
import {canHelp, cause, causeSaid} from './causes.ts'
import {diagnose} from './diagnosis.ts'
import {PHASES, type Phase, type StepName} from './phases.ts'

export type EvidenceSeen = {
  readonly id: number
  readonly at: Date
  readonly kind: string
  readonly detail: Record<string, unknown>
}
export type EffectSeen = {
  readonly phase: string
  readonly finished: boolean
  readonly tries: number
  readonly outcome: Record<string, unknown> | null
}

export type JobSeen = {
  readonly plan: readonly Phase[]
  readonly proven: readonly string[]
  readonly evidence: readonly EvidenceSeen[]
  readonly effects: readonly EffectSeen[]
  /** since when the current phase is waited for, and until when */
  readonly deadline: Date
  readonly cancelRequested: boolean
  /** it is held; its deadline is then that of the holding */
  readonly held: boolean
  /** the phase that it is to be held at */
  readonly holdAt: string | null
  readonly now: Date
}

export type Proof = {readonly phase: Phase; readonly at: Date; readonly evidence: Record<string, unknown>}

export type Move =
  | {readonly do: 'prove'; readonly proofs: readonly Proof[]}
  | {readonly do: 'act'; readonly phase: Phase; readonly step: StepName; readonly tries: number}
  | {readonly do: 'wait'; readonly phase: Phase}
  | {readonly do: 'hold'; readonly phase: Phase}
  | {readonly do: 'finish'}
  | {readonly do: 'fail'; readonly phase: Phase; readonly cause: JobCause; readonly retry: boolean; readonly cancelled: boolean}

/** A step that did not succeed is tried so often before its attempt fails. */
export const STEP_TRIES = 3

export function nextMove(job: JobSeen): Move {
  const current = job.plan.find(phase => !job.proven.includes(phase)) ?? lastOf(job.plan)
  if (job.cancelRequested) {
    return {do: 'fail', phase: current, cause: cause('CANCELLED', `cancelled in phase ${current}`), retry: false, cancelled: true}
  }
  if (job.held) {
    return job.now.getTime() <= job.deadline.getTime()
      ? {do: 'wait', phase: current}
      : {do: 'fail', phase: current, cause: cause('HOLD_EXPIRED'), retry: false, cancelled: false}
  }
  const ending = endingOf(job.evidence)
  if (ending) return failing(current, ending.cause, ending.retry)
  const proofs = newProofs(job)
  if (proofs.length > 0) return {do: 'prove', proofs}
  if (job.plan.every(phase => job.proven.includes(phase))) return {do: 'finish'}
  if (job.holdAt === current) return {do: 'hold', phase: current}
  return moveFor(job, current)
}

function moveFor(job: JobSeen, phase: Phase): Move {
  const row = PHASES[phase]
  const overdue = job.now.getTime() > job.deadline.getTime()
  const effect = job.effects.find(seen => seen.phase === phase)
  const failure = effect?.finished && effect.outcome?.ok === false ? effect.outcome : undefined
  if (failure && (overdue || mayNotRetry(failure, effect?.tries ?? 0))) {
    return failing(phase, causeSaid(failure, row.overdue), failure.retry !== false && row.again !== false)
  }
  if (overdue) return failing(phase, diagnose(phase, job.evidence), row.again !== false)
  if (!row.step) return {do: 'wait', phase}
  if (row.needs && !job.evidence.some(seen => seen.kind === row.needs)) return {do: 'wait', phase}
  if (effect?.finished && effect.outcome?.waits === true) return {do: 'wait', phase}
  return {do: 'act', phase, step: row.step, tries: effect?.tries ?? 0}
}

/** Another attempt only where it can help. */
function failing(phase: Phase, cause: JobCause, mayRetry: boolean): Move {
  return {do: 'fail', phase, cause, retry: mayRetry && canHelp(cause.code), cancelled: false}
}

/** One that is `patient` is tried until the phase's deadline: a BMC that is away for a minute is no reason to end an attempt. */
function mayNotRetry(failure: Record<string, unknown>, tries: number): boolean {
  return failure.retry === false || (failure.patient !== true && tries >= STEP_TRIES)
}

/** Phases proven now: by their own evidence, by a finished step, or because a later phase is proven. */
function newProofs(job: JobSeen): Proof[] {
  const proofs: Proof[] = []
  let later: {phase: Phase; evidence: EvidenceSeen} | undefined
  for (const phase of job.plan.toReversed()) {
    const row = PHASES[phase]
    const own = job.evidence.find(seen => row.provenBy.includes(seen.kind))
    const effect = job.effects.find(seen => seen.phase === phase && seen.finished && seen.outcome?.ok === true)
    if (!job.proven.includes(phase)) {
      if (own) proofs.unshift({phase, at: own.at, evidence: {evidence_id: own.id, kind: own.kind, ...summaryOf(own)}})
      else if (effect) proofs.unshift({phase, at: job.now, evidence: {effect: row.step, ...effect.outcome}})
      else if (row.implied && later) {
        proofs.unshift({phase, at: later.evidence.at, evidence: {implied_by: later.phase, evidence_id: later.evidence.id}})
      }
    }
    if (own) later = {phase, evidence: own}
  }
  // A phase is entered only when all before it are proven: what we must do ourselves is never jumped over.
  const proven = new Set<string>(job.proven)
  const inOrder: Proof[] = []
  for (const phase of job.plan) {
    if (proven.has(phase)) continue
    const proof = proofs.find(candidate => candidate.phase === phase)
    if (!proof) break
    inOrder.push(proof)
  }
  return inOrder
}

const SUMMARY_KEYS = ['stage', 'arch', 'address', 'method', 'disk', 'bytes', 'uptime_s', 'firmware', 'kind_of_handoff', 'summary']

function summaryOf(seen: EvidenceSeen): Record<string, unknown> {
  return Object.fromEntries(Object.entries(seen.detail).filter(([key]) => SUMMARY_KEYS.includes(key)))
}

/** Evidence that ends an attempt. */
function endingOf(evidence: readonly EvidenceSeen[]): {cause: JobCause; retry: boolean} | undefined {
  for (const seen of evidence) {
    const {kind, detail} = seen
    if (kind === 'failed')
      return {cause: causeSaid({code: detail.cause, detail: detail.detail}, 'RAMDISK_FAILED', [seen.id]), retry: true}
    if (kind === 'loader_loop') return {cause: cause('LOADER_LOOP', undefined, [seen.id]), retry: true}
    if (kind === 'second_claim') {
      const from = typeof detail.from === 'string' ? detail.from : 'an unknown address'
      return {cause: cause('SECOND_CLAIM', `the job was claimed a second time, from ${from}`, [seen.id]), retry: false}
    }
    // The disk is done by then: an attempt more would only write it again.
    if (kind === 'handoff_failed') return {cause: causeSaid(detail, 'HANDOFF_OVERDUE', [seen.id]), retry: false}
  }
  return undefined
}

function lastOf(plan: readonly Phase[]): Phase {
  return plan[plan.length - 1] ?? 'planned'
}
