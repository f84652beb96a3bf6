/** What happened to a machine, what was observed of it, and what the wire would give it now. */
import {z} from 'zod'
import {type Mac, parseMac} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import {eventCursor} from '../event-feed.ts'
import {machineParam} from '../fields.ts'
import {pageQuery, toPage} from '../page.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'

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
  route({
    method: 'get',
    path: '/v1/machines/{id}/explain',
    summary: 'What the wire would give a machine at each stage, and why; also for a MAC never seen',
    permission: 'view',
    changes: false,
    params: z.object({id: z.string().min(1).max(64).describe('MAC, id or name')}),
    query: z.strictObject({arch: z.string().min(1).max(20).optional(), stage: z.string().min(1).max(20).optional()}),
    answers: {200: 'the stages'},
    async handle({params, query, services}) {
      const mac = parseMac(params.id) ?? (await bootMacOf(services, params.id))
      return {status: 200, body: {mac, stages: await services.explain(mac, query)}}
    },
  }),
]

async function bootMacOf(services: ApiServices, idOrName: string): Promise<Mac> {
  const machine = await services.inventory.requireMachine(idOrName)
  const mac = machine.interfaces.find(row => row.is_boot)?.mac
  if (!mac) throw new IngotError('NOT_FOUND', `machine '${machine.name}' has no boot interface`)
  return mac as Mac
}
