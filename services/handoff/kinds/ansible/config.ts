/** What an Ansible handoff may be configured with. */
import {parseDocument} from 'yaml'
import {z} from 'zod'
import {messageOf} from '../../../../lib/errors.ts'

const LIMIT_BYTES = 64 * 1024
const LIMIT_DEPTH = 32

/** A file of the playbook folder itself: no separators, nothing hidden, no two dots in a row. */
const PLAYBOOK_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\.ya?ml$/
const USER_NAME = /^[a-z_][a-z0-9_-]{0,31}$/
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,99}$/
/**
 * Extra variables go before all others, so those that steer the connection would undo what the run is held to (host keys, address).
 * Of `ansible_…` only what concerns the far side is let through.
 */
const ANSIBLE_VARIABLE = /^ansible_(python_interpreter|become|become_(user|method|password|pass|exe|flags)|remote_tmp)$/

const extraVariables = z
  .record(z.string(), z.json())
  .superRefine((variables, context) => {
    for (const name of Object.keys(variables)) {
      if (!VARIABLE_NAME.test(name)) context.addIssue({code: 'custom', path: [name], message: 'not a variable name'})
      else if (name === 'ingot' || (/^ansible_/i.test(name) && !ANSIBLE_VARIABLE.test(name))) {
        context.addIssue({code: 'custom', path: [name], message: 'is set by Ingot and cannot be given'})
      }
    }
    if (Buffer.byteLength(JSON.stringify(variables)) > LIMIT_BYTES)
      context.addIssue({code: 'custom', message: 'larger than 64 KiB'})
  })
  .describe('Data, not templates: braces in a text stay what they are')

export const ansibleSchema = z
  .strictObject({
    kind: z.literal('ansible'),
    playbook: z.string().max(100).regex(PLAYBOOK_NAME, 'must be the plain name of a .yml or .yaml file').optional(),
    playbook_yaml: z.string().superRefine(refuseUnusablePlaybook).optional(),
    extra_vars: z.preprocess(refuseDepth, extraVariables).optional(),
    user: z.string().regex(USER_NAME, 'not a user name').optional(),
    timeout_s: z.int().min(1).max(86_400).default(1800),
    wait_for_ssh_s: z.int().min(1).max(86_400).default(300),
  })
  .superRefine((config, context) => {
    if ((config.playbook === undefined) !== (config.playbook_yaml === undefined)) return
    const message = 'give either `playbook` or `playbook_yaml`'
    context.addIssue({code: 'custom', path: ['playbook'], message})
    context.addIssue({code: 'custom', path: ['playbook_yaml'], message})
  })

export type AnsibleConfig = z.infer<typeof ansibleSchema>

/** Why a text cannot be a playbook; undefined when it can. */
export function playbookFault(text: string): string | undefined {
  if (Buffer.byteLength(text) > LIMIT_BYTES) return 'larger than 64 KiB'
  // Ansible's own tags (!vault, !unsafe) are unknown here; that is a warning, not an error.
  const document = parseDocument(text, {logLevel: 'error'})
  const fault = document.errors[0]
  if (fault) return `line ${fault.linePos?.[0].line ?? '?'}: ${fault.message.split('\n')[0]}`
  let plays: unknown
  try {
    plays = document.toJS({maxAliasCount: 50})
  } catch (error) {
    return messageOf(error)
  }
  if (!Array.isArray(plays) || plays.length === 0) return 'must be a list of plays'
  const odd = plays.findIndex(play => !isPlay(play))
  return odd < 0 ? undefined : `play ${odd + 1} has no \`hosts\``
}

function isPlay(play: unknown): boolean {
  const keys = typeof play === 'object' && play !== null ? Object.keys(play) : []
  return keys.some(key => key === 'hosts' || key.endsWith('import_playbook'))
}

function refuseUnusablePlaybook(text: string, context: Refinement): void {
  const message = playbookFault(text)
  if (message !== undefined) context.addIssue({code: 'custom', message})
}

type Refinement = {addIssue(issue: {code: 'custom'; message: string}): void}

/** Before anything walks the value recursively. */
function refuseDepth(value: unknown, context: Refinement): unknown {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > LIMIT_DEPTH) {
      context.addIssue({code: 'custom', message: `nested deeper than ${LIMIT_DEPTH} levels`})
      return {}
    }
    level = level.flatMap(item => (typeof item === 'object' && item !== null ? Object.values(item) : []))
  }
  return value
}
