/** Fields that several routes share: how machines are named, what installs take. */
import {z} from 'zod'
import {parseIpv4, parseMac} from '../../lib/addresses.ts'
import {Secret} from '../../lib/secret.ts'
import type {BmcInput} from '../inventory/index.ts'

export const macText = z
  .string()
  .max(17)
  .transform((text, context) => {
    const mac = parseMac(text)
    if (mac) return mac
    context.addIssue({code: 'custom', message: 'is not a MAC address such as 52:54:00:12:34:56'})
    return z.NEVER
  })
  .meta({type: 'string', description: 'MAC address'})

export const machineParam = z.object({id: z.string().min(1).max(64).describe('id or name')})

export const uuidParam = z.object({id: z.guid('is not an id')})

export const prefixText = z.string().min(1).max(64).describe('id or CIDR')

const sourceName = z.string().min(1).max(63)

/** Where addresses and networks may come from. */
export const addressSource = z
  .strictObject({
    prefix: prefixText.optional(),
    pool: sourceName.optional(),
    role: sourceName.optional(),
    site: sourceName.optional(),
    labels: z.record(z.string().max(63), z.string().max(255)).optional(),
    family: z.union([z.literal(4), z.literal(6)]).optional(),
    vrf: sourceName.optional(),
  })
  .refine(wish => Object.keys(wish).some(key => key !== 'family' && key !== 'vrf'), 'names no prefix, pool, role, site or label')

export const diskRule = z
  .string()
  .regex(/^(smallest|serial=[\w.:-]{1,64}|wwn=[\w.:-]{1,64}|name=[\w-]{1,32})$/, 'is smallest, serial=…, wwn=… or name=…')

export const parameters = z.record(z.string().max(64), z.unknown())

/** One line of authorized_keys(5), without options. */
export const publicKey = z
  .string()
  .max(4096)
  .regex(
    /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{16,}={0,3}( [^\0\r\n]*)?$/,
    'is not an SSH public key such as ssh-ed25519 AAAA…',
  )

export const handoff = z
  .looseObject({kind: z.string().max(32)})
  .describe('how it is handed over; any kind but `none` runs code on the control host and needs `administer`')

export const ipv4Text = z
  .string()
  .max(15)
  .transform((text, context) => {
    const address = parseIpv4(text)
    if (address) return address
    context.addIssue({code: 'custom', message: 'is not an IPv4 address'})
    return z.NEVER
  })
  .meta({type: 'string', format: 'ipv4'})

export const bmcBody = z
  .strictObject({
    driver: z.enum(['ipmi', 'manual']),
    address: ipv4Text.optional(),
    port: z.int().min(1).max(65535).default(623),
    username: z.string().min(1).max(16).optional(),
    password: z.string().min(1).max(20).optional().describe('written only, never shown'),
  })
  .superRefine((bmc, context) => {
    if (bmc.driver === 'ipmi' && bmc.address === undefined)
      context.addIssue({code: 'custom', path: ['address'], message: 'is needed to reach an IPMI BMC'})
    if (bmc.driver === 'ipmi') return
    for (const field of ['address', 'username', 'password'] as const)
      if (bmc[field] !== undefined)
        context.addIssue({code: 'custom', path: [field], message: 'means nothing to a manual machine'})
  })

export function toBmcInput(body: z.output<typeof bmcBody>): BmcInput {
  return {...body, password: body.password === undefined ? undefined : new Secret(body.password)}
}
