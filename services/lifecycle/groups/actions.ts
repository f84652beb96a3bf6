/** What can be done to many machines at once, and what of it destroys. */
import type {Kysely} from 'kysely'
import type {Database} from '../../../lib/schema.ts'
import type {Lifecycle, ProvisionRequest, ReinstallRequest, TestPlan} from '../index.ts'
import type {JobRow} from '../store.ts'
import type {RequestEvent} from '../transitions.ts'

type Params = Readonly<Record<string, unknown>>

export type GroupAction = {
  /** ends what a host does, or what a disk holds: its plan's hash is wanted back */
  readonly destructive: boolean
  /** the row of the transition table that must allow it; a power verb only wants no job open */
  readonly event: RequestEvent | null
  readonly open: (lifecycle: Lifecycle, tx: Kysely<Database>, machineId: string, params: Params, actor: string) => Promise<JobRow>
}

export const GROUP_ACTIONS = {
  inspect: {destructive: false, event: 'inspect', open: (lifecycle, tx, id, _params, actor) => lifecycle.inspect(tx, id, actor)},
  test: {
    destructive: false,
    event: 'test',
    open: (lifecycle, tx, id, params, actor) => lifecycle.test(tx, id, actor, params as Partial<TestPlan>),
  },
  clean: {destructive: true, event: 'clean', open: (lifecycle, tx, id, _params, actor) => lifecycle.clean(tx, id, actor)},
  provision: {
    destructive: true,
    event: 'provision',
    open: (lifecycle, tx, id, params, actor) => lifecycle.provision(tx, id, params as ProvisionRequest, actor),
  },
  reinstall: {
    destructive: true,
    event: 'reinstall',
    open: (lifecycle, tx, id, params, actor) => lifecycle.reinstall(tx, id, params as ReinstallRequest, actor),
  },
  deprovision: {
    destructive: true,
    event: 'deprovision',
    open: (lifecycle, tx, id, _params, actor) => lifecycle.deprovision(tx, id, actor),
  },
  power_on: {destructive: false, event: null, open: (lifecycle, tx, id, _params, actor) => lifecycle.power(tx, id, 'on', actor)},
  power_off: {destructive: true, event: null, open: (lifecycle, tx, id, _params, actor) => lifecycle.power(tx, id, 'off', actor)},
  power_cycle: {
    destructive: true,
    event: null,
    open: (lifecycle, tx, id, _params, actor) => lifecycle.power(tx, id, 'cycle', actor),
  },
} as const satisfies Record<string, GroupAction>

export type GroupActionName = keyof typeof GROUP_ACTIONS

export const GROUP_ACTION_NAMES = Object.keys(GROUP_ACTIONS) as GroupActionName[]
