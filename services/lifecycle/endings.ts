/** How jobs end: each outcome as one transaction that closes the job, moves the machine and says so. */
import type {Kysely} from 'kysely'
import type {Database, JobCause} from '../../lib/schema.ts'
import {cause} from './causes.ts'
import {deadlineFor} from './deadlines.ts'
import type {JobView} from './job-view.ts'
import {next} from './next.ts'
import {paceOf} from './pace.ts'
import type {Phase} from './phases.ts'
import type {Move} from './progress.ts'
import {enterState, insertJob, requireLockedState, simplePlan, standingOf, stateOf} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'
import type {Event, JobKind} from './transitions.ts'

const OUTCOME: Record<JobKind, Event | undefined> = {
  inspect: 'inspected',
  test: 'tested',
  clean: 'cleaned',
  provision: 'provisioned',
  deprovision: 'cleaned',
  service: 'serviced',
  rescue: 'rescued',
  power: undefined,
}

/** Phases that were settled before the machine was powered, and so hold for the next attempt too. */
const CARRIED: readonly Phase[] = ['planned', 'network_ready', 'withdrawn', 'stopped', 'addresses_freed']

export async function finishJob(services: LifecycleServices, view: JobView): Promise<void> {
  await services.db.transaction().execute(async tx => {
    const closed = await closeJob(services, tx, view.job, 'succeeded', null)
    if (!closed) return
    const {now, state} = closed
    const event = OUTCOME[view.job.kind]
    if (!event) return
    const origin = view.plan.origin ?? null
    const result = next({...standingOf(state, undefined), origin: origin && stateOf(origin.state)}, event)
    if ('refused' in result) throw new Error(`job ${view.job.id} succeeded but ${event} is refused: ${result.refused}`)
    await enterState(services, tx, state, result.to, {
      now,
      actor: 'lifecycle',
      jobId: view.job.id,
      because: `${view.job.kind} succeeded`,
      ...(event === 'cleaned' ? {dirty: false} : {}),
      ...(origin?.failed_from ? {failedFrom: stateOf(origin.failed_from)} : {}),
    })
    await settle(services, tx, view, state, now)
  })
}

async function settle(
  services: LifecycleServices,
  tx: Kysely<Database>,
  view: JobView,
  state: store.MachineStateRow,
  now: Date,
): Promise<void> {
  const {job, plan} = view
  if (plan.install) {
    const {install} = plan
    for (const allocationId of install.frees) await services.ipam.free(tx, allocationId, 'lifecycle', now)
    for (const id of install.gives_back ?? [])
      await services.ipam.giveBack(tx, id, 'lifecycle', now, 'the install that used it is over')
    await store.updateState(tx, job.machine_id, {
      dirty: true,
      provisioned: JSON.stringify({
        profile: install.profile,
        template: install.template,
        image: install.image,
        hostname: install.hostname,
        addresses: install.addresses,
        job_id: job.id,
        at: now.toISOString(),
      }),
    })
  }
  if (plan.wipe && !plan.install) {
    // The host that used them is gone for certain now, whichever way the machine came here.
    await freeHostAddresses(services, tx, job, now)
    await store.updateState(tx, job.machine_id, {provisioned: null})
  }
  if (job.kind === 'inspect') await cleanIfTheWindowSaysSo(services, tx, view, now)
  services.log.info({job: job.id, machine: job.machine_id, kind: job.kind, was: state.state}, 'job succeeded')
}

/** Frees the host addresses of a machine that runs no host any more. Its boot address stays its own until it is retired. */
export async function freeHostAddresses(
  services: LifecycleServices,
  tx: Kysely<Database>,
  job: store.JobRow,
  now: Date,
): Promise<void> {
  const freed = await services.ipam.freeOfMachine(tx, job.machine_id, ['host'], 'lifecycle', now)
  if (freed.length === 0) return
  await services.evidence.changed(tx, {
    at: now,
    actor: 'lifecycle',
    kind: 'addresses_freed',
    machineId: job.machine_id,
    jobId: job.id,
    detail: {addresses: freed.map(allocation => allocation.address)},
  })
}

/** A window may let newcomers be cleaned by themselves, but only machines whose disks inspection found blank. */
async function cleanIfTheWindowSaysSo(
  services: LifecycleServices,
  tx: Kysely<Database>,
  view: JobView,
  now: Date,
): Promise<void> {
  const {job, plan} = view
  const window = plan.window_id ? await services.inventory.windowById(plan.window_id, tx) : undefined
  if (!window?.clean) return
  const state = await requireLockedState(tx, job.machine_id)
  const result = next(standingOf(state, undefined), 'clean')
  if ('refused' in result || state.quarantined) return
  const bmc = await services.inventory.describeBmc(job.machine_id, tx)
  const power = bmc?.driver ?? 'manual'
  const actor = `window:${window.id}`
  const clean = await insertJob(services, tx, {
    machineId: job.machine_id,
    kind: 'clean',
    plan: simplePlan('clean', {power, bootUrl: plan.boot_url}),
    actor,
    now,
  })
  await enterState(services, tx, state, result.to, {
    now,
    actor,
    jobId: clean.id,
    because: 'its window says clean and its disks are blank',
  })
}

/** Ends an attempt: with the next one on the same frozen plan, or with the machine failed. @returns `moved` when the job is no longer where it was seen */
export async function failJob(
  services: LifecycleServices,
  view: JobView,
  move: Extract<Move, {do: 'fail'}>,
): Promise<'next_attempt' | 'over' | 'moved'> {
  const {job} = view
  return services.db.transaction().execute(async tx => {
    const locked = await store.lockJob(tx, job.id)
    if (!locked || locked.fence !== job.fence || locked.finished_at) return 'over'
    const attempt = await store.lockAttempt(tx, job.fence)
    // What this worker decided on may be stale: another has taken the job further since, or its claim was granted just now.
    const moved =
      locked.phase !== job.phase ||
      locked.deadline > job.deadline ||
      attempt?.claimed_at?.getTime() !== view.attempt.claimed_at?.getTime()
    if (moved && !move.cancelled) return 'moved'
    if (move.retry && job.attempt < job.max_attempts) {
      await startNextAttempt(services, tx, view, move.cause)
      return 'next_attempt'
    }
    const closed = await closeJob(services, tx, job, move.cancelled ? 'cancelled' : 'failed', move.cause)
    if (!closed || job.kind === 'power') return 'over'
    await failMachine(services, tx, {...closed, job, cause: move.cause, actor: 'lifecycle'})
    return 'over'
  })
}

/** Ends an open job now, whatever it is doing: its fence is void from here on. The caller says why in what it does next. */
export async function cancelAtOnce(
  services: LifecycleServices,
  tx: Kysely<Database>,
  job: store.JobRow,
  actor: string,
): Promise<void> {
  const forced = cause('CANCELLED', `cancelled in phase ${job.phase ?? 'planned'}: power off was forced by ${actor}`)
  const closed = await closeJob(services, tx, job, 'cancelled', forced)
  if (closed && job.kind !== 'power') await failMachine(services, tx, {...closed, job, cause: forced, actor})
}

/** Kinds whose ramdisk cannot claim and does nothing by anybody's hand: what was proven wiped is so still. */
const READS_ONLY: readonly JobKind[] = ['inspect', 'test']

/** The machine of a job that was closed without success. */
export async function failMachine(
  services: LifecycleServices,
  tx: Kysely<Database>,
  ended: {now: Date; state: store.MachineStateRow; job: store.JobRow; cause: JobCause; actor: string},
): Promise<void> {
  const {now, state, job, cause, actor} = ended
  const result = next(standingOf(state, undefined), 'fail')
  if ('refused' in result) {
    // A job must end whatever its machine's state is; that this one is stable already is a fault to look at.
    services.log.error({job: job.id, machine: job.machine_id, reason: result.refused}, 'a job failed whose machine was not busy')
    return
  }
  await enterState(services, tx, state, result.to, {
    now,
    actor,
    jobId: job.id,
    because: `${cause.code}: ${cause.detail}`,
    failedFrom: stateOf(state.state),
    ...(READS_ONLY.includes(job.kind) ? {} : {dirty: true}),
  })
}

async function startNextAttempt(
  services: LifecycleServices,
  tx: Kysely<Database>,
  view: JobView,
  cause: JobCause,
): Promise<void> {
  const {job, plan} = view
  const now = await store.selectNow(tx)
  const fence = await store.nextFence(tx)
  const carried = (await store.selectPhases(tx, [job.fence])).filter(row => (CARRIED as readonly string[]).includes(row.phase))
  const first = plan.phases.find(phase => !carried.some(row => row.phase === phase)) ?? 'planned'
  await store.updateAttempt(tx, job.fence, {ended_at: now, outcome: cause.code})
  await store.updateJob(tx, job.id, job.fence, {
    fence,
    attempt: job.attempt + 1,
    phase: first,
    deadline: deadlineFor(first, plan, now, await paceOf(tx, plan, first)),
    wake_at: new Date(now.getTime() + 10_000),
    cause: JSON.stringify(cause),
  })
  await store.insertAttempt(tx, {fence, job_id: job.id, number: job.attempt + 1, started_at: now})
  if (carried.length > 0) {
    await store.insertPhases(
      tx,
      carried.map(row => ({...row, fence, evidence: JSON.stringify({...row.evidence, from_attempt: job.attempt})})),
    )
  }
  await services.evidence.changed(tx, {
    at: now,
    actor: 'lifecycle',
    kind: 'attempt_failed',
    machineId: job.machine_id,
    jobId: job.id,
    detail: {attempt: job.attempt, cause, next_fence: fence},
  })
  await services.evidence.enqueue(tx, advanceTask(job.id))
}

/** @returns undefined when it is not open under this fence any more */
export async function closeJob(
  services: LifecycleServices,
  tx: Kysely<Database>,
  job: store.JobRow,
  state: 'succeeded' | 'failed' | 'cancelled',
  cause: JobCause | null,
): Promise<{now: Date; state: store.MachineStateRow} | undefined> {
  const locked = await store.lockJob(tx, job.id)
  if (!locked || locked.fence !== job.fence || locked.finished_at) return undefined
  const now = await store.selectNow(tx)
  const machineState = await requireLockedState(tx, job.machine_id)
  await store.updateAttempt(tx, job.fence, {ended_at: now, outcome: cause?.code ?? 'succeeded'})
  await store.updateJob(tx, job.id, job.fence, {state, finished_at: now, cause: cause ? JSON.stringify(cause) : null})
  await services.evidence.changed(tx, {
    at: now,
    actor: 'lifecycle',
    kind: `job_${state}`,
    machineId: job.machine_id,
    jobId: job.id,
    detail: {job_kind: job.kind, attempt: job.attempt, ...(cause ? {cause} : {})},
  })
  return {now, state: machineState}
}
