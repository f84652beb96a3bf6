/** What dhcpd saw, on its way to evidence and sightings: gathered, written in batches, dropped rather than let grow. Best effort. */
import {type Clock, sleep} from '../../lib/clock.ts'
import {isAway} from '../../lib/db.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {ALERTS, type Alert, type DhcpEvidence, type Sighting} from '../dhcpd/index.ts'
import type {Evidence, Observation} from '../evidence/index.ts'
import type {Inventory} from '../inventory/index.ts'
import {advanceTask} from '../lifecycle/index.ts'
import type {WatchedJob} from './snapshot-keeper.ts'

export type Observers = {
  sighting(sighting: Sighting): void
  evidence(evidence: DhcpEvidence): void
  alert(alert: Alert): void
  stop(): Promise<void>
}

const FLUSH_MS = 200
const WAITING_AT_MOST = 5_000
const ALERTS_AT_MOST = 256
const AWAY_MS = 1_000
/** Shorter than dhcpd folds, so that its own next alert about the same thing passes. */
const QUIET_MS = 540_000
const OWN_SERVER_MS = 86_400_000
/** Stages that prove a netboot; an installed system's renewals prove nothing about a job. */
const NETBOOT_STAGES: readonly string[] = ['rom', 'http', 'ipxe']

export function createObservers(parts: {
  evidence: Pick<Evidence, 'recordAll' | 'alert' | 'isOwnServer'>
  inventory: Pick<Inventory, 'recordSightings'>
  jobOf: (machineId: string) => WatchedJob | undefined
  clock: Clock
  log: Log
}): Observers {
  const {log, clock} = parts
  const stopping = new AbortController()
  let observations: Observation[] = []
  let sightings: Sighting[] = []
  const alerts: Alert[] = []
  let awayUntilMs = 0
  const loop = flushUntilStopped()

  async function flushUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await sleep(FLUSH_MS, stopping.signal)
      await flush()
      await tellAlerts()
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

  /** Few, and each worth keeping: while the database is away they wait. */
  async function tellAlerts(): Promise<void> {
    while (alerts[0] !== undefined && clock.monotonicMs() >= awayUntilMs) {
      try {
        await tell(alerts[0])
        alerts.shift()
      } catch (error) {
        if (isAway(error)) awayUntilMs = clock.monotonicMs() + AWAY_MS
        else log.error({alert: alerts.shift(), reason: messageOf(error)}, 'an alert could not be written and is dropped')
      }
    }
  }

  /** What was seen is told in the time of the wire's clock; whether another replica told it is looked up by the same. */
  async function tell({kind, subject, at, machineId, detail}: Alert): Promise<void> {
    // Replicas of one Ingot are servers to each other.
    const own =
      kind === 'other_dhcp_server' && (await parts.evidence.isOwnServer(subject, new Date(at.getTime() - OWN_SERVER_MS)))
    if (own) return
    const change = {at, actor: 'dhcpd', kind, subject, detail, ...(machineId === null ? {} : {machineId})}
    if (await parts.evidence.alert(change, QUIET_MS)) log.warn({kind, subject, ...detail}, ALERTS[kind])
  }

  return {
    alert(alert) {
      if (alerts.length < ALERTS_AT_MOST) alerts.push(alert)
    },
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
      await tellAlerts()
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
