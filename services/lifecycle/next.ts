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
  return {to: transition.to, transition}
}

export type Action = {readonly action: RequestEvent; readonly allowed: boolean; readonly to?: State; readonly why: string}

/** Every action, allowed or not, each with its reason. */
export function actionsOf(standing: Standing): Action[] {
  return REQUEST_EVENTS.map(action => {
    const result = next(standing, action)
    return 'refused' in result
      ? {action, allowed: false, why: result.refused}
      : {action, allowed: true, to: result.to, why: result.transition.note}
  })
}

function refusalOf(standing: Standing, event: RequestEvent): string | undefined {
  if (standing.openJob) return `job ${standing.openJob.id} (${standing.openJob.kind}) is open`
  if (standing.maintenance && event !== 'retire') return 'it is in maintenance'
  // A person's own `clean` is the word that a disk which was not empty may be wiped.
  if (
    standing.quarantined &&
    event !== 'inspect' &&
    event !== 'retire' &&
    !(event === 'clean' && standing.quarantined.startsWith('disk_not_empty'))
  ) {
    return `it is quarantined: ${standing.quarantined}`
  }
  if (event === 'provision' && standing.state === 'available' && standing.dirty) return 'its disks are not proven wiped'
  return undefined
}

function sourcesOf(event: Event): string {
  return [...new Set((TRANSITIONS as readonly Transition[]).filter(row => row.event === event).flatMap(row => row.from))].join(
    ', ',
  )
}
