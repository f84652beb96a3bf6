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
import {type Action, actionsOf, next} from './next.ts'
import type {JobPlan, PowerVerb} from './plan-types.ts'
import {type ProvisionRequest, planProvision} from './provision.ts'
import {enterState, insertJob, openJob, requireLockedState, simplePlan, standingOf} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'
import type {JobKind} from './transitions.ts'

export {type Claims, createClaims} from './claim.ts'
export {WINDOW_FACTS, WINDOW_HELLO} from './intake.ts'
export type {Action} from './next.ts'
export type {InstallPlan, JobPlan, PlanFile, PowerVerb} from './plan-types.ts'
export type {ProvisionRequest} from './provision.ts'
export type {LifecycleServices} from './services.ts'
export type {AttemptRow, JobRow, MachineStateRow, PhaseRow} from './store.ts'
export {selectNow as databaseNow, selectOpenJobs as openJobsOf} from './store.ts'
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

    inspect: (tx: Kysely<Database>, machineId: string, actor: string) => simpleJob(tx, machineId, 'inspect', 'inspect', actor),
    clean: (tx: Kysely<Database>, machineId: string, actor: string) => simpleJob(tx, machineId, 'clean', 'clean', actor),
    deprovision: (tx: Kysely<Database>, machineId: string, actor: string) =>
      simpleJob(tx, machineId, 'deprovision', 'deprovision', actor),

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

    /** The failed job again, with the plan that was frozen for it. */
    retry(tx: Kysely<Database>, machineId: string, actor: string) {
      return openJob(services, tx, {
        machineId,
        event: 'retry',
        actor,
        plan: async inner => {
          const failed = await store.selectLastFailedJob(inner, machineId)
          if (!failed) throw new IngotError('TRANSITION_REFUSED', 'no failed job is recorded to try again')
          return {kind: failed.kind, plan: failed.plan as unknown as JobPlan}
        },
      })
    },

    /** A power order as a job of its own; the machine's state stays what it is. */
    async power(tx: Kysely<Database>, machineId: string, verb: PowerVerb, actor: string) {
      const now = await store.selectNow(tx)
      await requireLockedState(tx, machineId)
      const open = await store.selectOpenJob(tx, machineId)
      if (open)
        throw new IngotError('JOB_OPEN', `cannot power ${verb}: job ${open.id} (${open.kind}, phase ${open.phase}) is open`)
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

    async actions(machineId: string): Promise<Action[]> {
      const state = await store.selectState(db, machineId)
      if (!state) throw new IngotError('NOT_FOUND', `machine ${machineId} has no state`)
      return actionsOf(standingOf(state, await store.selectOpenJob(db, machineId)))
    },

    state: (machineId: string) => store.selectState(db, machineId),
    states: (machineIds: readonly string[]) => store.selectStates(db, machineIds),
    machineIdsIn: (states: readonly string[]) => store.selectMachineIdsInStates(db, states),
    countStates: () => store.countStates(db),
    openJobOf: (machineId: string) => store.selectOpenJob(db, machineId),
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
      return {job, attempts, phases}
    },

    /** The database's clock. */
    now: () => store.selectNow(db),
  }

  function simpleJob(
    tx: Kysely<Database>,
    machineId: string,
    event: 'inspect' | 'clean' | 'deprovision',
    kind: JobKind,
    actor: string,
  ) {
    return openJob(services, tx, {
      machineId,
      event,
      actor,
      plan: async inner => {
        for (const name of ['ramdisk/vmlinuz', 'ramdisk/initrd']) {
          if (!services.artefacts.lookup(name))
            throw new IngotError('ARTEFACT_MISSING', `there is no ${name}: the ramdisk was never built`)
        }
        return {kind, plan: simplePlan(kind, await powerAndUrl(inner, machineId))}
      },
    })
  }

  async function powerAndUrl(
    tx: Kysely<Database>,
    machineId: string,
  ): Promise<{power: 'ipmi' | 'manual'; bootUrl: string | null}> {
    const bmc = await inventory.describeBmc(machineId, tx)
    const [boot] = (await ipam.allocationsOf(machineId, tx)).filter(allocation => allocation.purpose === 'boot')
    const prefix = boot ? await ipam.getPrefix(boot.prefixId, undefined, tx) : undefined
    return {power: bmc?.driver ?? 'manual', bootUrl: prefix?.boot_url ?? null}
  }
}
