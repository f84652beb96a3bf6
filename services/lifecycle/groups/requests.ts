/**
 * Group actions with a guard. A selector becomes a plan: which machines, what share of each kind, who would be refused and why. Its hash
 * names action, parameters and machines; whatever destroys is done only when that hash comes back, so that nobody acts on a list that
 * has changed since it was looked at. And destructive groups may touch only so many machines an hour.
 */
import {createHash} from 'node:crypto'
import type {Kysely} from 'kysely'
import {IngotError} from '../../../lib/errors.ts'
import {canonicalJson} from '../../../lib/json.ts'
import type {Database} from '../../../lib/schema.ts'
import {next} from '../next.ts'
import {standingOf} from '../requests.ts'
import type {LifecycleServices} from '../services.ts'
import * as lifecycleStore from '../store.ts'
import {GROUP_ACTIONS, type GroupActionName} from './actions.ts'
import {asksFacts, parseSelector, type Selectable, selects} from './selector.ts'
import * as store from './store.ts'

export type GroupRequest = {
  readonly action: GroupActionName
  readonly selector: string
  readonly params: Readonly<Record<string, unknown>>
}

export type GroupPlan = GroupRequest & {
  readonly destructive: boolean
  readonly count: number
  readonly total: number
  /** of all machines */
  readonly share: number
  /** by state, profile and model: how many of how many */
  readonly groups: readonly {readonly by: string; readonly value: string; readonly count: number; readonly of: number}[]
  readonly sample: readonly string[]
  /** selected, but not possible now */
  readonly refused: readonly {readonly machine: string; readonly why: string}[]
  readonly hash: string
  readonly machineIds: readonly string[]
}

export type GroupGuard = {
  readonly hash?: string | undefined
  readonly canary?: number | undefined
  readonly batch?: number | undefined
  readonly stopShare?: number | undefined
  /** more than the hourly limit, at the word of somebody who may say so */
  readonly beyondLimit?: boolean | undefined
}

export const GROUP_DEFAULTS = {canary: 1, batch: 10, stopShare: 0.2} as const
/** Machines that destructive groups may touch in an hour: a share of all, but always a few. */
export const HOURLY = {share: 0.25, least: 10, window_ms: 3_600_000} as const
const SAMPLE = 10
const REFUSED_SHOWN = 20

export async function planGroup(services: LifecycleServices, tx: Kysely<Database>, request: GroupRequest): Promise<GroupPlan> {
  const parsed = parseSelector(request.selector)
  if ('wrong' in parsed) {
    throw new IngotError('INVALID_INPUT', parsed.wrong, {
      errors: [{field: 'selector', code: 'selector', message: parsed.wrong}],
    })
  }
  const all = await readSelectables(services, tx, asksFacts(parsed.terms))
  const chosen = all.filter(machine => selects(parsed.terms, machine))
  const {event, destructive} = GROUP_ACTIONS[request.action]
  const open = new Map((await lifecycleStore.selectOpenJobs(tx)).map(job => [job.machine_id, job]))
  const judged = chosen.map(machine => {
    const job = open.get(machine.id)
    if (event === null) return {machine, why: job ? `job ${job.id} (${job.kind}) is open` : undefined}
    const result = next(standingOf(machine.row, job), event)
    return {machine, why: 'refused' in result ? result.refused : undefined}
  })
  const taken = judged.filter(row => row.why === undefined).map(row => row.machine)
  const machineIds = taken.map(machine => machine.id)
  const text = canonicalJson({action: request.action, params: request.params, machines: machineIds.toSorted()})
  return {
    ...request,
    destructive,
    count: taken.length,
    total: all.length,
    share: all.length === 0 ? 0 : taken.length / all.length,
    groups: (['state', 'profile', 'model'] as const).flatMap(by => sharesBy(by, taken, all)),
    sample: taken.slice(0, SAMPLE).map(machine => machine.name),
    refused: judged
      .flatMap(({machine, why}) => (why === undefined ? [] : [{machine: machine.name, why}]))
      .slice(0, REFUSED_SHOWN),
    hash: createHash('sha256').update(text).digest('hex'),
    machineIds,
  }
}

export async function openGroup(
  services: LifecycleServices,
  tx: Kysely<Database>,
  request: GroupRequest,
  guard: GroupGuard,
  actor: string,
): Promise<store.GroupRow> {
  await store.lockPlanning(tx)
  const plan = await planGroup(services, tx, request)
  if (plan.count === 0) throw new IngotError('CONFLICT', 'the selector names no machine on which this is possible now')
  if (guard.hash === undefined ? plan.destructive : guard.hash !== plan.hash) {
    const what = guard.hash === undefined ? 'its plan has to be confirmed' : 'the plan has changed since it was looked at'
    throw new IngotError('GROUP_UNCONFIRMED', `${what}: ${plan.count} of ${plan.total} machines, hash ${plan.hash}`)
  }
  const now = await lifecycleStore.selectNow(tx)
  if (plan.destructive && !guard.beyondLimit) {
    const limit = Math.max(HOURLY.least, Math.floor(plan.total * HOURLY.share))
    const used = await store.countDestructive(tx, new Date(now.getTime() - HOURLY.window_ms))
    if (used + plan.count > limit) {
      const detail = `${plan.count} machines more than the ${used} of this hour would be over the limit of ${limit}`
      throw new IngotError('GROUP_LIMIT', detail)
    }
  }
  const group = await store.insertGroup(
    tx,
    {
      action: request.action,
      selector: request.selector,
      params: JSON.stringify(request.params),
      destructive: plan.destructive,
      plan_hash: plan.hash,
      state: 'working',
      canary: Math.min(guard.canary ?? GROUP_DEFAULTS.canary, plan.count),
      batch: guard.batch ?? GROUP_DEFAULTS.batch,
      stop_share: guard.stopShare ?? GROUP_DEFAULTS.stopShare,
      requested_by: actor,
      created_at: now,
    },
    plan.machineIds,
  )
  const detail = {action: request.action, selector: request.selector, machines: plan.count, plan_hash: plan.hash}
  await services.evidence.changed(tx, {at: now, actor, kind: 'group_opened', subject: group.id, detail})
  return group
}

export async function cancelGroup(
  services: LifecycleServices,
  tx: Kysely<Database>,
  id: string,
  actor: string,
): Promise<store.GroupRow> {
  const group = await store.lockGroup(tx, id)
  if (!group) throw new IngotError('NOT_FOUND', `no group '${id}'`)
  if (group.finished_at) throw new IngotError('CONFLICT', `group ${id} has ended: ${group.state}`)
  await store.updateGroup(tx, id, {cancel_requested: true})
  const at = await lifecycleStore.selectNow(tx)
  await services.evidence.changed(tx, {at, actor, kind: 'group_cancel_requested', subject: id})
  return {...group, cancel_requested: true}
}

type Known = Selectable & {readonly id: string; readonly row: lifecycleStore.MachineStateRow}

async function readSelectables(services: LifecycleServices, tx: Kysely<Database>, withFacts: boolean): Promise<Known[]> {
  const machines = await services.inventory.selectableMachines(tx, withFacts)
  const states = new Map((await lifecycleStore.selectAllStates(tx)).map(row => [row.machine_id, row]))
  return machines.flatMap(machine => {
    const row = states.get(machine.id)
    if (!row || row.state === 'retired') return []
    const profile = row.provisioned?.profile
    return [
      {
        ...machine,
        row,
        state: row.state,
        profile: typeof profile === 'string' ? profile : null,
        maintenance: row.maintenance,
        quarantined: row.quarantined !== null,
      },
    ]
  })
}

function sharesBy(
  by: 'state' | 'profile' | 'model',
  taken: readonly Selectable[],
  all: readonly Selectable[],
): GroupPlan['groups'] {
  const count = (list: readonly Selectable[], value: string) => list.filter(machine => machine[by] === value).length
  const values = new Set(taken.flatMap(machine => machine[by] ?? []))
  return [...values].toSorted().map(value => ({by, value, count: count(taken, value), of: count(all, value)}))
}
