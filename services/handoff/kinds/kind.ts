/**
 * What a handoff kind has to be: a schema for its configuration, and one function that carries a run out. Time limits, stopping,
 * redaction, directories and records are done around it, alike for every kind.
 */
import type {z} from 'zod'
import type {Clock} from '../../../lib/clock.ts'
import type {Log} from '../../../lib/log.ts'
import type {HandoffCause} from '../causes.ts'
import type {HandoffConfig, HandoffMachine} from '../result.ts'
import type {KeyPair} from '../ssh-key.ts'

export type HandoffKind<C extends HandoffConfig> = {
  /** Its name in configurations: lower-case letters, digits and underscores. */
  readonly kind: C['kind']
  /** One line for lists and documentation. */
  readonly about: string
  /** Strict: a field it does not know is an error. What it returns must pass it again unchanged. */
  readonly schema: z.ZodType<C>
  /** A configuration that is valid as it stands; documentation shows it, the conformance tests run it. */
  readonly example: C
  /** The longest that a run may take. */
  timeoutMs(config: C): number
  /** Public keys that must be in the machine's authorized_keys before the run. */
  publicKeys(config: C, keyPair: () => KeyPair): readonly string[]
  /** Texts that must not appear in any result, whatever the tool prints. */
  secrets(config: C, machine: HandoffMachine): readonly string[]
  /** Carries the run out. Once `signal` aborts it ends soon, with everything that it started, and returns `aborted`. */
  run(config: C, context: RunContext): Promise<KindOutcome>
  /** Says that the machine is given back; a kind that has nobody to tell leaves it out. Bounds as for `run`. */
  withdraw?(config: C, context: RunContext): Promise<KindOutcome>
}

export type RunContext = {
  readonly runId: string
  readonly machine: HandoffMachine
  /** A directory of this run alone (0700), removed when it ends. Secrets may be written here, mode 0600, and nowhere else. */
  readonly runDir: string
  /** What operators keep for this kind: playbooks, roles, … */
  readonly kindDir: string
  /** `PATH` of everything the kind starts. */
  readonly searchPath: string
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  /** Ingot's own SSH key pair, made when first asked for. */
  keyPair(): KeyPair
  /** Takes what a tool says; the last of it becomes the result's `outputTail`. */
  output(chunk: Uint8Array | string): void
}

type Summary = Readonly<Record<string, unknown>>

export type KindOutcome =
  | {readonly outcome: 'done'; readonly summary: Summary}
  | {readonly outcome: 'failed'; readonly cause: HandoffCause; readonly summary: Summary}
  /** The signal ended it; `at` says what it was doing. */
  | {readonly outcome: 'aborted'; readonly at: string; readonly summary: Summary}

/** A kind with its configuration's type closed over: what the registry holds. */
export type RegisteredKind = {
  readonly kind: string
  readonly about: string
  readonly example: HandoffConfig
  bind(config: unknown): {readonly bound: BoundKind} | {readonly issues: readonly z.core.$ZodIssue[]}
}

/** A kind together with one valid configuration. */
export type BoundKind = {
  readonly config: HandoffConfig
  readonly timeoutMs: number
  publicKeys(keyPair: () => KeyPair): readonly string[]
  secrets(machine: HandoffMachine): readonly string[]
  run(context: RunContext): Promise<KindOutcome>
  readonly withdraw?: (context: RunContext) => Promise<KindOutcome>
}

const NOBODY: Promise<KindOutcome> = Promise.resolve({outcome: 'done', summary: {}})

export function registerKind<C extends HandoffConfig>(kind: HandoffKind<C>): RegisteredKind {
  return {
    kind: kind.kind,
    about: kind.about,
    example: kind.example,
    bind(input) {
      const parsed = kind.schema.safeParse(input)
      if (!parsed.success) return {issues: parsed.error.issues}
      const config = parsed.data
      return {
        bound: {
          config,
          timeoutMs: kind.timeoutMs(config),
          publicKeys: keyPair => kind.publicKeys(config, keyPair),
          secrets: machine => kind.secrets(config, machine),
          run: context => kind.run(config, context),
          ...(kind.withdraw ? {withdraw: (context: RunContext) => kind.withdraw?.(config, context) ?? NOBODY} : {}),
        },
      }
    },
  }
}
