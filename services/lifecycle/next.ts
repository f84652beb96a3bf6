/** What an event does to a machine, and what is possible now. Pure; everything comes from the transition table. */
import type {State} from './states.ts'
import {type Event, REQUEST_EVENTS, type RequestEvent, TRANSITIONS, type Transition} from './transitions.ts'

/** What the rules look at. */
export type Standing = {
  readonly state: State
  readonly failedFrom: State | null
  readonly maintenance: boolean
  readonly quarantined: string | null
  readonly dirty: boolean
  /** the open job, if any */
  readonly openJob: {readonly id: string; readonly kind: string} | null
  /** where the job whose outcome this is found the machine */
  readonly origin?: State | null
}

export type Next = {readonly to: State; readonly transition: Transition} | {readonly refused: string}

/** The state that follows, or why not. */
export function next(standing: Standing, event: Event): Next {
  const transition = (TRANSITIONS as readonly Transition[]).find(row => row.event === event && row.from.includes(standing.state))
  if (!transition) return {refused: `the state is '${standing.state}'; '${event}' needs ${sourcesOf(event)}`}
  if (transition.by === 'request') {
    const refused = refusalOf(standing, event as RequestEvent)
    if (refused) return {refused}
  }
  if (transition.to === 'failed_from') {
    return standing.failedFrom ? {to: standing.failedFrom, transition} : {refused: 'nothing is recorded that it failed from'}
  }
  if (transition.to === 'origin') {
    if (!standing.origin) return {refused: 'nothing is recorded that it came from'}
    // Somebody may have worked on its disks between a test that failed and the one that did not.
    return {to: standing.origin === 'available' && standing.dirty ? 'enrolled' : standing.origin, transition}
  }
  return {to: transition.to, transition}
}

export type Action = {readonly action: string; readonly allowed: boolean; readonly to?: State; readonly why: string}

/** Every action, allowed or not, each with its reason. */
export function actionsOf(standing: Standing): Action[] {
  return REQUEST_EVENTS.map(action => {
    const result = next(standing, action)
    return 'refused' in result
      ? {action, allowed: false, why: result.refused}
      : {action, allowed: true, to: result.to, why: result.transition.note}
  })
}

/** What may be asked for beside the table: none of it moves the machine from its state. */
export function besideActionsOf(standing: Standing, power: 'ipmi' | 'manual'): Action[] {
  const {openJob, maintenance, quarantined} = standing
  const busy = openJob ? `job ${openJob.id} (${openJob.kind}) is open` : undefined
  const byHand = power === 'manual' ? 'its power is switched by hand' : undefined
  const stays = openJob?.kind === 'service' || openJob?.kind === 'rescue'
  const rows: [action: string, refused: string | undefined, note: string][] = [
    ['leave', stays ? undefined : 'it stays in no ramdisk', 'ends its stay in the ramdisk'],
    ['power_on', byHand ?? busy, 'switches it on, and sees it so'],
    ['power_off', byHand ?? (busy && `${busy}; --force cancels it`), 'switches it off, and sees it so'],
    ['power_cycle', byHand ?? busy, 'off, seen off, on'],
    ['maintenance_begin', maintenance ? 'it is in maintenance' : undefined, 'keeps automation away'],
    ['maintenance_end', maintenance ? undefined : 'it is not in maintenance', 'lets automation come back'],
    ['quarantine', quarantined ? `it is quarantined: ${quarantined}` : undefined, 'refuses what would change it'],
    ['quarantine_lift', quarantined ? undefined : 'it is not quarantined', 'a person’s word that it is as it should be'],
  ]
  return rows.map(([action, refused, note]) => ({action, allowed: refused === undefined, why: refused ?? note}))
}

/** What people may do at a machine that automation is to leave alone. */
const IN_MAINTENANCE: readonly RequestEvent[] = ['retire', 'service', 'rescue', 'unreserve']
const IN_QUARANTINE: readonly RequestEvent[] = ['inspect', 'retire', 'rescue', 'unreserve']
/** A person's own word that a disk which was not empty may be wiped, or that what it holds is a host. */
const AT_A_PERSONS_WORD: readonly RequestEvent[] = ['clean', 'adopt']

function refusalOf(standing: Standing, event: RequestEvent): string | undefined {
  const {openJob, maintenance, quarantined} = standing
  if (openJob) return `job ${openJob.id} (${openJob.kind}) is open`
  if (maintenance && !IN_MAINTENANCE.includes(event)) return 'it is in maintenance'
  const wordGiven = AT_A_PERSONS_WORD.includes(event) && quarantined?.startsWith('disk_not_empty')
  if (quarantined && !IN_QUARANTINE.includes(event) && !wordGiven) return `it is quarantined: ${quarantined}`
  if ((event === 'provision' || event === 'reserve') && standing.dirty) return 'its disks are not proven wiped'
  return undefined
}

function sourcesOf(event: Event): string {
  return [...new Set((TRANSITIONS as readonly Transition[]).filter(row => row.event === event).flatMap(row => row.from))].join(
    ', ',
  )
}
