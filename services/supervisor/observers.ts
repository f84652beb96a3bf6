/** What dhcpd saw, on its way to evidence and sightings: gathered, written in batches, dropped rather than let grow. Best effort. */
import {type Clock, sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {DhcpEvidence, Sighting} from '../dhcpd/index.ts'
import type {Evidence, Observation} from '../evidence/index.ts'
import type {Inventory} from '../inventory/index.ts'
import {advanceTask} from '../lifecycle/index.ts'
import type {WatchedJob} from './snapshot-keeper.ts'

export type Observers = {
  sighting(sighting: Sighting): void
  evidence(evidence: DhcpEvidence): void
  stop(): Promise<void>
}

const FLUSH_MS = 200
const WAITING_AT_MOST = 5_000
/** Stages that prove a netboot; an installed system's renewals prove nothing about a job. */
const NETBOOT_STAGES: readonly string[] = ['rom', 'http', 'ipxe']

export function createObservers(parts: {
  evidence: Pick<Evidence, 'recordAll'>
  inventory: Pick<Inventory, 'recordSightings'>
  jobOf: (machineId: string) => WatchedJob | undefined
  clock: Clock
  log: Log
}): Observers {
  const {log} = parts
  const stopping = new AbortController()
  let observations: Observation[] = []
  let sightings: Sighting[] = []
  const loop = flushUntilStopped()

  async function flushUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await sleep(FLUSH_MS, stopping.signal)
      await flush()
    }
  }

  async function flush(): Promise<void> {
    const seen = observations
    const unknown = sightings
    observations = []
    sightings = []
    try {
      await parts.evidence.recordAll(seen)
      await parts.inventory.recordSightings(unknown.flatMap(toRow))
    } catch (error) {
      log.warn(
        {dropped: seen.length + unknown.length, reason: messageOf(error)},
        'observations could not be written and are dropped',
      )
    }
  }

  return {
    sighting(sighting) {
      if (sightings.length < WAITING_AT_MOST) sightings.push(sighting)
    },
    evidence(seen) {
      if (observations.length >= WAITING_AT_MOST) return
      const job = seen.machineId ? parts.jobOf(seen.machineId) : undefined
      const counts = seen.kind === 'dhcp_seen' && !NETBOOT_STAGES.includes(seen.stage) ? 'dhcp_renewed' : seen.kind
      const {kind: _kind, machineId, mac, at, ...detail} = seen
      observations.push({
        at,
        kind: counts,
        source: 'dhcpd',
        machineId: machineId ?? undefined,
        jobId: job?.jobId,
        fence: job?.fence,
        mac,
        detail: detail as Record<string, unknown>,
        ...(job && counts === 'dhcp_seen' ? {task: advanceTask(job.jobId)} : {}),
      })
    },
    async stop() {
      stopping.abort()
      await loop
      await flush()
    },
  }
}

function toRow(seen: Sighting) {
  if (seen.prefixId === null) return []
  return [
    {
      mac: seen.mac,
      prefixId: seen.prefixId,
      circuit: seen.relay?.circuitId ?? '',
      arch: seen.architecture === null ? undefined : String(seen.architecture),
      vendorClass: seen.vendorClass,
      dmiUuid: seen.uuid?.big,
      lastSeen: seen.at,
      packets: seen.count,
    },
  ]
}
