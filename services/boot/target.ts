/**
 * The boot target: what a machine gets at this moment, and why. Pure: boot serves it, `ingot explain` prints it, the tests check it.
 *
 * Whatever is not surely meant leads to the machine's own disk. Only a committed look at an open job, whose machine we power-cycled for
 * it, leads to a stage that may write; and even that stage can write nothing before its claim.
 */
import {createReasons, type Decision} from '../../lib/decision.ts'

export type BootFacts = {
  readonly mac: string
  readonly databaseAway: boolean
  readonly machine: {readonly id: string; readonly name: string; readonly state: string} | null
  readonly job: {
    readonly id: string
    readonly kind: 'inspect' | 'test' | 'clean' | 'provision' | 'deprovision' | 'service' | 'rescue' | 'power'
    readonly fence: number
    readonly cancelRequested: boolean
    readonly powered: boolean
    readonly served: boolean
    readonly claimed: boolean
    /** a stay in the ramdisk that is over: what follows is the disk */
    readonly leaving?: boolean
  } | null
  /** an enrolment window open on the prefix that the machine speaks from */
  readonly window: {readonly id: string} | null
}

export type Target =
  | {readonly kind: 'local'}
  | {readonly kind: 'none'}
  | {
      readonly kind: 'ramdisk'
      readonly stage: ReadingStage
      readonly via: {readonly window: string} | {readonly fence: number}
      readonly jobId: string | null
    }
  | {
      readonly kind: 'ramdisk'
      readonly stage: 'clean' | 'install'
      readonly via: {readonly fence: number}
      readonly jobId: string
    }

/** Stages whose ramdisk cannot claim, and so writes nothing by itself. They are served as often as the machine asks. */
export type ReadingStage = 'inspect' | 'test' | 'service' | 'rescue'

export const STAGE_OF = {
  inspect: 'inspect',
  test: 'test',
  clean: 'clean',
  deprovision: 'clean',
  provision: 'install',
  service: 'service',
  rescue: 'rescue',
} as const

export function decideTarget(facts: BootFacts): Decision<Target> {
  const reasons = createReasons()
  const {machine, job, window} = facts
  const done = (answer: Target): Decision<Target> => ({answer, reasons: reasons.list()})

  if (facts.databaseAway) {
    reasons.because('database_away', 'the database does not answer, and nothing but the disk is safe without it', 'lifecycle')
    return done({kind: 'local'})
  }
  if (!machine) {
    if (!window) {
      reasons.because(
        'unknown_mac',
        `${facts.mac} is declared nowhere and no enrolment window is open where it speaks from`,
        'inventory',
      )
      return done({kind: 'none'})
    }
    reasons.because('open_window', `${facts.mac} is unknown, and window ${window.id} is open on its prefix`, 'inventory')
    return done({kind: 'ramdisk', stage: 'inspect', via: {window: window.id}, jobId: null})
  }
  if (!job) {
    if (machine.state === 'discovered' && window) {
      reasons.because(
        'open_window',
        `'${machine.name}' was never inspected, and window ${window.id} is open on its prefix`,
        'inventory',
      )
      return done({kind: 'ramdisk', stage: 'inspect', via: {window: window.id}, jobId: null})
    }
    reasons.because('no_open_job', `'${machine.name}' is ${machine.state} and has no open job`, 'lifecycle')
    return done({kind: 'local'})
  }
  if (job.cancelRequested) {
    reasons.because('job_cancelled', `job ${job.id} is being cancelled`, 'lifecycle')
    return done({kind: 'local'})
  }
  if (job.kind === 'power') {
    reasons.because('power_job', `job ${job.id} only switches power`, 'lifecycle')
    return done({kind: 'local'})
  }
  const stage = STAGE_OF[job.kind]
  reasons.because('open_job', `'${machine.name}' has the open job ${job.id} (${job.kind})`, 'lifecycle')
  if (job.leaving) {
    reasons.because('leaving', 'its stay in the ramdisk was ended', 'lifecycle')
    return done({kind: 'local'})
  }
  if (stage !== 'clean' && stage !== 'install') return done({kind: 'ramdisk', stage, via: {fence: job.fence}, jobId: job.id})
  if (!job.powered) {
    reasons.because(
      'not_power_cycled',
      'this boot began before the job power-cycled the machine, so it is not the job’s',
      'lifecycle',
    )
    return done({kind: 'local'})
  }
  if (job.served) {
    const why = job.claimed ? 'it was claimed: what follows is the disk' : 'an attempt serves its installer once'
    reasons.because('already_served', `attempt ${job.fence} has fetched its installer; ${why}`, 'lifecycle')
    return done({kind: 'local'})
  }
  reasons.because('attempt', `attempt ${job.fence} has not fetched its installer yet`, 'lifecycle')
  return done({kind: 'ramdisk', stage, via: {fence: job.fence}, jobId: job.id})
}
