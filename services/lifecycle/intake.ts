/**
 * What an unknown machine sends inside an enrolment window becomes a machine here. Its hello makes it `discovered`, opens an inspection
 * that is already under way, and gives it for good the address it was lent; its facts then arrive as that inspection's evidence.
 */
import type {Kysely} from 'kysely'
import {type Mac, parseMac} from '../../lib/addresses.ts'
import type {Database} from '../../lib/schema.ts'
import type {EvidenceRow} from '../evidence/index.ts'
import type {MachineRow, WindowRow} from '../inventory/index.ts'
import {enterState, insertJob, requireLockedState, simplePlan} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'

/** Evidence kinds of a machine that answers for itself inside a window. Its detail names the window. */
export const WINDOW_HELLO = 'window_hello'
export const WINDOW_FACTS = 'window_facts'

export async function takeIn(services: LifecycleServices, evidenceId: number): Promise<void> {
  const seen = await services.evidence.byId(evidenceId)
  const mac = seen?.mac ? parseMac(seen.mac) : undefined
  if (!seen || !mac) return
  const {log} = services
  await services.db.transaction().execute(async tx => {
    const now = await store.selectNow(tx)
    const window = await services.inventory.windowById(String(seen.detail.window_id), tx)
    if (!window) return log.warn({mac}, 'a machine named a window that does not exist')
    const machine = await services.inventory.machineByMac(mac, tx)
    const job = machine
      ? await inspectionOf(services, tx, machine, window, now)
      : await enrol(services, tx, {mac, window, seen, now})
    if (!job) return log.info({mac, window: window.id}, 'not taken in: known and settled, or its window is closed or full')
    await services.evidence.record(tx, {
      at: seen.at,
      kind: seen.kind === WINDOW_FACTS ? 'facts' : 'ramdisk_up',
      source: 'intake',
      machineId: job.machine_id,
      jobId: job.id,
      fence: job.fence,
      mac,
      detail: seen.kind === WINDOW_FACTS ? ((seen.detail.facts ?? {}) as Record<string, unknown>) : seen.detail,
      task: advanceTask(job.id),
    })
  })
}

/** The open inspection of a machine that is known, opened now if it was only discovered. */
async function inspectionOf(
  services: LifecycleServices,
  tx: Kysely<Database>,
  machine: MachineRow,
  window: WindowRow,
  now: Date,
): Promise<store.JobRow | undefined> {
  const state = await requireLockedState(tx, machine.id)
  const open = await store.selectOpenJob(tx, machine.id)
  if (open) return open.kind === 'inspect' ? open : undefined
  if (state.state !== 'discovered' || window.closed_at || window.until <= now) return undefined
  return openInspection(services, tx, machine.id, window, now)
}

async function enrol(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {mac: Mac; window: WindowRow; seen: EvidenceRow; now: Date},
): Promise<store.JobRow | undefined> {
  const {mac, window, seen, now} = input
  // The count holds until the commit: newcomers of one window come in one after the other.
  const locked = await services.inventory.lockWindow(tx, window.id)
  if (!locked || locked.closed_at || locked.until <= now) return undefined
  if ((await store.countMachinesOfWindow(tx, window.id)) >= locked.machine_limit) return undefined
  const firmware = seen.detail.firmware === 'uefi' ? 'uefi' : seen.detail.firmware === 'bios' ? 'bios' : undefined
  const machine = await services.inventory.createMachine(tx, {macs: [mac], firmware, origin: 'window'})
  const actor = `window:${window.id}`
  await services.ipam.bootAddress(tx, {machineId: machine.id, name: machine.name, mac, prefixId: window.prefix_id}, actor, now)
  await store.insertState(tx, {machine_id: machine.id, state: 'discovered', state_since: now, window_id: window.id})
  await services.evidence.changed(tx, {
    at: now,
    actor,
    kind: 'machine_discovered',
    machineId: machine.id,
    subject: machine.name,
    detail: {mac, window_id: window.id},
  })
  await services.inventory.forgetSighting(tx, mac)
  return openInspection(services, tx, machine.id, window, now)
}

async function openInspection(
  services: LifecycleServices,
  tx: Kysely<Database>,
  machineId: string,
  window: WindowRow,
  now: Date,
): Promise<store.JobRow> {
  const state = await requireLockedState(tx, machineId)
  const prefix = await services.ipam.getPrefix(window.prefix_id, undefined, tx)
  const actor = `window:${window.id}`
  const bmc = await services.inventory.describeBmc(machineId, tx)
  const plan = simplePlan('inspect', {power: bmc?.driver ?? 'manual', bootUrl: prefix?.boot_url ?? null, windowId: window.id})
  const job = await insertJob(services, tx, {machineId, kind: 'inspect', plan, actor, now})
  await enterState(services, tx, state, 'inspecting', {
    now,
    actor,
    jobId: job.id,
    because: 'its ramdisk reported inside an open window',
  })
  return job
}
