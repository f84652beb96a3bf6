/** Every step, by name. */
import type {StepName} from '../phases.ts'
import {bootDisk} from './boot-disk.ts'
import {checkNetwork} from './check-network.ts'
import {freeAddresses} from './free-addresses.ts'
import {handOff} from './hand-off.ts'
import {powerCycle} from './power-cycle.ts'
import {powerOff} from './power-off.ts'
import {powerVerb} from './power-verb.ts'
import {provePower} from './prove-power.ts'
import {recordFacts} from './record-facts.ts'
import {recordResults} from './record-results.ts'
import type {Step} from './step.ts'
import {withdrawHandoff} from './withdraw-handoff.ts'

export const STEPS: Record<StepName, Step> = {
  'check-network': checkNetwork,
  'power-cycle': powerCycle,
  'power-off': powerOff,
  'free-addresses': freeAddresses,
  'record-facts': recordFacts,
  'prove-power': provePower,
  'hand-off': handOff,
  'record-results': recordResults,
  'boot-disk': bootDisk,
  'withdraw-handoff': withdrawHandoff,
  'power-verb': powerVerb,
}
