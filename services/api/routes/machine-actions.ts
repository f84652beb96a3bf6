/** What is done to machines. An action answers 202 with the job that will carry it out. */
import {z} from 'zod'
import type {ProvisionRequest} from '../../lifecycle/index.ts'
import {requirePermission} from '../authenticate.ts'
import {diskRule, handoff, machineParam, parameters, prefixText} from '../fields.ts'
import {type Reply, route} from '../route.ts'
import {jobSummary} from '../views.ts'

const provisionBody = z.strictObject({
  profile: z.string().min(1).max(63).optional(),
  template: z.string().min(1).max(128).optional(),
  image: z.string().min(1).max(128).optional(),
  disk: diskRule.optional(),
  hostname: z.string().min(1).max(253).optional(),
  prefix: prefixText.describe('id or CIDR of the prefix of its host address').optional(),
  parameters: parameters.optional(),
  handoff: handoff.optional(),
})

export const machineActionRoutes = [
  route({
    method: 'get',
    path: '/v1/machines/{id}/actions',
    summary: 'What is possible now, and why the rest is not',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the actions'},
    async handle({params, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      return {status: 200, body: {items: await services.lifecycle.actions(machine.id)}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/provision',
    summary: 'Install a profile on a machine; a handoff of its own needs `administer`',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: provisionBody,
    answers: {202: 'the job', 409: 'not possible now', 422: 'the template or image is not usable'},
    async handle({params, body, actor, permission, services}, tx) {
      // A playbook runs on the control host; one that an administrator put into a profile may be used by all.
      if (body.handoff && body.handoff.kind !== 'none')
        requirePermission(permission, 'administer', `handoff '${body.handoff.kind}'`)
      const machine = await services.inventory.requireMachine(params.id, tx)
      return accepted(await services.lifecycle.provision(tx, machine.id, body as ProvisionRequest, actor))
    },
  }),
  ...(['inspect', 'clean', 'deprovision', 'retry'] as const).map(verb =>
    route({
      method: 'post',
      path: `/v1/machines/{id}/${verb}`,
      summary: {
        inspect: 'Boot the ramdisk and record what the machine is',
        clean: 'Wipe every disk of a machine and read it back',
        deprovision: 'Give a machine back: power off, free its addresses, wipe',
        retry: 'Do the failed job again, with its frozen plan',
      }[verb],
      permission: 'operate',
      changes: true,
      params: machineParam,
      answers: {202: 'the job', 409: 'not possible now'},
      async handle({params, actor, services}, tx) {
        const machine = await services.inventory.requireMachine(params.id, tx)
        return accepted(await services.lifecycle[verb](tx, machine.id, actor))
      },
    }),
  ),
  route({
    method: 'post',
    path: '/v1/machines/{id}/power',
    summary: 'Switch a machine on or off, or cycle it',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z.strictObject({action: z.enum(['on', 'off', 'cycle'])}),
    answers: {202: 'the job', 409: 'another job is open', 422: 'its power is switched by hand'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      return accepted(await services.lifecycle.power(tx, machine.id, body.action, actor))
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/power',
    summary: 'Ask its BMC for the power state now',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the power state', 502: 'the BMC does not answer'},
    async handle({params, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      const bmc = await services.inventory.openBmc(machine.id)
      if (!bmc || bmc.driver === 'manual') return {status: 200, body: {state: 'unknown', driver: 'manual'}}
      const {provenAt: _provenAt, ...access} = bmc
      const status = await services.power.status({machineId: machine.id, ...access})
      return {status: 200, body: {...status, driver: bmc.driver}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/retire',
    summary: 'Take a machine out of service',
    permission: 'operate',
    changes: true,
    params: machineParam,
    answers: {204: 'it is retired', 409: 'not possible now'},
    async handle({params, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      await services.lifecycle.retire(tx, machine.id, actor)
      return {status: 204}
    },
  }),
]

function accepted(job: Parameters<typeof jobSummary>[0]): Reply {
  return {status: 202, body: {job: jobSummary(job)}, headers: {location: `/v1/jobs/${job.id}`}}
}
