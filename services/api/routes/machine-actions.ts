/** What is done to machines. An action answers 202 with the job that will carry it out. */
import {z} from 'zod'
import type {ProvisionRequest, ReinstallRequest} from '../../lifecycle/index.ts'
import {requirePermission} from '../authenticate.ts'
import {diskRule, handoff, machineParam, parameters, prefixText, publicKey} from '../fields.ts'
import {instant} from '../page.ts'
import {type Reply, route} from '../route.ts'
import {jobSummary} from '../views.ts'

export const provisionBody = z.strictObject({
  profile: z.string().min(1).max(63).optional(),
  template: z.string().min(1).max(128).optional(),
  image: z.string().min(1).max(128).optional(),
  disk: diskRule.optional(),
  hostname: z.string().min(1).max(253).optional(),
  prefix: prefixText.describe('id or CIDR of the prefix of its host address').optional(),
  parameters: parameters.optional(),
  handoff: handoff.optional(),
})

const speed = z.int().min(0).max(10_000_000).optional().describe('MB/s that must be reached')

export const reinstallBody = provisionBody.extend({
  wipe: z
    .enum(['full', 'fast', 'preserve'])
    .optional()
    .describe('of all its disks before the image is written; `preserve`, the default, leaves those alone that it does not go to'),
})

export const testBody = z.strictObject({
  seconds: z.int().min(1).max(7200).optional().describe('for each of memory, processors and disks; 60 unless told'),
  memory_percent: z.int().min(1).max(95).optional().describe('of its free memory; 80 unless told'),
  min_memory_mb_s: speed,
  min_cpu_mb_s: speed.describe('SHA-256 over all processors together'),
  min_disk_mb_s: speed.describe('reading, of each disk'),
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
  route({
    method: 'post',
    path: '/v1/machines/{id}/reinstall',
    summary: 'Install an active machine again, what it runs unless told otherwise, on the addresses that it holds',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: reinstallBody,
    answers: {202: 'the job', 409: 'not possible now', 422: 'the template or image is not usable'},
    async handle({params, body, actor, permission, services}, tx) {
      if (body.handoff && body.handoff.kind !== 'none')
        requirePermission(permission, 'administer', `handoff '${body.handoff.kind}'`)
      const machine = await services.inventory.requireMachine(params.id, tx)
      return accepted(await services.lifecycle.reinstall(tx, machine.id, body as ReinstallRequest, actor))
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/test',
    summary: 'Burn a machine in: memory, processors, and reading its disks; the results are facts',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: testBody,
    answers: {202: 'the job', 409: 'not possible now'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      const asked = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
      return accepted(await services.lifecycle.test(tx, machine.id, actor, asked))
    },
  }),
  ...(['service', 'rescue'] as const).map(verb =>
    route({
      method: 'post',
      path: `/v1/machines/{id}/${verb}`,
      summary:
        verb === 'service'
          ? 'Stop a host and let the ramdisk stay for work on the hardware'
          : 'Let the ramdisk stay with a shell, to look and mend',
      permission: 'operate',
      changes: true,
      params: machineParam,
      body: z.strictObject({
        ssh_keys: z.array(publicKey).max(16).optional().describe('who may log in as root; without, there is only its console'),
      }),
      answers: {202: 'the job', 409: 'not possible now'},
      async handle({params, body, actor, services}, tx) {
        const machine = await services.inventory.requireMachine(params.id, tx)
        return accepted(await services.lifecycle[verb](tx, machine.id, actor, body.ssh_keys ?? []))
      },
    }),
  ),
  route({
    method: 'post',
    path: '/v1/machines/{id}/leave',
    summary: 'End a stay in the ramdisk: the machine boots its disk and is what it was before',
    permission: 'operate',
    changes: true,
    params: machineParam,
    answers: {202: 'the job', 409: 'it is neither serviced nor in rescue'},
    async handle({params, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      return accepted(await services.lifecycle.leave(tx, machine.id, actor))
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/reserve',
    summary: 'Keep an available machine for somebody until a time',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z.strictObject({for: z.string().min(1).max(255), until: instant}),
    answers: {204: 'it is reserved', 409: 'not possible now'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      await services.lifecycle.reserve(tx, machine.id, body, actor)
      return {status: 204}
    },
  }),
  ...(['adopt', 'unreserve'] as const).map(verb =>
    route({
      method: 'post',
      path: `/v1/machines/{id}/${verb}`,
      summary:
        verb === 'adopt'
          ? 'Take an enrolled machine that runs a host already as active'
          : 'Give a reserved machine back before its time',
      permission: 'operate',
      changes: true,
      params: machineParam,
      answers: {204: 'done', 409: 'not possible now'},
      async handle({params, actor, services}, tx) {
        const machine = await services.inventory.requireMachine(params.id, tx)
        await services.lifecycle[verb](tx, machine.id, actor)
        return {status: 204}
      },
    }),
  ),
  route({
    method: 'put',
    path: '/v1/machines/{id}/maintenance',
    summary: 'Keep automation away from a machine, or let it come back',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z.strictObject({on: z.boolean(), reason: z.string().max(255).default('')}),
    answers: {204: 'done'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      await services.lifecycle.maintain(tx, machine.id, body.on, body.reason, actor)
      return {status: 204}
    },
  }),
  route({
    method: 'put',
    path: '/v1/machines/{id}/quarantine',
    summary: 'Quarantine a machine, or with a null reason lift whatever quarantine it is in',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z.strictObject({reason: z.string().min(1).max(255).nullable()}),
    answers: {204: 'done', 409: 'it is not quarantined'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      await services.lifecycle.quarantine(tx, machine.id, body.reason, actor)
      return {status: 204}
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
    body: z
      .strictObject({
        action: z.enum(['on', 'off', 'cycle']),
        force: z.boolean().optional().describe('with `off`: a job that is open is cancelled at once, and its machine failed'),
      })
      .refine(body => !body.force || body.action === 'off', {path: ['force'], message: 'goes only with off'}),
    answers: {202: 'the job', 409: 'another job is open', 422: 'its power is switched by hand'},
    async handle({params, body, actor, services}, tx) {
      const machine = await services.inventory.requireMachine(params.id, tx)
      return accepted(await services.lifecycle.power(tx, machine.id, body.action, actor, body.force === true))
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
