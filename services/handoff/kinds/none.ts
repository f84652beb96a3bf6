/** No config management: the machine is handed over as its image and user data left it. */
import {z} from 'zod'
import type {HandoffKind} from './kind.ts'

const schema = z.strictObject({kind: z.literal('none')})

export const noneKind: HandoffKind<z.infer<typeof schema>> = {
  kind: 'none',
  about: 'Nothing runs; the machine is ready when its first boot has reported.',
  schema,
  example: {kind: 'none'},
  timeoutMs: () => 60_000,
  publicKeys: () => [],
  secrets: () => [],
  run: async () => ({outcome: 'done', summary: {}}),
}
