/**
 * The worker: runs the queue's tasks, beats, and sweeps. Deadlines are columns that the sweep reads, never tasks; a sweep also looks at
 * every job that nobody looked at for a while, so that a lost wake-up heals by itself.
 */
import {randomUUID} from 'node:crypto'
import {EventEmitter} from 'node:events'
import {type Runner, run, type WorkerEvents} from 'graphile-worker'
import type {Pool} from 'pg'
import {sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import {advance} from './advance.ts'
import {driveGroups} from './groups/drive.ts'
import {createHandoffRuns} from './handoff-runs.ts'
import {createLifecycle} from './index.ts'
import {takeIn} from './intake.ts'
import {deleteOldPhaseTimes} from './pace-store.ts'
import {createPresence} from './presence.ts'
import {queueLogger} from './queue-log.ts'
import {patientPool} from './queue-pool.ts'
import {expireReservations} from './reservations.ts'
import type {LifecycleServices} from './services.ts'
import type {Self} from './steps/step.ts'
import * as store from './store.ts'
import {ADVANCE, advanceTask, INTAKE} from './tasks.ts'
import * as workerStore from './worker-store.ts'
import {BEAT_MS, beat} from './workers.ts'

const SWEEP_MS = 1_000
const LOOK_AGAIN_MS = 15_000
const DUE_AT_ONCE = 500
const FORGET_MS = 600_000
const RESTART_MS = 1_000

export type Worker = {readonly id: string; stop(): Promise<void>}

/**
 * @param pool        the queue's own connections; it must belong to the same database. One is kept for the locks of handoffs.
 * @param concurrency tasks at once
 */
export async function startWorker(services: LifecycleServices, pool: Pool, concurrency: number): Promise<Worker> {
  const {clock, log} = services
  const id = randomUUID()
  const startedAt = clock.now()
  const stopping = new AbortController()
  const queueIds = new Set<string>()
  const presence = createPresence(clock)
  const handoffs = createHandoffRuns(services, pool, {workerId: id, mayGoOn: presence.isFresh})
  const lifecycle = createLifecycle(services)
  const self: Self = {workerId: id, watch: presence.watch, handoffs}
  const beatNow = async () => {
    const atMs = clock.monotonicMs()
    await beat(services, {id, startedAt, queueIds: [...queueIds]})
    presence.beaten(atMs)
  }
  // The first beat comes before the first task: a step may act only while this process is known to live.
  await beatNow()
  let runner = await startRunner(services, pool, self, queueIds, concurrency)
  let ending = false
  await beatNow()
  const loops = [
    repeat('beat', BEAT_MS, stopping.signal, services, beatNow),
    repeat('sweep', SWEEP_MS, stopping.signal, services, () => sweep(services)),
    repeat('reservations', SWEEP_MS, stopping.signal, services, () => expireReservations(services)),
    repeat('groups', SWEEP_MS, stopping.signal, services, () =>
      driveGroups(services, lifecycle, () => !stopping.signal.aborted && presence.isFresh()),
    ),
    repeat('phase times', FORGET_MS, stopping.signal, services, () => deleteOldPhaseTimes(services.db)),
    repeat('handoffs', BEAT_MS, stopping.signal, services, () => handoffs.tend()),
    keepRunning(),
  ]
  log.info({worker: id}, 'worker runs')

  /** The queue gives up for good after some kinds of error; a worker without its queue would do nothing and beat on. */
  async function keepRunning(): Promise<void> {
    while (!ending) {
      const ended = runner.promise.catch(error => log.error({reason: messageOf(error)}, 'the queue ended; it is started again'))
      await Promise.race([ended, aborted(stopping.signal)])
      while (!ending) {
        await sleep(RESTART_MS, stopping.signal)
        if (ending) return
        try {
          runner = await startRunner(services, pool, self, queueIds, concurrency)
          break
        } catch (error) {
          log.warn({reason: messageOf(error)}, 'the queue could not be started; it is tried again')
        }
      }
    }
  }

  return {
    id,
    async stop() {
      // It beats until its last task is done: nobody may take that over meanwhile.
      ending = true
      await runner.stop().catch(error => log.debug({reason: messageOf(error)}, 'the queue had ended'))
      stopping.abort()
      await Promise.all(loops)
      await handoffs.stop()
      await workerStore.deleteWorkers(services.db, [id])
    },
  }
}

async function startRunner(
  services: LifecycleServices,
  pool: Pool,
  self: Self,
  queueIds: Set<string>,
  concurrency: number,
): Promise<Runner> {
  // Tasks are locked under the pool's id, queues under it or a worker's: both are this process. What an ended queue still held is not.
  queueIds.clear()
  const events = new EventEmitter() as WorkerEvents
  events.on('pool:create', ({workerPool}) => queueIds.add(workerPool.id))
  events.on('worker:create', ({worker}) => queueIds.add(worker.workerId))
  return run({
    pgPool: patientPool(pool),
    events,
    concurrency,
    noHandleSignals: true,
    // New tasks are told; this is for those that were not, by as many workers as there are.
    pollInterval: 2_000,
    logger: queueLogger(services.log),
    taskList: {
      [ADVANCE]: payload => advance(services, idIn(payload, 'job_id'), self),
      [INTAKE]: payload => takeIn(services, Number(idIn(payload, 'evidence_id'))),
    },
  })
}

/** Wakes every job whose deadline or look-again time has come. */
async function sweep(services: LifecycleServices): Promise<void> {
  await services.db.transaction().execute(async tx => {
    const now = await store.selectNow(tx)
    for (const jobId of await store.takeDueJobs(tx, now, new Date(now.getTime() + LOOK_AGAIN_MS), DUE_AT_ONCE)) {
      await services.evidence.enqueue(tx, advanceTask(jobId))
    }
  })
}

/** Runs `work` every `everyMs` until stopped. A failure is logged and the next turn tries again. */
async function repeat(
  name: string,
  everyMs: number,
  signal: AbortSignal,
  services: LifecycleServices,
  work: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await work()
    } catch (error) {
      services.log.warn({loop: name, err: error}, 'a turn failed; the next one tries again')
    }
    await sleep(everyMs, signal)
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), {once: true})
  })
}

function idIn(payload: unknown, key: string): string {
  const value = typeof payload === 'object' && payload !== null ? (payload as Record<string, unknown>)[key] : undefined
  if (typeof value !== 'string' && typeof value !== 'number') throw new Error(`a task came without ${key}`)
  return String(value)
}
