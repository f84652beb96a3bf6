/** What the API works with: façades handed in by the root. It reaches nothing else. */
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Reason} from '../../lib/decision.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {Evidence} from '../evidence/index.ts'
import type {Handoff} from '../handoff/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import type {Lifecycle} from '../lifecycle/index.ts'
import type {Power} from '../power/index.ts'

/** One boot stage as `explain` tells it: what the wire would get, and every rule that chose it. */
export type ExplainedStage = {
  readonly stage: string
  readonly answer: string
  readonly options?: Readonly<Record<string, unknown>>
  readonly body?: string
  readonly reasons: readonly Reason[]
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
  /** with it a profile's handoff is checked when it is written, else when it is first used */
  readonly handoff?: Pick<Handoff, 'validate'>
  /** put together by the root from dhcpd's and boot's own explanations */
  readonly explain: (mac: Mac, how: {arch?: string | undefined; stage?: string | undefined}) => Promise<ExplainedStage[]>
  /** text of /metrics */
  readonly metrics: () => Promise<string>
}
