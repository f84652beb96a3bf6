/** What is known of how long phases take, where deadlines and expectations are made of it. */
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import {etaOf, LEARNED_PHASES, type Pace, phaseSeconds} from './deadlines.ts'
import * as paceStore from './pace-store.ts'
import type {Phase} from './phases.ts'
import type {JobPlan} from './plan-types.ts'
import * as store from './store.ts'

/** @returns undefined for a phase whose deadline is not learned, and for a machine whose model nobody knows */
export async function paceOf(tx: Kysely<Database>, plan: JobPlan, phase: Phase): Promise<Pace | undefined> {
  if (!plan.model || !LEARNED_PHASES.includes(phase)) return undefined
  return (await paceStore.selectPaces(tx, plan.model, [phase])).get(phase)
}

/** Learns from phases that were just proven; those that a later one implied tell nothing about when they were. */
export async function learn(
  tx: Kysely<Database>,
  input: {
    plan: JobPlan
    proven: readonly {phase: string; at: Date}[]
    fresh: readonly {phase: string; evidence: Record<string, unknown>}[]
    now: Date
  },
): Promise<void> {
  const {plan, proven, fresh, now} = input
  if (!plan.model) return
  const seen = fresh.filter(proof => proof.evidence.implied_by === undefined).map(proof => proof.phase)
  await paceStore.insertPhaseTimes(tx, plan.model, phaseSeconds(plan.phases, proven, seen), now)
}

/** When an open job will be done; null where nobody can say. */
export async function expectedEnd(
  db: Kysely<Database>,
  job: store.JobRow,
  phases: readonly store.PhaseRow[],
): Promise<Date | null> {
  const plan = job.plan as unknown as JobPlan
  if (job.finished_at || job.state === 'held' || !plan.model) return null
  const mine = phases.filter(row => row.fence === job.fence)
  const proven = mine.map(row => row.phase)
  const coming = plan.phases.filter(phase => !proven.includes(phase))
  const since = new Date(Math.max(job.created_at.getTime(), ...mine.map(row => row.at.getTime())))
  const paces = await paceStore.selectPaces(db, plan.model, coming)
  return etaOf({plan: plan.phases, proven, since, now: await store.selectNow(db)}, paces) ?? null
}
