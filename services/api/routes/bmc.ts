/**
 * What a machine's BMC knows and can do besides switching: who it is, its event log, sensors and inventory, the boot device, the light.
 * Each of these asks the BMC while the client waits; what it changes is read back before it is answered.
 */
import {z} from 'zod'
import {IngotError} from '../../../lib/errors.ts'
import {databaseNow} from '../../lifecycle/index.ts'
import type {Outcome, PowerTarget, VerbOptions} from '../../power/index.ts'
import {machineParam} from '../fields.ts'
import {type Call, route} from '../route.ts'
import type {ApiServices} from '../services.ts'

/** A change holds its transaction meanwhile. A log of some thousand events takes a real BMC the better part of this; the CLI waits for a minute. */
const ASK_MS = 50_000
const PROBLEMS = {404: 'there is no such machine', 422: 'its power driver cannot', 502: 'the BMC does not answer'}

const bootDevice = z.strictObject({
  device: z.enum(['none', 'pxe', 'disk', 'cdrom', 'bios']),
  firmware: z.enum(['bios', 'uefi']).optional().describe('as the machine is known to be, where it is left out'),
  persistent: z.boolean().default(false).describe('for every boot rather than the next'),
})

export const bmcRoutes = [
  route({
    method: 'get',
    path: '/v1/machines/{id}/bmc',
    summary: 'Ask its BMC who it is, and show the quirks learned of its model',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the device and its quirks', ...PROBLEMS},
    handle: async call => ({
      status: 200,
      body: await ask(call, call.services.db, (power, target, options) => power.device(target, options)),
    }),
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/bmc/sensors',
    summary: 'Read its sensors: values, units, thresholds, states',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the sensors', ...PROBLEMS},
    async handle(call) {
      const {sensors} = await ask(call, call.services.db, (power, target, options) => power.sensors(target, options))
      return {status: 200, body: {items: sensors}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/bmc/fru',
    summary: 'Read its inventory: makers, part and serial numbers',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the inventories', ...PROBLEMS},
    async handle(call) {
      const {inventories} = await ask(call, call.services.db, (power, target, options) => power.fru(target, options))
      return {status: 200, body: {items: inventories}}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/bmc/events',
    summary: 'Read the BMC’s own event log, oldest first',
    permission: 'view',
    changes: false,
    params: machineParam,
    query: z.strictObject({limit: z.coerce.number().int().min(1).max(5000).default(500).describe('of the newest')}),
    answers: {200: 'the events', ...PROBLEMS},
    async handle(call) {
      const {entries, ...log} = await ask(call, call.services.db, (power, target, options) =>
        power.events(target, call.query.limit, options),
      )
      return {status: 200, body: {items: entries, ...log}}
    },
  }),
  route({
    method: 'delete',
    path: '/v1/machines/{id}/bmc/events',
    summary: 'Empty the BMC’s own event log',
    permission: 'operate',
    changes: true,
    params: machineParam,
    answers: {200: 'how many entries went', ...PROBLEMS},
    async handle(call, tx) {
      const outcome = await ask(call, tx, (power, target, options) => power.clearEvents(target, options))
      await note(call, tx, 'bmc_events_cleared', outcome)
      return {status: 200, body: outcome}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/boot-device',
    summary: 'Ask its BMC which boot device is set',
    permission: 'view',
    changes: false,
    params: machineParam,
    answers: {200: 'the boot device', ...PROBLEMS},
    async handle(call) {
      const reading = await ask(call, call.services.db, (power, target, options) => power.bootDevice(target, options))
      return {status: 200, body: {...reading, device: reading.device ?? 'other'}}
    },
  }),
  route({
    method: 'put',
    path: '/v1/machines/{id}/boot-device',
    summary: 'Set its boot device, and read it back',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: bootDevice,
    answers: {
      200: 'the boot device, and what the BMC dropped of the choice',
      409: 'a job is open, which sets its own',
      ...PROBLEMS,
    },
    async handle(call, tx) {
      const {services, params, body} = call
      const machine = await services.inventory.requireMachine(params.id, tx)
      const job = await services.lifecycle.openJobOf(machine.id, tx)
      if (job) throw new IngotError('JOB_OPEN', `${machine.name}: job ${job.id} (${job.kind}) sets the boot device itself`)
      const how = {firmware: body.firmware ?? machine.firmware ?? 'bios', persistent: body.persistent}
      const {device, notKept} = await ask(call, tx, (power, target, options) =>
        power.setBootDevice(target, body.device, how, options),
      )
      const answer = {device, ...how, not_kept: notKept}
      await note(call, tx, 'boot_device_set', answer)
      return {status: 200, body: answer}
    },
  }),
  route({
    method: 'post',
    path: '/v1/machines/{id}/identify',
    summary: 'Let its light blink, so that a person finds it',
    permission: 'operate',
    changes: true,
    params: machineParam,
    body: z.strictObject({seconds: z.int().min(0).max(255).default(15).describe('0 switches the light off')}),
    answers: {200: 'for how long', ...PROBLEMS},
    handle: async (call, tx) => ({
      status: 200,
      body: await ask(call, tx, (power, target, options) => power.identify(target, call.body.seconds, options)),
    }),
  }),
]

type MachineCall = Pick<Call<{id: string}, unknown, unknown>, 'params' | 'services' | 'actor' | 'signal'>
type Asking<Seen> = (power: ApiServices['power'], target: PowerTarget, options: VerbOptions) => Promise<Outcome<Seen>>

/** @throws IngotError POWER_UNSUPPORTED with what a person is to do, where no driver can */
async function ask<Seen>(
  {params, services, signal}: MachineCall,
  db: ApiServices['db'],
  asking: Asking<Seen>,
): Promise<Omit<Seen & {done: 'seen'}, 'done'>> {
  const machine = await services.inventory.requireMachine(params.id, db)
  const bmc = await services.inventory.openBmc(machine.id, db)
  const {provenAt: _provenAt, ...access} = bmc ?? {driver: 'manual' as const, provenAt: null}
  const limit = AbortSignal.timeout(ASK_MS)
  const outcome = await asking(
    services.power,
    {machineId: machine.id, ...access},
    {signal: AbortSignal.any([signal, limit])},
  ).catch(error => {
    if (error !== limit.reason) throw error
    throw new IngotError('POWER_UNREACHABLE', `${machine.name}: its BMC was not done within ${ASK_MS / 1000} s`)
  })
  if (outcome.done === 'by_hand')
    throw new IngotError('POWER_UNSUPPORTED', `${machine.name} is driven by hand`, {mend: outcome.please})
  if (outcome.done === 'withheld') throw new IngotError('INTERNAL', 'nothing could have withheld it')
  const {done: _done, ...seen} = outcome
  return seen
}

/** What somebody changed, written after it was seen: the BMC cannot take part in a transaction. */
async function note({params, services, actor}: MachineCall, tx: ApiServices['db'], kind: string, detail: object): Promise<void> {
  const {id} = await services.inventory.requireMachine(params.id, tx)
  await services.evidence.changed(tx, {
    at: await databaseNow(tx),
    actor,
    kind,
    machineId: id,
    detail: {...detail},
  })
}
