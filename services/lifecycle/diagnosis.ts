/** Why a phase is overdue, as closely as the evidence of its attempt tells. Pure. */
import type {JobCause} from '../../lib/schema.ts'
import {type CauseCode, cause} from './causes.ts'
import {PHASES, type Phase} from './phases.ts'

type Seen = {readonly id: number; readonly kind: string; readonly detail: Record<string, unknown>}

type Rule = {
  readonly phases: readonly Phase[]
  /** evidence that tells more than that nothing came; `without` is what contradicts it */
  readonly kind: string
  readonly without?: string
  readonly code: CauseCode
  readonly say: (seen: Seen) => string
}

/** In order: the first that fits is the cause. */
const RULES: readonly Rule[] = [
  {
    phases: ['dhcp_seen', 'loader_fetched', 'ramdisk_up'],
    kind: 'other_server_seen',
    code: 'DHCP_OTHER_SERVER',
    say: seen => `it took the answer of the DHCP server at ${String(seen.detail.server ?? 'an unknown address')}`,
  },
  {
    phases: ['dhcp_seen'],
    kind: 'dhcp_renewed',
    without: 'dhcp_seen',
    code: 'BOOT_ORDER_DISK',
    say: seen =>
      `it was to boot from the network, but a system on its disk asked for an address (${String(seen.detail.vendorClass || 'no vendor class')})`,
  },
]

export function diagnose(phase: Phase, evidence: readonly Seen[]): JobCause {
  for (const rule of RULES) {
    if (!rule.phases.includes(phase)) continue
    if (rule.without && evidence.some(row => row.kind === rule.without)) continue
    const seen = evidence.findLast(row => row.kind === rule.kind)
    if (seen) return cause(rule.code, rule.say(seen), [seen.id])
  }
  return cause(PHASES[phase].overdue)
}
