/**
 * The transition table as data. The next state, the list of actions valid now, the diagram in docs and the property tests derive
 * from it. `request` rows are asked for by people; `outcome` rows follow from what a job proved.
 */
import {type State, UNSTABLE_STATES} from './states.ts'

export type JobKind = 'inspect' | 'clean' | 'provision' | 'deprovision' | 'power'

export type Transition = {
  readonly from: readonly State[]
  readonly event: string
  /** `failed_from`: back to the state it failed from */
  readonly to: State | 'failed_from'
  readonly by: 'request' | 'outcome'
  /** the job that a request opens */
  readonly job?: JobKind
  readonly note: string
}

export const TRANSITIONS = [
  {
    from: ['discovered', 'enrolled', 'failed'],
    event: 'inspect',
    to: 'inspecting',
    by: 'request',
    job: 'inspect',
    note: 'boots the ramdisk, reads only',
  },
  {
    from: ['inspecting'],
    event: 'inspected',
    to: 'enrolled',
    by: 'outcome',
    note: 'facts recorded; power proven, or marked manual',
  },
  {
    from: ['enrolled', 'available', 'failed'],
    event: 'clean',
    to: 'cleaning',
    by: 'request',
    job: 'clean',
    note: 'wipes every disk and reads it back',
  },
  {from: ['cleaning'], event: 'cleaned', to: 'available', by: 'outcome', note: 'the wipe is proven; the only way to available'},
  {from: ['available'], event: 'provision', to: 'provisioning', by: 'request', job: 'provision', note: 'installs a profile'},
  {
    from: ['active'],
    event: 'provision',
    to: 'provisioning',
    by: 'request',
    job: 'provision',
    note: 'installs again; keeps its boot address',
  },
  {from: ['provisioning'], event: 'provisioned', to: 'active', by: 'outcome', note: 'every phase is proven'},
  {
    from: ['active'],
    event: 'deprovision',
    to: 'cleaning',
    by: 'request',
    job: 'deprovision',
    note: 'addresses are freed once it is proven off, then it is wiped',
  },
  {from: ['failed'], event: 'retry', to: 'failed_from', by: 'request', note: 'the failed job again, with the same frozen plan'},
  {
    from: UNSTABLE_STATES,
    event: 'fail',
    to: 'failed',
    by: 'outcome',
    note: 'error, deadline or cancel; never silently available',
  },
  {
    from: ['discovered', 'enrolled', 'available', 'failed'],
    event: 'retire',
    to: 'retired',
    by: 'request',
    note: 'secrets and addresses are freed',
  },
] as const satisfies readonly Transition[]

export type Event = (typeof TRANSITIONS)[number]['event']
export type RequestEvent = Extract<(typeof TRANSITIONS)[number], {by: 'request'}>['event']

export const REQUEST_EVENTS = [
  ...new Set(TRANSITIONS.filter(row => row.by === 'request').map(row => row.event)),
] as RequestEvent[]
