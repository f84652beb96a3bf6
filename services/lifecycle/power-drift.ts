/**
 * Looks at machines' power now and then, at a gentle rate, and says when it is not what it should be: somebody pressed a button, an
 * operating system shut down, a supply failed. Nothing is switched: what a person did is for a person to judge.
 *
 * Whoever runs takes a few machines at a time, so that several processes share the work and a big site is simply looked at less often.
 */

import {withTx} from '../../lib/db.ts'
import {IngotError, messageOf} from '../../lib/errors.ts'
import {type Looked, takeForLook, writeLook} from './power-drift-store.ts'
import type {LifecycleServices} from './services.ts'
import {selectNow} from './store.ts'

type Services = Pick<LifecycleServices, 'db' | 'evidence' | 'inventory' | 'power' | 'log'>
type Observed = {readonly state: 'on' | 'off' | 'unknown'; readonly why?: string}

/** Each machine this often, as far as the rate below allows; a silent BMC three times as seldom. */
const EVERY_MS = 5 * 60_000
const SILENT_EVERY_MS = 15 * 60_000
/** Machines of one round, asked at once: few beside the 200 operations that power allows. */
const AT_ONCE = 20
const LOOK_MS = 12_000

/** One round. @returns how many machines were looked at */
export async function lookAtPower(services: Services, now: Date, signal: AbortSignal): Promise<number> {
  const turn = {
    now,
    askedBefore: new Date(now.getTime() - EVERY_MS),
    silentBefore: new Date(now.getTime() - SILENT_EVERY_MS),
    limit: AT_ONCE,
  }
  const taken = await takeForLook(services.db, turn)
  await Promise.all(taken.map(before => lookAtOne(services, before, signal)))
  return taken.length
}

async function lookAtOne(services: Services, before: Looked, signal: AbortSignal): Promise<void> {
  const observed = await observe(services, before.machine_id, signal)
  if (!observed) return
  await withTx(services.db, async tx => {
    const now = await selectNow(tx)
    const seen = {power_observed: observed.state, power_at: now, power_drift_since: driftSince(before, observed.state, now)}
    if (!(await writeLook(tx, before, seen))) return
    for (const {kind, detail} of changesOf(before, observed)) {
      await services.evidence.changed(tx, {at: now, actor: 'power', kind, machineId: before.machine_id, detail})
    }
  })
}

/** Undefined where there is nothing to ask: a machine that is switched by hand, or a process that is stopping. */
async function observe({inventory, power, log}: Services, machineId: string, signal: AbortSignal): Promise<Observed | undefined> {
  const bmc = await inventory.openBmc(machineId)
  if (!bmc || bmc.driver === 'manual') return undefined
  const {provenAt: _provenAt, ...access} = bmc
  const limit = AbortSignal.timeout(LOOK_MS)
  try {
    const {state} = await power.status({machineId, ...access}, {signal: AbortSignal.any([signal, limit]), unasked: true})
    return {state}
  } catch (error) {
    if (signal.aborted) return undefined
    if (error !== limit.reason && !(error instanceof IngotError && error.code.startsWith('POWER_'))) throw error
    const why = error === limit.reason ? `no answer within ${LOOK_MS / 1000} s` : messageOf(error)
    log.debug({machine: machineId, why}, 'the power of a machine could not be looked at')
    return {state: 'unknown', why}
  }
}

/** A BMC that does not answer ends no drift and begins none. */
function driftSince({power_desired, power_drift_since}: Looked, state: Observed['state'], now: Date): Date | null {
  if (state === 'unknown') return power_drift_since
  return power_desired === null || power_desired === state ? null : (power_drift_since ?? now)
}

type Change = {readonly kind: string; readonly detail: Record<string, unknown>}

/** What people are told: each change once, not each look. */
function changesOf(before: Looked, {state, why}: Observed): readonly Change[] {
  const {power_desired: desired, power_observed: was, power_drift_since: since} = before
  const changes: Change[] = []
  if (state === 'unknown' && was !== null && was !== 'unknown') changes.push({kind: 'bmc_lost', detail: {why}})
  if (state !== 'unknown' && was === 'unknown') changes.push({kind: 'bmc_found', detail: {observed: state}})
  if (state === 'unknown' || desired === null) return changes
  if (desired !== state && since === null) changes.push({kind: 'power_drifted', detail: {desired, observed: state}})
  if (desired === state && since !== null) changes.push({kind: 'power_settled', detail: {observed: state, drifted_since: since}})
  return changes
}
