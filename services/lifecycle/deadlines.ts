/**
 * Until when a phase may last, and when a job will be done. Pure.
 *
 * A phase in which Ingot waits for a machine has a deadline that is learned: how long machines of the same model took for it, p99 times a
 * factor, once enough of them are known. It never goes below a floor, since a quick fleet must not fail the first slow machine, nor far
 * above the general deadline. Steps of Ingot's own, and what people do, keep the general ones.
 */
import {PHASES, type Phase} from './phases.ts'
import type {JobPlan} from './plan-types.ts'

/** How long a phase took on machines of one model. */
export type Pace = {readonly samples: number; readonly p50_s: number; readonly p99_s: number}

/** A person who switches machines on by hand gets a day. */
const BY_HAND_S = 24 * 3600

export const LEARNING = {samples: 20, factor: 3, floorOfGeneral: 0.1, floor_s: 60, ceilingOfGeneral: 4} as const

/** Those that wait for a machine, and for nobody else. */
export const LEARNED_PHASES: readonly Phase[] = [
  'dhcp_seen',
  'loader_fetched',
  'ramdisk_up',
  'claimed',
  'wiped',
  'disk_written',
  'local_boot_set',
  'first_boot',
  'tested',
  'ready',
]

export function deadlineFor(phase: Phase, plan: Pick<JobPlan, 'power' | 'test'>, now: Date, pace?: Pace): Date {
  const byHand = plan.power === 'manual' && (phase === 'power_cycled' || phase === 'stopped')
  const seconds = byHand ? BY_HAND_S : Math.max(lastsAtMost_s(phase, pace), phase === 'tested' ? askedFor_s(plan) : 0)
  return new Date(now.getTime() + seconds * 1000)
}

export function lastsAtMost_s(phase: Phase, pace: Pace | undefined): number {
  const general = PHASES[phase].deadline_s
  if (!pace || pace.samples < LEARNING.samples || !LEARNED_PHASES.includes(phase)) return general
  const floor = Math.max(LEARNING.floor_s, general * LEARNING.floorOfGeneral)
  return Math.ceil(Math.min(Math.max(pace.p99_s * LEARNING.factor, floor), general * LEARNING.ceilingOfGeneral))
}

/** A burn-in lasts as long as it was asked to, whatever others were asked. */
function askedFor_s(plan: Pick<JobPlan, 'test'>): number {
  return (plan.test?.seconds ?? 0) * 3 + PHASES.ready.deadline_s
}

/** Fewer say nothing about when a job will be done. */
const ETA_SAMPLES = 3

/**
 * When a job will be done, as machines of its model usually are.
 * @param since when the current phase began
 * @returns undefined where too little is known of a phase that is still to come
 */
export function etaOf(
  job: {plan: readonly Phase[]; proven: readonly string[]; since: Date; now: Date},
  paces: ReadonlyMap<string, Pace>,
): Date | undefined {
  const coming = job.plan.filter(phase => !job.proven.includes(phase))
  let seconds = 0
  for (const [index, phase] of coming.entries()) {
    const pace = paces.get(phase)
    if (!pace || pace.samples < ETA_SAMPLES) return undefined
    const spent = index === 0 ? (job.now.getTime() - job.since.getTime()) / 1000 : 0
    seconds += Math.max(0, pace.p50_s - spent)
  }
  return new Date(job.now.getTime() + seconds * 1000)
}

/** How long each of these phases took: from the one before it in the plan, which may have been proven long ago. */
export function phaseSeconds(
  plan: readonly Phase[],
  proven: readonly {readonly phase: string; readonly at: Date}[],
  fresh: readonly string[],
): {phase: Phase; seconds: number}[] {
  const at = new Map(proven.map(row => [row.phase, row.at]))
  return plan.flatMap((phase, index) => {
    const before = plan[index - 1]
    const [from, until] = [before && at.get(before), at.get(phase)]
    if (!fresh.includes(phase) || !from || !until) return []
    return [{phase, seconds: Math.max(0, (until.getTime() - from.getTime()) / 1000)}]
  })
}
