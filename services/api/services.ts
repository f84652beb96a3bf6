/** What the API works with: façades handed in by the root. It reaches nothing else. */
import type {Kysely} from 'kysely'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Reason} from '../../lib/decision.ts'
import type {FieldError} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {CaptureReport} from '../diagnosis/index.ts'
import type {Evidence} from '../evidence/index.ts'
import type {Handoff} from '../handoff/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import type {Lifecycle} from '../lifecycle/index.ts'
import type {Power} from '../power/index.ts'

/** The boot stages, in the order a machine walks them. */
export const STAGES = ['rom', 'http', 'ipxe', 'loader', 'ramdisk', 'installer', 'os'] as const
export type StageName = (typeof STAGES)[number]

/** One question of a machine on its way and what it would get: the answer, and every rule that chose it. */
export type ExplainedStep = {
  /** `DISCOVER`, `GET http://…`; without it nothing is asked of the network */
  readonly asks?: string
  readonly answer: string
  /** a name on the TFTP server or a URL; null where an answer names none */
  readonly file?: string | null
  /** how a reply travels */
  readonly sent?: string
  readonly options?: Readonly<Record<string, unknown>>
  readonly body?: string
  readonly reasons: readonly Reason[]
}

export type Explained = {
  readonly mac: Mac
  readonly machine: string | null
  readonly architecture: string
  readonly prefix: string | null
  readonly relay: string | null
  readonly stages: readonly {readonly stage: StageName; readonly steps: readonly ExplainedStep[]}[]
}

/** What is not given is as the machine's records have it. */
export type ExplainHow = {
  readonly arch?: string | undefined
  readonly stage?: StageName | undefined
  readonly relay?: Ipv4 | undefined
  readonly circuit_id?: string | undefined
  readonly user_class?: string | undefined
  readonly vendor_class?: string | undefined
  /** id or CIDR of the prefix whose link it is on */
  readonly prefix?: string | undefined
}

/** A value is what JSON makes of it; `always` goes to clients that did not ask, too. */
export type DhcpOptions = Readonly<Record<string, {readonly value: unknown; readonly always: boolean}>>
type DhcpLoaders = Readonly<Record<string, string>>
type Mistakes = {readonly errors: readonly FieldError[]}

/** dhcpd's tables, handed in by the root: what an option may be is not for the API to know. */
export type DhcpTables = {
  changeOptions(
    before: DhcpOptions,
    change: {readonly set: DhcpOptions; readonly unset: readonly string[]},
  ): {readonly options: DhcpOptions} | Mistakes
  changeLoaders(
    before: DhcpLoaders,
    change: {readonly set: DhcpLoaders; readonly unset: readonly string[]},
  ): {readonly loaders: DhcpLoaders} | Mistakes
  listOptionTypes(): readonly {
    readonly name: string
    readonly code: number
    readonly type: string
    readonly example: string
    readonly owned: string | null
  }[]
}

export type ApiServices = {
  readonly db: Kysely<Database>
  readonly clock: Clock
  readonly log: Log
  readonly evidence: Evidence
  readonly inventory: Inventory
  readonly ipam: Ipam
  readonly lifecycle: Lifecycle
  readonly power: Power
  readonly artefacts: Artefacts
  readonly dhcp: DhcpTables
  /** with it a profile's handoff is checked when it is written, else when it is first used */
  readonly handoff?: Pick<Handoff, 'validate'>
  /** put together by the root from dhcpd's and boot's own explanations */
  readonly explain: (mac: Mac, how: ExplainHow) => Promise<Explained>
  /** what a capture shows, what Ingot would have answered, and what went wrong */
  readonly explainCapture: (bytes: Uint8Array, how: {readonly prefix?: string | undefined}) => Promise<CaptureReport>
  /** of this Ingot; the API puts its own in */
  readonly version?: string
  /** text of /metrics */
  readonly metrics: () => Promise<string>
}
