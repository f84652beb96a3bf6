/** Every handoff kind there is. A new kind is one file and one line here; docs/add-a-handoff.md walks through it. */
import {ansibleKind} from './ansible.ts'
import {type RegisteredKind, registerKind} from './kind.ts'
import {noneKind} from './none.ts'
import {webhookKind} from './webhook.ts'

export const HANDOFF_KINDS: readonly RegisteredKind[] = [
  registerKind(noneKind),
  registerKind(ansibleKind),
  registerKind(webhookKind),
]
