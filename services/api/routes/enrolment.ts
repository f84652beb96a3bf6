/** Enrolment: windows in which unknown machines may enrol themselves, and what was seen on the wire. */
import {z} from 'zod'
import {parseMac} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import {Secret} from '../../../lib/secret.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {prefixText, uuidParam} from '../fields.ts'
import {pageOfWholeGroups, pageQuery, toPage} from '../page.ts'
import {route} from '../route.ts'
import {sightingView, windowView} from '../views.ts'

/** Windows are opened by hand: there are never so many. */
const WINDOWS_AT_MOST = 10_000

const macCursor = z
  .string()
  .refine(text => parseMac(text) !== undefined, 'is not the `next` of a page')
  .optional()
  .describe('`next` of the page before')

export const enrolmentRoutes = [
  route({
    method: 'post',
    path: '/v1/windows',
    summary: 'Open an enrolment window on a prefix',
    permission: 'operate',
    changes: true,
    body: z.strictObject({
      prefix: prefixText,
      minutes: z
        .number()
        .positive()
        .max(7 * 24 * 60)
        .default(60),
      clean: z.boolean().default(false).describe('wipe newcomers by itself, if every disk is blank'),
      machine_limit: z.int().min(1).max(100_000).default(256),
      bmc: z
        .strictObject({username: z.string().min(1).max(16), password: z.string().min(1).max(20)})
        .optional()
        .describe('credentials that the newcomers’ BMCs come with'),
    }),
    answers: {201: 'the window'},
    async handle({body, actor, services}, tx) {
      const {inventory, ipam, evidence} = services
      const prefix = await ipam.getPrefix(body.prefix, undefined, tx)
      if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${body.prefix}'`)
      const now = await databaseNow(tx)
      const window = await inventory.openWindow(tx, {
        prefixId: prefix.id,
        until: new Date(now.getTime() + body.minutes * 60_000),
        clean: body.clean,
        machineLimit: body.machine_limit,
        bmcUsername: body.bmc?.username,
        bmcPassword: body.bmc && new Secret(body.bmc.password),
        createdBy: actor,
      })
      await evidence.changed(tx, {
        at: now,
        actor,
        kind: 'window_opened',
        subject: window.id,
        detail: {prefix: prefix.cidr, until: window.until},
      })
      return {status: 201, body: windowView(window), headers: {location: `/v1/windows/${window.id}`}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/windows',
    summary: 'List enrolment windows, newest first',
    permission: 'view',
    changes: false,
    query: z.strictObject({
      limit: pageQuery.limit,
      after: z.guid('is not the `next` of a page').optional().describe('`next` of the page before'),
    }),
    answers: {200: 'a page of windows'},
    async handle({query, services}) {
      const rows = await services.inventory.listWindows(WINDOWS_AT_MOST)
      const start = query.after === undefined ? 0 : rows.findIndex(row => row.id === query.after) + 1
      if (query.after !== undefined && start === 0) throw new IngotError('NOT_FOUND', `no window '${query.after}'`)
      return {status: 200, body: toPage(rows.slice(start), query.limit, row => row.id, windowView)}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/windows/{id}',
    summary: 'Close a window now',
    permission: 'operate',
    changes: true,
    params: uuidParam,
    answers: {204: 'it is closed', 404: 'there is none open'},
    async handle({params, actor, services}, tx) {
      const now = await databaseNow(tx)
      if (!(await services.inventory.closeWindow(tx, params.id, now)))
        throw new IngotError('NOT_FOUND', `no open window '${params.id}'`)
      await services.evidence.changed(tx, {at: now, actor, kind: 'window_closed', subject: params.id})
      return {status: 204}
    },
  }),
  route({
    method: 'get',
    path: '/v1/sightings',
    summary: 'Unknown MACs seen on the wire',
    permission: 'view',
    changes: false,
    query: z.strictObject({limit: pageQuery.limit, after: macCursor}),
    answers: {200: 'a page of sightings, perhaps a little longer than `limit`'},
    async handle({query, services}) {
      const {after} = query
      const page = await pageOfWholeGroups(
        limit => services.inventory.listSightings({after, limit}),
        query.limit,
        row => row.mac,
        sightingView,
      )
      return {status: 200, body: page}
    },
  }),
]
