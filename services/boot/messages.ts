/** What ramdisk and installed system may say, bounded: everything here comes from a hostile network and goes to the database. Pure. */
import {z} from 'zod'
import {parseMac} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'

const DETAIL_LIMIT = 1_000
const LOG_LINE_LIMIT = 500
const LOG_LINES = 1_000

const mac = z.string().transform((text, context) => {
  const parsed = parseMac(text)
  if (parsed) return parsed
  context.addIssue({code: 'custom', message: 'not a MAC address'})
  return z.NEVER
})
/** Text for people: printable, cut. What is no text at all is left out. */
const line = (limit: number) =>
  z.preprocess(value => (typeof value === 'string' ? printable(value, limit) : undefined), z.string().optional())

export const HELLO = z.object({mac, firmware: z.enum(['bios', 'uefi']), uptime_s: z.number().optional()})

export const CLAIM = z.object({
  session: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
})

export const EVENT = z.discriminatedUnion('kind', [
  z.looseObject({kind: z.literal('progress')}),
  z.looseObject({kind: z.literal('wiped')}),
  z.looseObject({kind: z.literal('disk_written')}),
  z.looseObject({kind: z.literal('local_boot_set')}),
  z.looseObject({kind: z.literal('tested')}),
  z.looseObject({kind: z.literal('ready')}),
  z.looseObject({kind: z.literal('left')}),
  z.object({
    kind: z.literal('failed'),
    cause: z.preprocess(
      value => (typeof value === 'string' && /^[A-Z][A-Z0-9_]{0,63}$/.test(value) ? value : 'RAMDISK_FAILED'),
      z.string(),
    ),
    detail: line(DETAIL_LIMIT),
  }),
])

export const FACTS = z.record(z.string(), z.unknown())

export const FIRST_BOOT = z.object({
  facts: z.record(z.string(), z.unknown()),
  ssh_host_keys: z.array(z.string().max(2048)).max(16),
  user_data: z
    .array(z.object({name: z.string().max(255), exit_code: z.number(), output_tail: z.string().optional()}))
    .max(256)
    .optional(),
})

/** The tail of a log, as lines. */
export function logLines(text: Uint8Array): string[] {
  return Buffer.from(text)
    .toString('utf8')
    .split('\n')
    .slice(-LOG_LINES)
    .map(row => printable(row, LOG_LINE_LIMIT))
}
