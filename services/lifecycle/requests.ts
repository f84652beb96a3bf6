/**
 * Requests that open a job: one short transaction that locks the machine's state, asks the transition table, freezes the plan by its
 * hash, and commits state, job, attempt, event and the first task together. After that commit the job ends in a result, whatever dies.
 */
import {createHash} from 'node:crypto'
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import {canonicalJson} from '../../lib/json.ts'
import type {Database} from '../../lib/schema.ts'
import {deadlineFor} from './deadlines.ts'
import {type Next, next, type Standing} from './next.ts'
import {MAX_ATTEMPTS, PLANS} from './phases.ts'
import type {JobPlan} from './plan-types.ts'
import type {LifecycleServices} from './services.ts'
import {isState, type State} from './states.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'
import type {Event, JobKind, RequestEvent} from './transitions.ts'

export type OpenedJob = {job: store.JobRow}

export type JobRequest = {
  machineId: string
  event: RequestEvent
  actor: string
  /** made inside the transaction, so that what it allocates commits with the job */
  plan: (tx: Kysely<Database>, state: store.MachineStateRow, now: Date) => Promise<PlannedJob>
}

/** `carried` are phases of an earlier job of the same plan that hold still. */
export type PlannedJob = {kind: JobKind; plan: JobPlan; carried?: readonly store.PhaseRow[]}

export async function openJob(services: LifecycleServices, tx: Kysely<Database>, request: JobRequest): Promise<store.JobRow> {
  const now = await store.selectNow(tx)
  const state = await requireLockedState(tx, request.machineId)
  const open = await store.selectOpenJob(tx, request.machineId)
  const result = next(standingOf(state, open), request.event)
  if ('refused' in result) throw refusal(request.event, result, open)
  const planned = await request.plan(tx, state, now)
  const job = await insertJob(services, tx, {machineId: request.machineId, ...planned, actor: request.actor, now})
  await enterState(services, tx, state, result.to, {
    now,
    actor: request.actor,
    jobId: job.id,
    because: `${request.event} was asked for`,
    ...(request.event === 'clean' && state.quarantined?.startsWith('disk_not_empty') ? {quarantined: null} : {}),
    // Where it failed from is still true of a machine that is only looked at.
    ...(request.event === 'rescue' ? {dirty: true} : {}),
    ...(request.event === 'rescue' && state.failed_from ? {failedFrom: stateOf(state.failed_from)} : {}),
  })
  return job
}

/** A transition that no job carries out: it is done when this returns. */
export async function moveWithoutJob(
  services: LifecycleServices,
  tx: Kysely<Database>,
  request: {machineId: string; event: RequestEvent; actor: string; set?: Parameters<typeof store.updateState>[2]},
): Promise<void> {
  const now = await store.selectNow(tx)
  const state = await requireLockedState(tx, request.machineId)
  const open = await store.selectOpenJob(tx, request.machineId)
  const result = next(standingOf(state, open), request.event)
  if ('refused' in result) throw refusal(request.event, result, open)
  if (request.set) await store.updateState(tx, request.machineId, request.set)
  await enterState(services, tx, state, result.to, {now, actor: request.actor, because: `${request.event} was asked for`})
}

/** Writes a job with its first attempt and task. The caller holds the machine's state lock. */
export async function insertJob(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {machineId: string; actor: string; now: Date} & PlannedJob,
): Promise<store.JobRow> {
  const {now, plan, carried = []} = input
  const fence = await store.nextFence(tx)
  const text = canonicalJson(plan)
  const first = plan.phases.find(phase => !carried.some(row => row.phase === phase)) ?? 'planned'
  const job = await store.insertJob(tx, {
    machine_id: input.machineId,
    kind: input.kind,
    state: 'queued',
    requested_by: input.actor,
    created_at: now,
    max_attempts: MAX_ATTEMPTS[input.kind],
    fence,
    phase: first,
    deadline: deadlineFor(first, plan, now),
    wake_at: new Date(now.getTime() + 10_000),
    plan: text,
    plan_hash: createHash('sha256').update(text).digest('hex'),
  })
  await store.insertAttempt(tx, {fence, job_id: job.id, number: 1, started_at: now})
  if (carried.length > 0) {
    const rows = carried.map(row => ({...row, fence, evidence: JSON.stringify({...row.evidence, from_fence: row.fence})}))
    await store.insertPhases(tx, rows)
  }
  await services.evidence.record(tx, {
    at: now,
    kind: 'planned',
    source: 'lifecycle',
    machineId: input.machineId,
    jobId: job.id,
    fence,
    detail: {plan_hash: job.plan_hash, requested_by: input.actor},
    task: advanceTask(job.id),
  })
  await services.evidence.changed(tx, {
    at: now,
    actor: input.actor,
    kind: 'job_opened',
    machineId: input.machineId,
    jobId: job.id,
    detail: {job_kind: input.kind, fence, plan_hash: job.plan_hash},
  })
  return job
}

/** Moves a machine to a state, with the event that tells of it. */
export async function enterState(
  services: LifecycleServices,
  tx: Kysely<Database>,
  state: store.MachineStateRow,
  to: State,
  change: {
    now: Date
    actor: string
    jobId?: string
    because: string
    quarantined?: string | null
    dirty?: boolean
    failedFrom?: State | null
  },
): Promise<void> {
  await store.updateState(tx, state.machine_id, {
    state: to,
    state_since: change.now,
    failed_from: change.failedFrom ?? null,
    ...(to === 'reserved' ? {} : {reserved_for: null, reserved_until: null}),
    ...(change.quarantined === undefined ? {} : {quarantined: change.quarantined}),
    ...(change.dirty === undefined ? {} : {dirty: change.dirty}),
  })
  await services.evidence.changed(tx, {
    at: change.now,
    actor: change.actor,
    kind: 'state_changed',
    machineId: state.machine_id,
    jobId: change.jobId,
    detail: {from: state.state, to, because: change.because},
  })
}

/**
 * The plan of a kind of job that installs nothing. A machine that is switched by hand is never proven off, so the host it was may go on
 * using its addresses until its disks are wiped: they are freed only then.
 */
export function simplePlan(
  kind: JobKind,
  facts: {
    power: 'ipmi' | 'manual'
    bootUrl: string | null
    windowId?: string | null
    verb?: JobPlan['verb']
    origin?: JobPlan['origin']
    test?: JobPlan['test']
    sshKeys?: readonly string[]
    model?: string | null
  },
): JobPlan {
  return {
    phases: kind === 'deprovision' && facts.power === 'manual' ? ['planned', 'withdrawn', ...PLANS.clean.slice(1)] : PLANS[kind],
    power: facts.power,
    end: facts.power === 'ipmi' ? 'poweroff' : 'reboot',
    boot_url: facts.bootUrl,
    window_id: facts.windowId ?? null,
    install: null,
    wipe: kind === 'clean' || kind === 'deprovision' ? 'full' : null,
    verb: facts.verb ?? null,
    origin: facts.origin ?? null,
    test: facts.test ?? null,
    ssh_keys: facts.sshKeys ?? [],
    model: facts.model ?? null,
  }
}

export async function requireLockedState(tx: Kysely<Database>, machineId: string): Promise<store.MachineStateRow> {
  const state = await store.lockState(tx, machineId)
  if (!state) throw new IngotError('NOT_FOUND', `machine ${machineId} has no state`)
  return state
}

export function standingOf(state: store.MachineStateRow, open: Pick<store.JobRow, 'id' | 'kind'> | undefined): Standing {
  return {
    state: stateOf(state.state),
    failedFrom: state.failed_from === null ? null : stateOf(state.failed_from),
    maintenance: state.maintenance,
    quarantined: state.quarantined,
    dirty: state.dirty,
    openJob: open ? {id: open.id, kind: open.kind} : null,
  }
}

export function stateOf(text: string): State {
  if (!isState(text)) throw new Error(`'${text}' is not a state of this version`)
  return text
}

function refusal(event: Event, result: Extract<Next, {refused: string}>, open: store.JobRow | undefined): IngotError {
  return open
    ? new IngotError('JOB_OPEN', `cannot ${event}: job ${open.id} (${open.kind}, phase ${open.phase ?? 'planned'}) is open`)
    : new IngotError('TRANSITION_REFUSED', `cannot ${event}: ${result.refused}`)
}
