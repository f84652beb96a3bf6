/**
 * Phases as data: what proves each, what Ingot itself does for it, how long it may take, and what to tell a person when it does not
 * come. A plan is an ordered list of phases; a later proof implies the earlier ones that only wait for evidence.
 */
import type {CauseCode} from './causes.ts'
import type {JobKind} from './transitions.ts'

export type Phase =
  | 'planned'
  | 'network_ready'
  | 'withdrawn'
  | 'stopped'
  | 'addresses_freed'
  | 'power_cycled'
  | 'dhcp_seen'
  | 'loader_fetched'
  | 'ramdisk_up'
  | 'claimed'
  | 'wiped'
  | 'disk_written'
  | 'local_boot_set'
  | 'first_boot'
  | 'facts_recorded'
  | 'power_proven'
  | 'powered_off'
  | 'handed_off'
  | 'tested'
  | 'results_recorded'
  | 'ready'
  | 'attended'
  | 'left'
  | 'power_done'

export type PhaseRow = {
  /** evidence kinds of this attempt that prove it */
  readonly provenBy: readonly string[]
  /** what Ingot does for it; a phase without is waited for */
  readonly step?: StepName
  /** evidence that must be there before the step can run */
  readonly needs?: string
  /** whether evidence of a later phase proves it too */
  readonly implied: boolean
  /** false where its failing is no reason to begin again: the disk is done by then */
  readonly again?: false
  /** a retry goes on here, since all before it holds still */
  readonly resumes?: true
  readonly deadline_s: number
  /** the cause when it did not come in time, as far as nothing else tells more */
  readonly overdue: CauseCode
}

export type StepName =
  | 'check-network'
  | 'power-cycle'
  | 'power-off'
  | 'free-addresses'
  | 'record-facts'
  | 'prove-power'
  | 'hand-off'
  | 'record-results'
  | 'boot-disk'
  | 'withdraw-handoff'
  | 'power-verb'

const waits = {provenBy: [], implied: false} as const

export const PHASES: Record<Phase, PhaseRow> = {
  planned: {...waits, provenBy: ['planned'], deadline_s: 60, overdue: 'PLAN_STUCK'},
  network_ready: {
    ...waits,
    step: 'check-network',
    deadline_s: 60,
    overdue: 'NETWORK_STUCK',
  },
  withdrawn: {...waits, step: 'withdraw-handoff', deadline_s: 300, overdue: 'WITHDRAW_OVERDUE'},
  stopped: {
    ...waits,
    step: 'power-off',
    deadline_s: 600,
    overdue: 'POWER_OFF_UNPROVEN',
  },
  addresses_freed: {
    ...waits,
    step: 'free-addresses',
    deadline_s: 60,
    overdue: 'FREE_STUCK',
  },
  power_cycled: {
    provenBy: [],
    step: 'power-cycle',
    implied: true,
    deadline_s: 600,
    overdue: 'POWER_FAILED',
  },
  dhcp_seen: {
    provenBy: ['dhcp_seen'],
    implied: true,
    deadline_s: 900,
    overdue: 'NO_DHCP',
  },
  loader_fetched: {
    provenBy: ['script_fetched'],
    implied: true,
    deadline_s: 300,
    overdue: 'NO_SCRIPT',
  },
  ramdisk_up: {
    provenBy: ['ramdisk_up'],
    implied: true,
    deadline_s: 600,
    overdue: 'RAMDISK_SILENT',
  },
  claimed: {
    provenBy: ['claimed'],
    implied: true,
    deadline_s: 300,
    overdue: 'NO_CLAIM',
  },
  wiped: {
    provenBy: ['wiped'],
    implied: false,
    deadline_s: 24 * 3600,
    overdue: 'WIPE_OVERDUE',
  },
  disk_written: {
    provenBy: ['disk_written'],
    implied: true,
    deadline_s: 3600,
    overdue: 'WRITE_OVERDUE',
  },
  local_boot_set: {
    provenBy: ['local_boot_set'],
    implied: true,
    deadline_s: 300,
    overdue: 'LOCAL_BOOT_UNSET',
  },
  first_boot: {
    provenBy: ['first_boot'],
    implied: false,
    deadline_s: 1200,
    overdue: 'NO_PHONE_HOME',
  },
  facts_recorded: {
    ...waits,
    step: 'record-facts',
    needs: 'facts',
    deadline_s: 900,
    overdue: 'NO_FACTS',
  },
  power_proven: {
    ...waits,
    step: 'prove-power',
    deadline_s: 120,
    overdue: 'POWER_UNPROVEN',
  },
  powered_off: {
    ...waits,
    step: 'power-off',
    again: false,
    resumes: true,
    deadline_s: 600,
    overdue: 'POWER_OFF_UNPROVEN',
  },
  handed_off: {
    ...waits,
    provenBy: ['handed_off'],
    step: 'hand-off',
    again: false,
    resumes: true,
    deadline_s: 3600,
    overdue: 'HANDOFF_OVERDUE',
  },
  tested: {
    ...waits,
    provenBy: ['tested'],
    again: false,
    deadline_s: 6 * 3600,
    overdue: 'TEST_OVERDUE',
  },
  results_recorded: {
    ...waits,
    step: 'record-results',
    needs: 'tested',
    again: false,
    deadline_s: 60,
    overdue: 'RESULTS_STUCK',
  },
  ready: {
    provenBy: ['ready'],
    implied: true,
    deadline_s: 600,
    overdue: 'RAMDISK_NOT_READY',
  },
  attended: {
    ...waits,
    provenBy: ['leave_asked'],
    again: false,
    deadline_s: 24 * 3600,
    overdue: 'STAY_OVERDUE',
  },
  left: {
    ...waits,
    provenBy: ['left'],
    step: 'boot-disk',
    again: false,
    resumes: true,
    deadline_s: 900,
    overdue: 'NOT_LEFT',
  },
  power_done: {
    ...waits,
    step: 'power-verb',
    deadline_s: 120,
    overdue: 'POWER_FAILED',
  },
}

const NETBOOT = ['power_cycled', 'dhcp_seen', 'loader_fetched', 'ramdisk_up'] as const satisfies readonly Phase[]

/** The phases of each kind of job, in order. */
export const PLANS: Record<JobKind, readonly Phase[]> = {
  inspect: ['planned', ...NETBOOT, 'facts_recorded', 'power_proven', 'powered_off'],
  test: ['planned', ...NETBOOT, 'tested', 'results_recorded', 'powered_off'],
  clean: ['planned', ...NETBOOT, 'claimed', 'wiped', 'powered_off'],
  provision: [
    'planned',
    'network_ready',
    ...NETBOOT,
    'claimed',
    'disk_written',
    'local_boot_set',
    'first_boot',
    'facts_recorded',
    'handed_off',
  ],
  deprovision: ['planned', 'withdrawn', 'stopped', 'addresses_freed', ...NETBOOT, 'claimed', 'wiped', 'powered_off'],
  service: ['planned', ...NETBOOT, 'ready', 'attended', 'left'],
  rescue: ['planned', ...NETBOOT, 'ready', 'attended', 'left'],
  power: ['planned', 'power_done'],
}

/** From this phase on the machine's disk is what it boots, though its job is still open. */
export const LEAVING: Phase = 'left'

/** Tries of each kind of job before the machine is failed. */
export const MAX_ATTEMPTS: Record<JobKind, number> = {
  inspect: 1,
  test: 2,
  clean: 2,
  provision: 2,
  deprovision: 2,
  service: 2,
  rescue: 2,
  power: 1,
}
