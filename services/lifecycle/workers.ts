/** Which processes work, and freeing what the dead ones held. */
import {readlinkSync} from 'node:fs'
import {hostname} from 'node:os'
import {SILENCE_MS} from './presence.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import * as workerStore from './worker-store.ts'

export const BEAT_MS = 3_000

export function isAlive(worker: Pick<workerStore.WorkerRow, 'beat_at'>, now: Date): boolean {
  return now.getTime() - worker.beat_at.getTime() < SILENCE_MS
}

/** Says that this process lives, then unlocks whatever a process that no longer does had taken from the queue. */
export async function beat(
  services: Pick<LifecycleServices, 'db' | 'log'>,
  me: {id: string; startedAt: Date; queueIds: readonly string[]},
): Promise<void> {
  const {db, log} = services
  const now = await store.selectNow(db)
  await workerStore.upsertWorker(db, {
    id: me.id,
    host: HERE,
    pid: process.pid,
    queue_ids: [...me.queueIds],
    started_at: me.startedAt,
    beat_at: now,
  })
  const workers = await workerStore.selectWorkers(db)
  const dead = workers.filter(worker => worker.id !== me.id && !(isAlive(worker, now) && isRunningHere(worker) !== false))
  const live = new Set(workers.filter(worker => !dead.includes(worker)).flatMap(worker => worker.queue_ids))
  for (const id of me.queueIds) live.add(id)
  const known = new Set(dead.flatMap(worker => worker.queue_ids))
  // A holder nobody knows may be a process that has not beaten yet: it gets as long as a silent one.
  const silentSince = new Date(now.getTime() - SILENCE_MS)
  const holders = await workerStore.selectLockHolders(db, silentSince)
  const orphans = holders.filter(holder => !live.has(holder.id) && (known.has(holder.id) || holder.old)).map(holder => holder.id)
  if (orphans.length > 0) {
    log.warn({orphans, dead: dead.map(worker => worker.id)}, 'unlocking what dead workers held')
    await workerStore.unlockQueue(db, orphans)
  }
  await workerStore.unlockIdleQueues(db, silentSince)
  await workerStore.deleteWorkers(
    db,
    dead.map(worker => worker.id),
  )
}

/** Where a pid means something: containers of one host may share its name, and each numbers its processes afresh (pid_namespaces(7)). */
const HERE = `${hostname()} ${readlinkSync('/proc/self/ns/pid')}`

/** For a worker of this host, whether its process runs; undefined for other hosts, where only silence tells. */
function isRunningHere(worker: workerStore.WorkerRow): boolean | undefined {
  if (worker.host !== HERE) return undefined
  try {
    process.kill(worker.pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
