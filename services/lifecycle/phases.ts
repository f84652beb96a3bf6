/**
 * Phases as data: what proves each, what Ingot itself does for it, how long it may take, and what to tell a person when it does not
 * come. A plan is an ordered list of phases; a later proof implies the earlier ones that only wait for evidence.
 */
import type {JobKind} from './transitions.ts'

export type Phase =
  | 'planned'
  | 'network_ready'
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
  readonly overdue: {readonly code: string; readonly detail: string; readonly mend: string}
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
  | 'power-verb'

const waits = {provenBy: [], implied: false} as const

export const PHASES: Record<Phase, PhaseRow> = {
  planned: {...waits, provenBy: ['planned'], deadline_s: 60, overdue: stuck('PLAN_STUCK', 'the plan was never taken up')},
  network_ready: {
    ...waits,
    step: 'check-network',
    deadline_s: 60,
    overdue: stuck('NETWORK_STUCK', 'its addresses could not be confirmed'),
  },
  stopped: {
    ...waits,
    step: 'power-off',
    deadline_s: 600,
    overdue: {code: 'POWER_OFF_UNPROVEN', detail: 'it was not seen off', mend: 'Switch it off by hand, then retry.'},
  },
  addresses_freed: {
    ...waits,
    step: 'free-addresses',
    deadline_s: 60,
    overdue: stuck('FREE_STUCK', 'its addresses could not be freed'),
  },
  power_cycled: {
    provenBy: [],
    step: 'power-cycle',
    implied: true,
    deadline_s: 600,
    overdue: {code: 'POWER_FAILED', detail: 'it could not be power-cycled', mend: 'See `ingot power status`; check the BMC.'},
  },
  dhcp_seen: {
    provenBy: ['dhcp_seen'],
    implied: true,
    deadline_s: 900,
    overdue: {
      code: 'NO_DHCP',
      detail: 'it was powered on but no netboot packet of it was seen',
      mend: 'Check that it boots from the network first, its cabling, and that no port waits for STP or LACP.',
    },
  },
  loader_fetched: {
    provenBy: ['script_fetched'],
    implied: true,
    deadline_s: 300,
    overdue: {
      code: 'NO_SCRIPT',
      detail: 'it asked for an address but never fetched its boot script',
      mend: '`ingot explain <machine>` shows what it was offered; look for another DHCP server, and at the boot URL.',
    },
  },
  ramdisk_up: {
    provenBy: ['ramdisk_up'],
    implied: true,
    deadline_s: 600,
    overdue: {
      code: 'RAMDISK_SILENT',
      detail: 'it fetched its boot script but the ramdisk did not report',
      mend: 'Look at its console; a driver for its network card may be missing from the ramdisk.',
    },
  },
  claimed: {
    provenBy: ['claimed'],
    implied: true,
    deadline_s: 300,
    overdue: {
      code: 'NO_CLAIM',
      detail: 'the ramdisk came up but did not claim the job',
      mend: 'Look at its console, then retry.',
    },
  },
  wiped: {
    provenBy: ['wiped'],
    implied: false,
    deadline_s: 24 * 3600,
    overdue: {code: 'WIPE_OVERDUE', detail: 'the wipe did not end', mend: 'Look at the disks; a failing disk can take days.'},
  },
  disk_written: {
    provenBy: ['disk_written'],
    implied: true,
    deadline_s: 3600,
    overdue: {
      code: 'WRITE_OVERDUE',
      detail: 'the image was not written in time',
      mend: 'Look at the progress events and the disk.',
    },
  },
  local_boot_set: {
    provenBy: ['local_boot_set'],
    implied: true,
    deadline_s: 300,
    overdue: {code: 'LOCAL_BOOT_UNSET', detail: 'booting from disk was not set', mend: 'Look at the ramdisk’s log, then retry.'},
  },
  first_boot: {
    provenBy: ['first_boot'],
    implied: false,
    deadline_s: 1200,
    overdue: {
      code: 'NO_PHONE_HOME',
      detail: 'the disk was written but the installed system did not phone home',
      mend: 'Look at its console; check its address and gateway, and that firmware boots the disk.',
    },
  },
  facts_recorded: {
    ...waits,
    step: 'record-facts',
    needs: 'facts',
    deadline_s: 900,
    overdue: stuck('NO_FACTS', 'no facts arrived'),
  },
  power_proven: {
    ...waits,
    step: 'prove-power',
    deadline_s: 120,
    overdue: stuck('POWER_UNPROVEN', 'power control could not be proven'),
  },
  powered_off: {
    ...waits,
    step: 'power-off',
    again: false,
    resumes: true,
    deadline_s: 600,
    overdue: stuck('POWER_OFF_UNPROVEN', 'it was not seen off'),
  },
  handed_off: {
    ...waits,
    provenBy: ['handed_off'],
    step: 'hand-off',
    again: false,
    resumes: true,
    deadline_s: 3600,
    overdue: {code: 'HANDOFF_OVERDUE', detail: 'the handoff did not end', mend: 'Look at the handoff’s output, then retry.'},
  },
  tested: {
    ...waits,
    provenBy: ['tested'],
    again: false,
    deadline_s: 6 * 3600,
    overdue: {code: 'TEST_OVERDUE', detail: 'the burn-in did not end', mend: 'Look at its console: it may have hung under load.'},
  },
  results_recorded: {
    ...waits,
    step: 'record-results',
    needs: 'tested',
    again: false,
    deadline_s: 60,
    overdue: stuck('RESULTS_STUCK', 'the results could not be recorded'),
  },
  ready: {
    provenBy: ['ready'],
    implied: true,
    deadline_s: 600,
    overdue: {
      code: 'RAMDISK_NOT_READY',
      detail: 'the ramdisk came up but did not say that it stays',
      mend: 'Look at its console, then retry.',
    },
  },
  attended: {
    ...waits,
    provenBy: ['leave_asked'],
    again: false,
    deadline_s: 24 * 3600,
    overdue: {
      code: 'STAY_OVERDUE',
      detail: 'nobody ended the stay in the ramdisk',
      mend: 'Retry and `ingot leave <machine>` when the work is done.',
    },
  },
  left: {
    ...waits,
    provenBy: ['left'],
    step: 'boot-disk',
    again: false,
    resumes: true,
    deadline_s: 900,
    overdue: {code: 'NOT_LEFT', detail: 'it did not leave the ramdisk', mend: 'Boot it from its disk by hand, then retry.'},
  },
  power_done: {
    ...waits,
    step: 'power-verb',
    deadline_s: 120,
    overdue: stuck('POWER_FAILED', 'the power order was not confirmed'),
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
  deprovision: ['planned', 'stopped', 'addresses_freed', ...NETBOOT, 'claimed', 'wiped', 'powered_off'],
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

function stuck(code: string, detail: string): PhaseRow['overdue'] {
  return {code, detail, mend: 'Look at `ingot events` for this machine, then retry.'}
}
