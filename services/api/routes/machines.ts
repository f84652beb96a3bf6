/** Machines: declare, list, look at, and say how their power is reached. */
import type {Kysely} from 'kysely'
import {z} from 'zod'
import {IngotError} from '../../../lib/errors.ts'
import type {Database} from '../../../lib/schema.ts'
import type {MachineView} from '../../inventory/index.ts'
import {createIpam} from '../../ipam/index.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import {bmcBody, machineParam, macText, prefixText, toBmcInput} from '../fields.ts'
import {PAGE_LIMIT, pageQuery, toPage} from '../page.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'
import {machineView} from '../views.ts'

/** More ids than this are not named in a query: PostgreSQL takes 65 535 parameters. */
const IDS_AT_MOST = 30_000

export const machineRoutes = [
  route({
    method: 'post',
    path: '/v1/machines',
    summary: 'Declare a machine',
    permission: 'operate',
    changes: true,
    body: z.strictObject({
      name: z.string().max(63).optional(),
      macs: z.array(macText).min(1).max(64).describe('the first is the one it boots from'),
      dmi_uuid: z.guid().optional(),
      serial: z.string().max(128).optional(),
      firmware: z.enum(['bios', 'uefi']).optional(),
      labels: z
        .record(z.string().min(1).max(63), z.string().max(255))
        .refine(labels => Object.keys(labels).length <= 64, 'has at most 64 labels')
        .optional(),
      prefix: prefixText.describe('id or CIDR of its boot prefix; may be left out when there is only one').optional(),
      bmc: bmcBody.optional(),
    }),
    answers: {201: 'the machine', 409: 'its name or a MAC is taken'},
    async handle({body, actor, services}, tx) {
      const machine = await services.lifecycle.declare(
        tx,
        {
          name: body.name,
          macs: body.macs,
          dmiUuid: body.dmi_uuid,
          serial: body.serial,
          firmware: body.firmware,
          labels: body.labels,
          prefixId: await bootPrefix(services, body.prefix, tx),
          bmc: body.bmc && toBmcInput(body.bmc),
        },
        actor,
      )
      return {status: 201, body: machineView({machine, state: undefined}), headers: {location: `/v1/machines/${machine.id}`}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines',
    summary: 'List machines, by name',
    permission: 'view',
    changes: false,
    query: z.strictObject({
      ...pageQuery,
      state: z.string().min(1).max(200).optional().describe('states, separated by commas'),
      mac: macText.optional(),
    }),
    answers: {200: 'a page of machines'},
    async handle({query, services}) {
      const {inventory, lifecycle} = services
      let ids = query.state ? await lifecycle.machineIdsIn(query.state.split(',')) : undefined
      if (query.mac) {
        const machine = await inventory.machineByMac(query.mac)
        ids = machine && (!ids || ids.includes(machine.id)) ? [machine.id] : []
      }
      const machines = await machinesPage(services, {after: query.after, count: query.limit + 1, ids})
      const states = new Map((await lifecycle.states(machines.map(machine => machine.id))).map(row => [row.machine_id, row]))
      const page = toPage(
        machines,
        query.limit,
        machine => machine.name,
        machine => machineView({machine, state: states.get(machine.id)}),
      )
      return {status: 200, body: page}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}',
    summary: 'Look at a machine: state, addresses, BMC, open job, newest facts',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the machine', 404: 'there is none'},
    async handle({params, services}) {
      const {inventory, lifecycle, ipam} = services
      const machine = await inventory.requireMachine(params.id)
      const inspected = await inventory.latestFacts(machine.id, 'inspection')
      const firstBoot = await inventory.latestFacts(machine.id, 'first_boot')
      const view = machineView({
        machine,
        state: await lifecycle.state(machine.id),
        addresses: await ipam.allocationsOf(machine.id),
        bmc: (await inventory.describeBmc(machine.id)) ?? null,
        openJob: await lifecycle.openJobOf(machine.id),
      })
      const facts = {inspection: inspected?.facts ?? null, first_boot: firstBoot?.facts ?? null}
      return {status: 200, body: {...view, facts}}
    },
  }),
  route({
    method: 'put',
    path: '/v1/machines/{id}/bmc',
    summary: 'Set how its power is controlled; what is left out is forgotten, its password too',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: bmcBody,
    answers: {200: 'the BMC, without its password'},
    async handle({params, body, actor, services}, tx) {
      const {inventory, evidence} = services
      const machine = await inventory.requireMachine(params.id, tx)
      const now = await databaseNow(tx)
      await inventory.setBmc(tx, machine.id, toBmcInput(body), now)
      await evidence.changed(tx, {
        at: now,
        actor,
        kind: 'bmc_set',
        machineId: machine.id,
        detail: {driver: body.driver, address: body.address},
      })
      return {status: 200, body: await inventory.describeBmc(machine.id, tx)}
    },
  }),
]

/** A filter that names too many machines for one query is applied here instead, page by page. */
async function machinesPage(
  {inventory}: ApiServices,
  page: {after: string | undefined; count: number; ids: readonly string[] | undefined},
): Promise<MachineView[]> {
  const {ids, count} = page
  if (ids === undefined || ids.length <= IDS_AT_MOST) return inventory.listMachines({after: page.after, limit: count, ids})
  const wanted = new Set(ids)
  const found: MachineView[] = []
  for (let after = page.after; ; ) {
    const rows = await inventory.listMachines({after, limit: PAGE_LIMIT})
    found.push(...rows.filter(row => wanted.has(row.id)))
    if (found.length >= count || rows.length < PAGE_LIMIT) return found.slice(0, count)
    after = rows[rows.length - 1]?.name
  }
}

async function bootPrefix(services: ApiServices, asked: string | undefined, tx: Kysely<Database>): Promise<string> {
  // Over the transaction itself: its lists take no other connection then.
  const ipam = createIpam({db: tx, clock: services.clock, log: services.log})
  if (asked !== undefined) {
    const prefix = await ipam.getPrefix(asked)
    if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${asked}'`)
    return prefix.id
  }
  const prefixes = (await ipam.listPrefixes()).filter(prefix => prefix.boot_url && prefix.kind === 'host')
  const [only] = prefixes
  if (!only || prefixes.length > 1) {
    throw new IngotError('INVALID_INPUT', `there are ${prefixes.length} prefixes that machines boot from`, {
      errors: [{field: 'prefix', code: 'required', message: 'name the prefix it boots from'}],
    })
  }
  return only.id
}
