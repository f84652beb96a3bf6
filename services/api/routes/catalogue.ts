/** Profiles, images and the event feed. */
import type {Kysely} from 'kysely'
import {z} from 'zod'
import {IngotError} from '../../../lib/errors.ts'
import type {Database, ProfileLink} from '../../../lib/schema.ts'
import {type Inventory, MACHINE_NAME, type ProfileRow} from '../../inventory/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {requirePermission} from '../authenticate.ts'
import {eventCursor, LONGEST_WAIT_S} from '../event-feed.ts'
import {addressSource, diskRule, handoff, parameters} from '../fields.ts'
import {PAGE_LIMIT, pageQuery} from '../page.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'
import {profileView} from '../views.ts'

export const catalogueRoutes = [
  route({
    method: 'put',
    path: '/v1/profiles/{name}',
    summary: 'Write a profile: what a machine becomes; a profile with a handoff needs `administer`',
    permission: 'operate',
    changes: true,
    params: z.object({name: z.string().regex(MACHINE_NAME)}),
    body: z.strictObject({
      template: z.string().min(1).max(128),
      image: z.string().min(1).max(128),
      disk: diskRule.optional(),
      parameters: parameters.optional(),
      handoff: handoff.optional(),
      links: z
        .array(z.strictObject({from: addressSource, length: z.int().min(8).max(127)}))
        .max(4)
        .optional()
        .describe('networks of each machine’s own, such as a /31 and a /127, with the gateway on the switch'),
    }),
    answers: {200: 'the profile'},
    async handle({params, body, actor, permission, services}, tx) {
      const handedOver = checkedHandoff(services, body.handoff)
      // A playbook runs on the control host. Who may not write one may not take one away by writing over it either.
      const before = await profileOf(services.inventory, params.name, tx)
      for (const kind of [handedOver?.kind, before?.handoff.kind])
        if (kind !== undefined && kind !== 'none') requirePermission(permission, 'administer', `a profile with handoff '${kind}'`)
      const links = body.links as readonly ProfileLink[] | undefined
      const profile = await services.inventory.putProfile(tx, {name: params.name, ...body, links, handoff: handedOver})
      const now = await databaseNow(tx)
      await services.evidence.changed(tx, {at: now, actor, kind: 'profile_written', subject: params.name})
      return {status: 200, body: profileView(profile, permission)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/profiles',
    summary: 'List profiles; `view` sees no values of parameters and handoffs',
    permission: 'view',
    changes: false,
    answers: {200: 'the profiles'},
    async handle({permission, services}) {
      const profiles = await services.inventory.listProfiles()
      return {status: 200, body: {items: profiles.map(profile => profileView(profile, permission)), next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/images',
    summary: 'List loaders, ramdisk and images with their digests',
    permission: 'view',
    changes: false,
    answers: {200: 'the artefacts'},
    async handle({services}) {
      return {status: 200, body: {items: services.artefacts.list(), next: null}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/events',
    summary: 'Events after a cursor, oldest first; waits for the next when asked to',
    permission: 'view',
    changes: false,
    query: z.strictObject({
      limit: pageQuery.limit,
      after: eventCursor,
      last: z.coerce
        .number()
        .int()
        .min(1)
        .max(PAGE_LIMIT)
        .optional()
        .describe('begin with the newest so many, instead of `after`'),
      machine: z.string().min(1).max(64).optional(),
      wait_s: z.coerce.number().min(0).max(LONGEST_WAIT_S).default(0),
    }),
    answers: {200: 'a page of events; `next` is the cursor to go on from, even when nothing came'},
    async handle({query, services, events, signal}) {
      const machineId = query.machine ? (await services.inventory.requireMachine(query.machine)).id : undefined
      return {status: 200, body: await events.read({...query, machineId}, signal)}
    },
  }),
]

/** With its defaults filled in, as far as somebody is there to check it; complaints name the field under `handoff`. */
function checkedHandoff(services: ApiServices, given: ProfileRow['handoff'] | undefined): ProfileRow['handoff'] | undefined {
  if (given === undefined || !services.handoff) return given
  try {
    return services.handoff.validate(given)
  } catch (error) {
    if (!(error instanceof IngotError) || !error.errors) throw error
    const errors = error.errors.map(row => ({...row, field: `handoff.${row.field}`}))
    throw new IngotError('INVALID_INPUT', error.detail, {errors})
  }
}

async function profileOf(inventory: Inventory, name: string, tx: Kysely<Database>): Promise<ProfileRow | undefined> {
  try {
    return await inventory.requireProfile(name, tx)
  } catch (error) {
    if (error instanceof IngotError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}
