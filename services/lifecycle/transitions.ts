/**
 * The transition table as data. The next state, the list of actions valid now, the diagram in docs and the property tests derive
 * from it. `request` rows are asked for by people; `outcome` rows follow from what a job proved.
 */
import {type State, UNSTABLE_STATES} from './states.ts'

export type JobKind = 'inspect' | 'test' | 'clean' | 'provision' | 'deprovision' | 'service' | 'rescue' | 'power'

export type Transition = {
  readonly from: readonly State[]
  readonly event: string
  /** `failed_from`: back to the state it failed from; `origin`: back to where its job found it */
  readonly to: State | 'failed_from' | 'origin'
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
    from: ['enrolled', 'available'],
    event: 'test',
    to: 'testing',
    by: 'request',
    job: 'test',
    note: 'burns it in: memory, processors, and reading its disks',
  },
  {from: ['testing'], event: 'tested', to: 'origin', by: 'outcome', note: 'within its limits; the results are facts'},
  {
    from: ['enrolled'],
    event: 'adopt',
    to: 'active',
    by: 'request',
    note: 'it runs a host already, which Ingot leaves alone; it boots its own disk',
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
  {from: ['available'], event: 'reserve', to: 'reserved', by: 'request', note: 'kept for somebody, until a time'},
  {from: ['reserved'], event: 'unreserve', to: 'available', by: 'request', note: 'given back before its time'},
  {from: ['reserved'], event: 'reservation_expired', to: 'available', by: 'outcome', note: 'its time is over'},
  {
    from: ['available', 'reserved'],
    event: 'provision',
    to: 'provisioning',
    by: 'request',
    job: 'provision',
    note: 'installs a profile',
  },
  {
    from: ['active'],
    event: 'reinstall',
    to: 'provisioning',
    by: 'request',
    job: 'provision',
    note: 'installs again, what it runs unless told otherwise; keeps its addresses',
  },
  {from: ['provisioning'], event: 'provisioned', to: 'active', by: 'outcome', note: 'every phase is proven'},
  {
    from: ['active'],
    event: 'service',
    to: 'servicing',
    by: 'request',
    job: 'service',
    note: 'the ramdisk stays for somebody’s work on it, until `leave`',
  },
  {from: ['servicing'], event: 'serviced', to: 'origin', by: 'outcome', note: 'left; it boots its own disk again'},
  {
    from: ['active', 'failed'],
    event: 'rescue',
    to: 'rescue',
    by: 'request',
    job: 'rescue',
    note: 'the ramdisk stays with a shell, until `leave`',
  },
  {from: ['rescue'], event: 'rescued', to: 'origin', by: 'outcome', note: 'left; it is what it was before'},
  {
    from: ['active'],
    event: 'deprovision',
    to: 'cleaning',
    by: 'request',
    job: 'deprovision',
    note: 'addresses are freed once it is proven off, then it is wiped',
  },
  {
    from: ['failed'],
    event: 'retry',
    to: 'failed_from',
    by: 'request',
    note: 'the failed job’s frozen plan, from where it failed as far as that can be trusted',
  },
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
