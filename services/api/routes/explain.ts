/** What the wire would give a machine now, and why: asked by MAC, by machine, or with a capture of what it got. */
import {z} from 'zod'
import {type Mac, parseMac} from '../../../lib/addresses.ts'
import {IngotError} from '../../../lib/errors.ts'
import {CAPTURE_BYTES_AT_MOST} from '../../diagnosis/index.ts'
import {ipv4Text, macText} from '../fields.ts'
import {route, uploadRoute} from '../route.ts'
import {type ApiServices, STAGES} from '../services.ts'

const how = {
  arch: z.string().min(1).max(20).optional().describe('bios, uefi, uefi-http, arm64, or a number of option 93'),
  stage: z.enum(STAGES).optional().describe('only this one'),
  relay: ipv4Text.optional().describe('giaddr: the relay it speaks through'),
  circuit_id: z.string().min(1).max(253).optional().describe('option 82, suboption 1: text, or bytes as 0x… or 01:02:…'),
  user_class: z.string().min(1).max(255).optional().describe('option 77'),
  vendor_class: z.string().min(1).max(255).optional().describe('option 60'),
  prefix: z.string().min(1).max(64).optional().describe('id or CIDR of the prefix whose link it is on'),
}

export const explainRoutes = [
  route({
    method: 'get',
    path: '/v1/explain',
    summary: 'What the wire would give a MAC at each boot stage, and why; also for one never seen',
    permission: 'view',
    changes: false,
    query: z.strictObject({mac: macText, ...how}),
    answers: {200: 'the stages'},
    async handle({query: {mac, ...rest}, services}) {
      return {status: 200, body: await services.explain(mac, rest)}
    },
  }),
  route({
    method: 'get',
    path: '/v1/machines/{id}/explain',
    summary: 'What the wire would give a machine at each boot stage, and why',
    permission: 'view',
    changes: false,
    params: z.object({id: z.string().min(1).max(64).describe('MAC, id or name')}),
    query: z.strictObject(how),
    answers: {200: 'the stages'},
    async handle({params, query, services}) {
      const mac = parseMac(params.id) ?? (await bootMacOf(services, params.id))
      return {status: 200, body: await services.explain(mac, query)}
    },
  }),
  uploadRoute({
    method: 'post',
    path: '/v1/explain/capture',
    summary: 'What a capture shows packet by packet, what Ingot would have answered and why, and what went wrong',
    permission: 'view',
    upload: {type: 'application/vnd.tcpdump.pcap', mostBytes: CAPTURE_BYTES_AT_MOST, description: 'a pcap or pcapng file'},
    query: z.strictObject({prefix: how.prefix}),
    answers: {200: 'the packets and the findings, each with its cause and mend', 400: 'it is no capture'},
    async handle({query, body, services}) {
      return {status: 200, body: await services.explainCapture(body, query)}
    },
  }),
]

async function bootMacOf(services: ApiServices, idOrName: string): Promise<Mac> {
  const machine = await services.inventory.requireMachine(idOrName)
  const mac = machine.interfaces.find(row => row.is_boot)?.mac
  if (!mac) throw new IngotError('NOT_FOUND', `machine '${machine.name}' has no boot interface`)
  return mac as Mac
}
