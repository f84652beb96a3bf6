/** Actions on many machines: a plan that is looked at, then the same plan by its hash. */
import {z} from 'zod'
import type {GroupPlan, GroupRequest, GroupRow, MemberRow} from '../../lifecycle/index.ts'
import {GROUP_ACTION_NAMES} from '../../lifecycle/index.ts'
import {requirePermission} from '../authenticate.ts'
import {uuidParam} from '../fields.ts'
import {checkInput} from '../input.ts'
import {pageQuery} from '../page.ts'
import {route} from '../route.ts'
import type {Permission} from '../tokens.ts'
import {provisionBody, reinstallBody, testBody} from './machine-actions.ts'

const none = z.strictObject({})
/** What each action may be told, as its route for one machine takes it; a host name is one machine's own. */
const PARAMS = {
  inspect: none,
  test: testBody,
  clean: none,
  provision: provisionBody.omit({hostname: true}),
  reinstall: reinstallBody.omit({hostname: true}),
  deprovision: none,
  power_on: none,
  power_off: none,
  power_cycle: none,
} as const satisfies Record<(typeof GROUP_ACTION_NAMES)[number], z.ZodType>

const request = {
  action: z.enum(GROUP_ACTION_NAMES),
  selector: z.string().max(2048).describe('such as `state=available attribute.rack=r1|r2 fact.memory_bytes>=64000000000`'),
  params: z.record(z.string(), z.unknown()).default({}).describe('what the route of the action takes for one machine'),
}

export const groupRoutes = [
  route({
    method: 'post',
    path: '/v1/groups/plan',
    summary: 'What an action would do to the machines that a selector names; changes nothing',
    permission: 'operate',
    changes: true,
    body: z.strictObject(request),
    answers: {200: 'the plan, and the hash that names it', 422: 'the selector or the parameters are not usable'},
    async handle({body, services}, tx) {
      return {status: 200, body: planView(await services.lifecycle.planGroup(checked(body), tx))}
    },
  }),
  route({
    method: 'post',
    path: '/v1/groups',
    summary: 'Do it: canaries first, then in batches, until too many have failed; what destroys needs the hash of its plan',
    permission: 'operate',
    changes: true,
    body: z.strictObject({
      ...request,
      plan_hash: z
        .string()
        .regex(/^[0-9a-f]{64}$/)
        .optional(),
      canary: z.int().min(0).max(1000).optional().describe('how many go first and have to end; 1 unless told'),
      batch: z.int().min(1).max(1000).optional().describe('how many at once; 10 unless told'),
      stop_share: z.number().min(0).max(1).optional().describe('the share of failures that is borne; 0.2 unless told'),
      beyond_limit: z.boolean().optional().describe('more than the hourly limit; needs `administer`'),
    }),
    answers: {202: 'the group', 409: 'not confirmed, or the plan has changed', 429: 'over the hourly limit'},
    async handle({body, actor, permission, services}, tx) {
      if (body.beyond_limit) requirePermission(permission, 'administer', 'beyond_limit')
      const guard = {
        ...{hash: body.plan_hash, canary: body.canary, batch: body.batch},
        ...{stopShare: body.stop_share, beyondLimit: body.beyond_limit},
      }
      const group = await services.lifecycle.openGroup(tx, checked(body, permission), guard, actor)
      return {status: 202, body: {group: groupView(group)}, headers: {location: `/v1/groups/${group.id}`}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/groups',
    summary: 'List group actions, newest first',
    permission: 'view',
    changes: false,
    query: z.strictObject({limit: pageQuery.limit}),
    answers: {200: 'group actions'},
    async handle({query, services}) {
      return {status: 200, body: {items: (await services.lifecycle.groups(query.limit)).map(groupView), next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/groups/{id}',
    summary: 'Look at a group action: its machines, their jobs and what became of them',
    permission: 'view',
    changes: false,
    params: uuidParam,
    answers: {200: 'the group', 404: 'there is none'},
    async handle({params, services}) {
      const {group, members} = await services.lifecycle.group(params.id)
      return {status: 200, body: {...groupView(group), members: members.map(memberView)}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/groups/{id}/cancel',
    summary: 'Start nothing more; jobs that are open go on',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {202: 'the group', 409: 'it has ended'},
    async handle({params, actor, services}, tx) {
      return {status: 202, body: {group: groupView(await services.lifecycle.cancelGroup(tx, params.id, actor))}}
    },
  }),
]

function checked(
  body: {action: GroupRequest['action']; selector: string; params: unknown},
  permission?: Permission,
): GroupRequest {
  const params = checkInput(PARAMS[body.action], body.params) as Record<string, unknown> & {handoff?: {kind: string}}
  if (permission && params.handoff && params.handoff.kind !== 'none')
    requirePermission(permission, 'administer', `handoff '${params.handoff.kind}'`)
  return {action: body.action, selector: body.selector, params}
}

function planView({machineIds: _ids, params: _params, ...plan}: GroupPlan) {
  return plan
}

/** Without its parameters: they may hold secrets. */
function groupView({params: _params, ...group}: GroupRow) {
  return group
}

function memberView({group_id: _group, ...member}: MemberRow) {
  return member
}
