/** What happened to a machine, and what was observed of it. */
import {z} from 'zod'
import {eventCursor} from '../event-feed.ts'
import {machineParam} from '../fields.ts'
import {pageQuery, toPage} from '../page.ts'
import {route} from '../route.ts'

export const machineHistoryRoutes = [
  route({
    method: 'get',
    path: '/v1/machines/{id}/events',
    summary: 'What happened to a machine, oldest first',
    permission: 'view',
    changes: false,
    params: machineParam,
    query: z.strictObject({limit: pageQuery.limit, after: eventCursor}),
    answers: {200: 'a page of events; `next` is null on the last'},
    async handle({params, query, services, events, signal}) {
      const machine = await services.inventory.requireMachine(params.id)
      const page = await events.read({...query, machineId: machine.id}, signal)
      return {status: 200, body: page.items.length < query.limit ? {...page, next: null} : page}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/evidence',
    summary: 'What was observed of a machine, newest first',
    permission: 'view',
    changes: false,
    params: machineParam,
    query: z.strictObject({
      limit: pageQuery.limit,
      before: z.coerce.number().int().min(1).optional().describe('`next` of the page before'),
    }),
    answers: {200: 'a page of evidence'},
    async handle({params, query, services}) {
      const machine = await services.inventory.requireMachine(params.id)
      const rows = await services.evidence.ofMachine(machine.id, {before: query.before, limit: query.limit + 1})
      const page = toPage(
        rows,
        query.limit,
        row => String(row.id),
        row => row,
      )
      return {status: 200, body: page}
    },
  }),
]
