/** What a handoff is given about a machine, and what it says at its end. */
import type {HandoffCause} from './causes.ts'

/** A stored handoff configuration: `kind` names the plug-in, the rest is that kind's own. */
export type HandoffConfig = {readonly kind: string} & Readonly<Record<string, unknown>>

export type HandoffMachine = {
  readonly id: string
  /** Strict host name; it becomes the name in the inventory. */
  readonly name: string
  readonly address: string
  /** Where sshd listens; 22 unless told. */
  readonly port?: number
  /** The only host keys that will be believed: those the machine's first boot reported, as `type base64 [comment]`. */
  readonly sshHostKeys: readonly string[]
  readonly facts: Readonly<Record<string, unknown>>
  readonly parameters: Readonly<Record<string, unknown>>
  /** The account of the installed system; a configuration's own `user` goes before it. */
  readonly user?: string
}

export type HandoffResult = {
  readonly outcome: 'done' | 'failed'
  readonly cause?: HandoffCause
  readonly summary: Readonly<Record<string, unknown>>
  /** The last of what the tool said: printable, at most 64 KiB, secrets cut out. */
  readonly outputTail: string
  readonly startedAt: Date
  readonly finishedAt: Date
}
