/** The gate for what a run is told about its machine: these values become file names, inventory names and arguments. Pure. */
import {z} from 'zod'
import {parseIpv4, parseIpv6} from '../../lib/addresses.ts'

const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i
const NAME_FOR_A_PATH = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/
/** Names that mean something else in an inventory. */
const TAKEN = ['all', 'ungrouped', 'ingot', 'localhost']

export const runRequestSchema = z.object({
  runId: z.string().regex(NAME_FOR_A_PATH),
  machine: z.object({
    id: z.string().regex(NAME_FOR_A_PATH),
    name: z
      .string()
      .max(253)
      .regex(HOST_NAME, 'not a host name')
      .refine(name => !TAKEN.includes(name.toLowerCase()), 'this name means something else to the tool'),
    address: z.string().refine(text => (parseIpv4(text) ?? parseIpv6(text)) !== undefined, 'not an IP address'),
    port: z.int().min(1).max(65_535).optional(),
    user: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'not a user name')
      .optional(),
    sshHostKeys: z.array(z.string().max(8192)).max(16),
  }),
})
