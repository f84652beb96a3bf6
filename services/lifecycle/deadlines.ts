/** Until when a phase may last. Pure. */
import {PHASES, type Phase} from './phases.ts'
import type {JobPlan} from './plan-types.ts'

/** A person who switches machines on by hand gets a day. */
const BY_HAND_S = 24 * 3600

export function deadlineFor(phase: Phase, plan: Pick<JobPlan, 'power'>, now: Date): Date {
  const byHand = plan.power === 'manual' && (phase === 'power_cycled' || phase === 'stopped')
  return new Date(now.getTime() + (byHand ? BY_HAND_S : PHASES[phase].deadline_s) * 1000)
}
