/** The control role: the operators' API and the workers that drive machines. The only one that gets the sealing key. */
import {join} from 'node:path'
import {systemClock} from '../../lib/clock.ts'
import {createDb, createPool} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import {createSealer} from '../../lib/seal.ts'
import {loadTemplates} from '../../lib/template-set.ts'
import {createApi} from '../api/index.ts'
import {createArtefacts} from '../artefacts/index.ts'
import {createBoot} from '../boot/index.ts'
import {createInstallRenderer} from '../boot/plan.ts'
import {changeLoaders, changeOptions, listOptionTypes} from '../dhcpd/index.ts'
import {createEvidence} from '../evidence/index.ts'
import {createHandoff} from '../handoff/index.ts'
import {createInventory} from '../inventory/index.ts'
import {createIpam} from '../ipam/index.ts'
import {createClaims, createLifecycle, databaseNow, openJobsOf, profilesOf} from '../lifecycle/index.ts'
// Not by the façade: it brings the queue's engine, which wire, another user of the façade, has no use for.
import {startWorker} from '../lifecycle/worker.ts'
import {boundPower, createMemoryStore, createPower} from '../power/index.ts'
import {createCaptureExplainer} from './capture-explainer.ts'
import {createExplainer} from './explainer.ts'
import {closeServer} from './healthz.ts'
import {startHousekeeping} from './housekeeping.ts'
import {announceKeys} from './keyholders.ts'
import {createMetrics} from './metrics.ts'
import type {PreparedRole, RoleStart, RunningRole} from './roles.ts'
import {PROJECT_ROOT, readVersion} from './version.ts'
import {listenOn, socketsOf} from './wire.ts'

type Prepared = {readonly version: string; readonly templates: Awaited<ReturnType<typeof loadTemplates>>}

/** Reads what lies in the checkout: it may not be readable any more once privileges are given up. */
export async function prepare(start: RoleStart): Promise<PreparedRole> {
  const prepared = {version: readVersion(), templates: await loadTemplates(join(PROJECT_ROOT, 'templates'))}
  return {start: () => serve(start, prepared)}
}

async function serve(start: RoleStart, prepared: Prepared): Promise<RunningRole> {
  const {sealingKeys} = start
  if (!sealingKeys) throw new Error('control was started without the sealing key')
  const {clock = systemClock, boundary} = start.seams ?? {}
  const log = createLog('control')
  const connection = {url: start.databaseUrl, log, boundary}
  const db = createDb({...connection, applicationName: 'ingot-control', maxConnections: 20})
  const evidence = createEvidence({db})
  const inventory = createInventory({db, sealer: createSealer(sealingKeys.current)})
  const ipam = createIpam({db, clock, log})
  const artefacts = createArtefacts({dir: join(start.stateDir, 'artefacts'), log})
  const power = boundPower(createPower({log, clock, store: createMemoryStore(db)}), boundary)
  const handoff = createHandoff({dir: join(start.stateDir, 'handoff'), log, clock})
  const services = {
    db,
    clock,
    log,
    evidence,
    inventory,
    ipam,
    power,
    handoff,
    artefacts,
    renderInstall: createInstallRenderer(prepared.templates),
  }
  const lifecycle = createLifecycle(services)
  const boot = createBoot({db, evidence, claims: createClaims({db, evidence}), artefacts, clock, log})
  const snapshot = {ipam, inventory, openJobs: () => openJobsOf(db), profiles: () => profilesOf(db), now: () => databaseNow(db)}
  const explainers = {snapshot, inventory, ipam, boot, clock, artefacts}
  const keyholder = announceKeys({db, keys: sealingKeys, clock, log})
  const stops: (() => Promise<unknown>)[] = []

  if (start.services.includes('worker')) {
    // What an earlier control left running would meet this one's runs on the same machines.
    await handoff.reclaim().catch(error => log.error({err: error}, 'could not reclaim earlier handoffs'))
    const queue = createPool({...connection, applicationName: 'ingot-queue', maxConnections: 10})
    const worker = await startWorker(services, queue, start.workers)
    const housekeeping = startHousekeeping({db, evidence, inventory, ipam, power, clock, log, retentionDays: start.retentionDays})
    stops.push(
      () => worker.stop(),
      () => housekeeping.stop(),
      () => queue.end(),
    )
  }
  if (start.services.includes('api')) {
    const api = createApi(
      {
        db,
        clock,
        log,
        evidence,
        inventory,
        ipam,
        lifecycle,
        power,
        handoff,
        artefacts,
        dhcp: {changeOptions, changeLoaders, listOptionTypes},
        explain: createExplainer(explainers),
        explainCapture: createCaptureExplainer(explainers),
        metrics: createMetrics(lifecycle, evidence),
      },
      prepared.version,
    )
    const servers = await Promise.all(socketsOf(start, 'api').map(socket => listenOn(api.listen(), socket.fd)))
    stops.unshift(() => Promise.all(servers.map(closeServer)))
  }
  return {
    async stop() {
      for (const stop of stops) await stop()
      for (const runId of handoff.running()) await handoff.stop(runId)
      await power.close()
      await keyholder.stop()
      await db.destroy()
    },
  }
}
