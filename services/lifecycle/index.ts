/**
 * Lifecycle: drives every machine through one explicit table of states, by jobs that survive anything.
 *
 * Requests are transactions; what follows is moved by evidence. The claim is the only gate to a disk.
 */
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import type {BmcInput} from '../inventory/index.ts'
import {planReinstall, planRetry, type ReinstallRequest} from './again.ts'
import {cancelAtOnce} from './endings.ts'
import {cancelGroup, type GroupGuard, type GroupRequest, openGroup, planGroup} from './groups/requests.ts'
import * as groupStore from './groups/store.ts'
import {requestHold, resume} from './hold.ts'
import {type Action, actionsOf, besideActionsOf, next} from './next.ts'
import {expectedEnd} from './pace.ts'
import type {PowerVerb, TestPlan} from './plan-types.ts'
import {type ProvisionRequest, planProvision} from './provision.ts'
import {enterState, insertJob, moveWithoutJob, openJob, requireLockedState, simplePlan, standingOf} from './requests.ts'
import {reserve} from './reservations.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'

export type {ReinstallRequest} from './again.ts'
export {type Claims, createClaims} from './claim.ts'
export {GROUP_ACTION_NAMES, GROUP_ACTIONS, type GroupActionName} from './groups/actions.ts'
export type {GroupGuard, GroupPlan, GroupRequest} from './groups/requests.ts'
export type {GroupRow, MemberRow} from './groups/store.ts'
export {WINDOW_FACTS, WINDOW_HELLO} from './intake.ts'
export type {Action} from './next.ts'
export {LEAVING} from './phases.ts'
export type {InstallPlan, JobPlan, PlanFile, PowerVerb, TestPlan, WipePolicy} from './plan-types.ts'
export {lookAtPower} from './power-drift.ts'
export type {ProvisionRequest} from './provision.ts'
export type {LifecycleServices} from './services.ts'
export type {AttemptRow, JobRow, MachineStateRow, PhaseRow} from './store.ts'
export {selectNow as databaseNow, selectOpenJobs as openJobsOf, selectProfilesOfMachines as profilesOf} from './store.ts'
export {advanceTask, intakeTask} from './tasks.ts'
export {deleteIdleQueues as forgetIdleQueues} from './worker-store.ts'

export type Declaration = {
  name?: string | undefined
  macs: readonly Mac[]
  dmiUuid?: string | undefined
  serial?: string | undefined
  firmware?: 'bios' | 'uefi' | undefined
  labels?: Record<string, string> | undefined
  prefixId: string
  bmc?: BmcInput | undefined
}

/** Enough to find what is broken on arrival; a real burn-in asks for more. No least speeds: what is slow is the asker's to say. */
export const TEST_DEFAULTS: TestPlan = {seconds: 60, memory_percent: 80, min_memory_mb_s: 0, min_cpu_mb_s: 0, min_disk_mb_s: 0}

export type Lifecycle = ReturnType<typeof createLifecycle>

export function createLifecycle(services: LifecycleServices) {
  const {db, evidence, inventory, ipam} = services
  return {
    /** Declares a machine: identity, boot address, BMC and state `discovered`, in the caller's transaction. */
    async declare(tx: Kysely<Database>, input: Declaration, actor: string) {
      const now = await store.selectNow(tx)
      const machine = await inventory.createMachine(tx, {...input, origin: 'declared'})
      const [bootMac] = input.macs
      if (!bootMac) throw new IngotError('INVALID_INPUT', 'a machine needs at least one MAC address')
      await ipam.bootAddress(tx, {machineId: machine.id, name: machine.name, mac: bootMac, prefixId: input.prefixId}, actor, now)
      if (input.bmc) await inventory.setBmc(tx, machine.id, input.bmc, now)
      await store.insertState(tx, {machine_id: machine.id, state: 'discovered', state_since: now})
      await inventory.forgetSighting(tx, bootMac)
      await evidence.changed(tx, {at: now, actor, kind: 'machine_declared', machineId: machine.id, subject: machine.name})
      return machine
    },

    inspect: (tx: Kysely<Database>, machineId: string, actor: string) => simpleJob(tx, machineId, 'inspect', actor),
    clean: (tx: Kysely<Database>, machineId: string, actor: string) => simpleJob(tx, machineId, 'clean', actor),
    deprovision: (tx: Kysely<Database>, machineId: string, actor: string) => simpleJob(tx, machineId, 'deprovision', actor),
    /** Burns a machine in; afterwards it is what it was before. */
    test: (tx: Kysely<Database>, machineId: string, actor: string, asked: Partial<TestPlan> = {}) =>
      simpleJob(tx, machineId, 'test', actor, {test: {...TEST_DEFAULTS, ...asked}}),
    service: (tx: Kysely<Database>, machineId: string, actor: string, sshKeys: readonly string[] = []) =>
      simpleJob(tx, machineId, 'service', actor, {sshKeys}),
    rescue: (tx: Kysely<Database>, machineId: string, actor: string, sshKeys: readonly string[] = []) =>
      simpleJob(tx, machineId, 'rescue', actor, {sshKeys}),

    /** Ends a stay in the ramdisk: it boots its disk, and is what it was before. */
    async leave(tx: Kysely<Database>, machineId: string, actor: string) {
      const open = await store.selectOpenJob(tx, machineId)
      const job = open && (await store.lockJob(tx, open.id))
      if (!job || job.finished_at || (job.kind !== 'service' && job.kind !== 'rescue'))
        throw new IngotError('TRANSITION_REFUSED', 'cannot leave: it is neither serviced nor in rescue')
      const now = await store.selectNow(tx)
      const detail = {actor}
      await evidence.record(tx, {
        ...{at: now, kind: 'leave_asked', source: 'lifecycle', machineId, jobId: job.id, fence: job.fence, detail},
        task: advanceTask(job.id),
      })
      await evidence.changed(tx, {at: now, actor, kind: 'leave_asked', machineId, jobId: job.id})
      return job
    },

    provision(tx: Kysely<Database>, machineId: string, request: ProvisionRequest, actor: string) {
      return openJob(services, tx, {
        machineId,
        event: 'provision',
        actor,
        plan: async (inner, _state, now) => ({
          kind: 'provision',
          plan: await planProvision(services, inner, {machineId, request, actor, now}),
        }),
      })
    },

    /** Installs an active machine again, on the addresses that it holds. */
    reinstall(tx: Kysely<Database>, machineId: string, request: ReinstallRequest, actor: string) {
      return openJob(services, tx, {
        machineId,
        event: 'reinstall',
        actor,
        plan: (inner, state, now) => planReinstall(services, inner, {state, request, actor, now}),
      })
    },

    /** The failed job again, with the plan that was frozen for it. */
    retry(tx: Kysely<Database>, machineId: string, actor: string) {
      return openJob(services, tx, {machineId, event: 'retry', actor, plan: (inner, state) => planRetry(inner, state)})
    },

    /** Takes an enrolled machine that runs a host already as it is. */
    adopt: (tx: Kysely<Database>, machineId: string, actor: string) =>
      moveWithoutJob(services, tx, {machineId, event: 'adopt', actor, set: {quarantined: null}}),

    reserve: (tx: Kysely<Database>, machineId: string, input: {for: string; until: Date}, actor: string) =>
      reserve(services, tx, machineId, input, actor),
    unreserve: (tx: Kysely<Database>, machineId: string, actor: string) =>
      moveWithoutJob(services, tx, {machineId, event: 'unreserve', actor}),

    /** Keeps automation away from a machine, or lets it come back. An open job goes on. */
    async maintain(tx: Kysely<Database>, machineId: string, on: boolean, reason: string, actor: string) {
      const now = await store.selectNow(tx)
      await requireLockedState(tx, machineId)
      await store.updateState(tx, machineId, {maintenance: on})
      const kind = on ? 'maintenance_begun' : 'maintenance_ended'
      await evidence.changed(tx, {at: now, actor, kind, machineId, detail: {reason}})
    },

    /** Quarantines a machine by a person's word, or lifts whatever quarantine it is in. An open job goes on. */
    async quarantine(tx: Kysely<Database>, machineId: string, reason: string | null, actor: string) {
      const now = await store.selectNow(tx)
      const state = await requireLockedState(tx, machineId)
      if (reason === null && !state.quarantined) throw new IngotError('CONFLICT', 'the machine is not quarantined')
      await store.updateState(tx, machineId, {quarantined: reason === null ? null : `by_hand: ${reason}`})
      const kind = reason === null ? 'quarantine_lifted' : 'quarantined'
      await evidence.changed(tx, {at: now, actor, kind, machineId, detail: {reason: reason ?? state.quarantined}})
    },

    /**
     * A power order as a job of its own; the machine's state stays what it is.
     * @param force only with `off`: a job that is open is cancelled at once, and its machine failed
     */
    async power(tx: Kysely<Database>, machineId: string, verb: PowerVerb, actor: string, force = false) {
      const now = await store.selectNow(tx)
      // Its job before its state, as everybody locks them.
      const open = force && verb === 'off' ? await store.selectOpenJob(tx, machineId) : undefined
      if (open) await cancelAtOnce(services, tx, open, actor)
      await requireLockedState(tx, machineId)
      const still = await store.selectOpenJob(tx, machineId)
      if (still)
        throw new IngotError('JOB_OPEN', `cannot power ${verb}: job ${still.id} (${still.kind}, phase ${still.phase}) is open`)
      const {power} = await powerAndUrl(tx, machineId)
      if (power === 'manual')
        throw new IngotError('POWER_UNSUPPORTED', 'this machine has no power driver: its power is switched by hand')
      return insertJob(services, tx, {
        machineId,
        kind: 'power',
        plan: simplePlan('power', {power, bootUrl: null, verb}),
        actor,
        now,
      })
    },

    hold: (tx: Kysely<Database>, jobId: string, how: {at?: string | undefined; seconds: number}, actor: string) =>
      requestHold(services, tx, jobId, how, actor),
    resume: (tx: Kysely<Database>, jobId: string, actor: string) => resume(services, tx, jobId, actor),

    /** Asks a job to end. What it is doing at this moment is finished first; nothing new begins. */
    async cancel(tx: Kysely<Database>, jobId: string, actor: string) {
      const job = await store.lockJob(tx, jobId)
      if (!job) throw new IngotError('NOT_FOUND', `no job '${jobId}'`)
      if (job.finished_at) throw new IngotError('CONFLICT', `job ${jobId} has ended: ${job.state}`)
      if (job.cancel_requested) return job
      await store.requestCancel(tx, jobId)
      const now = await store.selectNow(tx)
      await evidence.changed(tx, {at: now, actor, kind: 'cancel_requested', machineId: job.machine_id, jobId})
      await evidence.enqueue(tx, advanceTask(jobId))
      return {...job, cancel_requested: true}
    },

    /** Takes a machine out of service: its addresses are freed and its BMC's secret is forgotten. */
    async retire(tx: Kysely<Database>, machineId: string, actor: string) {
      const now = await store.selectNow(tx)
      const state = await requireLockedState(tx, machineId)
      const result = next(standingOf(state, await store.selectOpenJob(tx, machineId)), 'retire')
      if ('refused' in result) throw new IngotError('TRANSITION_REFUSED', `cannot retire: ${result.refused}`)
      await ipam.freeOfMachine(tx, machineId, ['boot', 'host', 'bmc'], actor, now)
      await inventory.setBmc(tx, machineId, {driver: 'manual'}, now)
      await enterState(services, tx, state, result.to, {now, actor, because: 'retire was asked for'})
    },

    /** Everything that may be asked for, allowed or not, each with its reason. */
    async actions(machineId: string): Promise<Action[]> {
      const state = await store.selectState(db, machineId)
      if (!state) throw new IngotError('NOT_FOUND', `machine ${machineId} has no state`)
      const standing = standingOf(state, await store.selectOpenJob(db, machineId))
      const {power} = await powerAndUrl(db, machineId)
      return [...actionsOf(standing), ...besideActionsOf(standing, power)]
    },

    state: (machineId: string) => store.selectState(db, machineId),
    states: (machineIds: readonly string[]) => store.selectStates(db, machineIds),
    machineIdsIn: (states: readonly string[]) => store.selectMachineIdsInStates(db, states),
    countStates: () => store.countStates(db),
    openJobOf: (machineId: string, tx: Kysely<Database> = db) => store.selectOpenJob(tx, machineId),
    openJobs: () => store.selectOpenJobs(db),
    jobs: (page: Parameters<typeof store.selectJobs>[1]) => store.selectJobs(db, page),

    /** A job with its attempts and the phases each proved. */
    async job(jobId: string) {
      const job = await store.selectJob(db, jobId)
      if (!job) throw new IngotError('NOT_FOUND', `no job '${jobId}'`)
      const attempts = await store.selectAttempts(db, jobId)
      const phases = await store.selectPhases(
        db,
        attempts.map(attempt => attempt.fence),
      )
      return {job, attempts, phases, eta: await expectedEnd(db, job, phases)}
    },

    /** What a group action would do, and the hash that names it. */
    planGroup: (request: GroupRequest, tx: Kysely<Database> = db) => planGroup(services, tx, request),
    openGroup: (tx: Kysely<Database>, request: GroupRequest, guard: GroupGuard, actor: string) =>
      openGroup(services, tx, request, guard, actor),
    cancelGroup: (tx: Kysely<Database>, id: string, actor: string) => cancelGroup(services, tx, id, actor),
    groups: (limit: number) => groupStore.selectGroups(db, limit),
    async group(id: string) {
      const group = await groupStore.selectGroup(db, id)
      if (!group) throw new IngotError('NOT_FOUND', `no group '${id}'`)
      return {group, members: await groupStore.selectMembers(db, id)}
    },

    /** The database's clock. */
    now: () => store.selectNow(db),
  }

  function simpleJob(
    tx: Kysely<Database>,
    machineId: string,
    event: 'inspect' | 'test' | 'clean' | 'deprovision' | 'service' | 'rescue',
    actor: string,
    extra: {test?: TestPlan; sshKeys?: readonly string[]} = {},
  ) {
    return openJob(services, tx, {
      machineId,
      event,
      actor,
      plan: async (inner, state) => {
        for (const name of ['ramdisk/vmlinuz', 'ramdisk/initrd']) {
          if (!services.artefacts.lookup(name))
            throw new IngotError('ARTEFACT_MISSING', `there is no ${name}: the ramdisk was never built`)
        }
        const origin = {state: state.state, failed_from: state.failed_from}
        return {kind: event, plan: simplePlan(event, {...(await powerAndUrl(inner, machineId)), ...extra, origin})}
      },
    })
  }

  async function powerAndUrl(
    tx: Kysely<Database>,
    machineId: string,
  ): Promise<{power: 'ipmi' | 'manual'; bootUrl: string | null; model: string | null}> {
    const bmc = await inventory.describeBmc(machineId, tx)
    const [boot] = (await ipam.allocationsOf(machineId, tx)).filter(allocation => allocation.purpose === 'boot')
    const prefix = boot ? await ipam.getPrefix(boot.prefixId, undefined, tx) : undefined
    const model = await inventory.modelOf(machineId, tx)
    return {power: bmc?.driver ?? 'manual', bootUrl: prefix?.boot_url ?? null, model}
  }
}
