/** Every scenario. One more is one more entry. */
import {clockJumps, replayedCallbacks} from './callbacks.ts'
import {databaseRestarts, diskFull} from './database.ts'
import {chosenDeaths, randomDeaths} from './deaths.ts'
import {lyingBmcs, manyFailing, silentBmcs, templateErrors} from './hardware.ts'
import {cutReplica, deadReplica, stoppedReplica} from './replicas.ts'
import type {Scenario} from './scenario.ts'

export const SCENARIOS: readonly Scenario[] = [
  randomDeaths,
  chosenDeaths,
  deadReplica,
  databaseRestarts,
  diskFull,
  clockJumps,
  replayedCallbacks,
  stoppedReplica,
  lyingBmcs,
  silentBmcs,
  templateErrors,
  manyFailing,
  cutReplica,
]
