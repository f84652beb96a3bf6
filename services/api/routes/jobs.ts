/** Jobs: the tracked requests behind every 202. */
import {z} from 'zod'
import {uuidParam} from '../fields.ts'
import {instant, pageOfWholeGroups, pageQuery} from '../page.ts'
import {route} from '../route.ts'
import {jobSummary, jobView} from '../views.ts'

export const jobRoutes = [
  route({
    method: 'get',
    path: '/v1/jobs',
    summary: 'List jobs, newest first',
    permission: 'view',
    changes: false,
    query: z.strictObject({
      limit: pageQuery.limit,
      machine: z.string().min(1).max(64).optional(),
      open: z.stringbool().optional(),
      before: instant.optional().describe('`next` of the page before, or a time'),
    }),
    answers: {200: 'a page of jobs, perhaps a little longer than `limit`'},
    async handle({query, services}) {
      const {open, before} = query
      const machineId = query.machine ? (await services.inventory.requireMachine(query.machine)).id : undefined
      const page = await pageOfWholeGroups(
        limit => services.lifecycle.jobs({machineId, open, before, limit}),
        query.limit,
        job => job.created_at.toISOString(),
        jobSummary,
      )
      return {status: 200, body: page}
    },
  }),
  route({
    method: 'get',
    path: '/v1/jobs/{id}',
    summary: 'Look at a job: its plan, its attempts and what proved each phase',
    permission: 'view',
    changes: false,
    params: uuidParam,
    answers: {200: 'the job', 404: 'there is none'},
    async handle({params, services}) {
      const {job, attempts, phases, eta} = await services.lifecycle.job(params.id)
      return {status: 200, body: jobView(job, attempts, phases, eta)}
    },
  }),
  route({
    method: 'post',
    path: '/v1/jobs/{id}/cancel',
    summary: 'Ask a job to end',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {202: 'the job', 409: 'it has ended'},
    async handle({params, actor, services}, tx) {
      return {status: 202, body: {job: jobSummary(await services.lifecycle.cancel(tx, params.id, actor))}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/jobs/{id}/hold',
    summary: 'Hold a job before its next step, or before the one of a phase that is named',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    body: z.strictObject({
      at: z.string().min(1).max(32).optional().describe('a phase with a step of Ingot’s own'),
      minutes: z.int().min(1).max(10_080).default(1_440).describe('how long at most; then the job fails'),
    }),
    answers: {202: 'the job', 409: 'it has ended, or cannot be held there'},
    async handle({params, body, actor, services}, tx) {
      const how = {at: body.at, seconds: body.minutes * 60}
      return {status: 202, body: {job: jobSummary(await services.lifecycle.hold(tx, params.id, how, actor))}}
    },
  }),
  route({
    method: 'post',
    path: '/v1/jobs/{id}/resume',
    summary: 'Let a held job go on',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {202: 'the job', 409: 'it is not held'},
    async handle({params, actor, services}, tx) {
      return {status: 202, body: {job: jobSummary(await services.lifecycle.resume(tx, params.id, actor))}}
    },
  }),
]
