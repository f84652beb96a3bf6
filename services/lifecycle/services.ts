/** What lifecycle works with: the façades of the services it may ask, handed in by the root. */
import type {Kysely} from 'kysely'
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {RenderInstall} from '../boot/plan.ts'
import type {Evidence} from '../evidence/index.ts'
import type {Handoff} from '../handoff/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import type {Power} from '../power/index.ts'

export type LifecycleServices = {
  readonly db: Kysely<Database>
  readonly clock: Clock
  readonly log: Log
  readonly evidence: Evidence
  readonly inventory: Inventory
  readonly ipam: Ipam
  readonly power: Power
  readonly handoff: Handoff
  readonly artefacts: Artefacts
  readonly renderInstall: RenderInstall
}
