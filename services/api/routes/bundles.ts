/** All that is known of a machine or a job in one file, redacted. */
import {makeBundle} from '../bundle.ts'
import {machineParam, uuidParam} from '../fields.ts'
import {route} from '../route.ts'

export const bundleRoutes = [
  route({
    method: 'get',
    path: '/v1/machines/{id}/bundle',
    summary: 'All that is known of a machine as one tar: history, evidence, rendered files, logs, versions; redacted',
    permission: 'operate',
    changes: false,
    params: machineParam,
    answers: {200: 'a tar'},
    async handle({params, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      return {status: 200, tar: await makeBundle(services, machine.id)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/jobs/{id}/bundle',
    summary: 'All that is known of a job and its machine as one tar; redacted',
    permission: 'operate',
    changes: false,
    params: uuidParam,
    answers: {200: 'a tar', 404: 'there is no such job'},
    async handle({params, services}) {
      const {job} = await services.lifecycle.job(params.id)
      return {status: 200, tar: await makeBundle(services, job.machine_id, job.id)}
    },
  }),
]
