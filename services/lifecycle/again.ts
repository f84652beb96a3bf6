/** Doing it again: the failed job's frozen plan, and the install that a host came from. */
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import {PHASES, type Phase} from './phases.ts'
import type {JobPlan, WipePolicy} from './plan-types.ts'
import {type ProvisionRequest, planProvision} from './provision.ts'
import {type PlannedJob, stateOf} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {type JobKind, TRANSITIONS, type Transition} from './transitions.ts'

/**
 * The plan that failed, with the phases that hold still: all before the failed one where the machine's disk is done and nothing has
 * happened to it since, otherwise none.
 */
export async function planRetry(tx: Kysely<Database>, state: store.MachineStateRow): Promise<PlannedJob> {
  const kinds = state.failed_from ? kindsLeadingTo(state.failed_from) : []
  const failed = kinds.length > 0 ? await store.selectLastFailedJob(tx, state.machine_id, kinds) : undefined
  if (!failed) throw new IngotError('TRANSITION_REFUSED', 'no failed job is recorded to try again')
  const plan = failed.plan as unknown as JobPlan
  const newest = await store.selectNewestJob(tx, state.machine_id)
  const resumes = failed.phase !== null && PHASES[failed.phase as Phase]?.resumes === true
  if (!resumes || newest?.id !== failed.id) return {kind: failed.kind, plan}
  return {kind: failed.kind, plan, carried: await store.selectPhases(tx, [failed.fence])}
}

export type ReinstallRequest = ProvisionRequest & {wipe?: WipePolicy | undefined}

/** What the machine runs, but for what the request says otherwise; on the addresses that it holds. */
export async function planReinstall(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {state: store.MachineStateRow; request: ReinstallRequest; actor: string; now: Date},
): Promise<PlannedJob> {
  const {wipe = 'preserve', ...request} = input.request
  const before = await installOf(tx, input.state)
  // A profile that is named now says it all; otherwise what was installed, as it was.
  const base: ProvisionRequest =
    request.profile || !before
      ? {}
      : {
          template: before.template,
          image: before.image,
          disk: before.disk,
          parameters: {...before.parameters},
          handoff: before.handoff,
        }
  const hostname = request.hostname ?? before?.hostname
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined))
  const parameters = {...base.parameters, ...request.parameters}
  const merged: ProvisionRequest = {...base, ...given, hostname, parameters}
  const plan = await planProvision(services, tx, {
    machineId: input.state.machine_id,
    request: merged,
    actor: input.actor,
    now: input.now,
  })
  const profile = plan.install?.profile ?? (request.template || request.image ? null : (before?.profile ?? null))
  return {kind: 'provision', plan: {...plan, wipe, install: plan.install && {...plan.install, profile}}}
}

/** What an active machine was installed by, if Ingot did that. */
export async function installOf(tx: Kysely<Database>, state: store.MachineStateRow): Promise<JobPlan['install'] | undefined> {
  const jobId = state.provisioned?.job_id
  const job = typeof jobId === 'string' ? await store.selectJob(tx, jobId) : undefined
  return (job?.plan as unknown as JobPlan | undefined)?.install ?? undefined
}

function kindsLeadingTo(state: string): JobKind[] {
  const rows = TRANSITIONS as readonly Transition[]
  return rows.flatMap(row => (row.to === stateOf(state) && row.job ? [row.job] : []))
}
