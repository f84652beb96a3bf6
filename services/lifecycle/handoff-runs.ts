/**
 * The handoffs that this process runs. A run takes up to an hour and has no fence of its own, so PostgreSQL keeps it single: who runs it
 * holds an advisory lock named by its fence, on a connection that lives as long as the process. A process that dies gives its locks back
 * with its connection; one that is only silent keeps them, and whoever took over its jobs waits.
 *
 * A run's result is evidence, kept here until it could be written. A run that was stopped says nothing: its job is over, or the run is
 * started again, here or elsewhere.
 */
import type {Pool, PoolClient} from 'pg'
import {messageOf} from '../../lib/errors.ts'
import type {HandoffMachine} from '../handoff/index.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'

export type RunOrder = {
  readonly jobId: string
  readonly machineId: string
  readonly fence: number
  readonly config: unknown
  readonly machine: HandoffMachine
}

export type HandoffRuns = {
  /** @returns `elsewhere` while another process holds the run */
  start(order: RunOrder): Promise<'here' | 'elsewhere'>
  /** Ends runs whose jobs are over, writes results that could not be written before, gives up what it lost. To be called often. */
  tend(): Promise<void>
  stop(): Promise<void>
}

type Result = {readonly ok: boolean; readonly detail: Record<string, unknown>}
type Run = {readonly order: RunOrder; result?: Result | 'stopped'; settling?: boolean}

/** @param mayGoOn false once others may have taken over what this process was doing */
export function createHandoffRuns(
  services: LifecycleServices,
  pool: Pool,
  self: {readonly workerId: string; readonly mayGoOn: () => boolean},
): HandoffRuns {
  const {db, handoff, log} = services
  const runs = new Map<number, Run>()
  const locks = createLocks(pool, () => stopRuns([...runs.keys()]))

  async function stopRuns(fences: readonly number[]): Promise<void> {
    await Promise.all(
      fences.map(async fence => {
        const run = runs.get(fence)
        if (!run || run.result) return
        run.result = 'stopped'
        await handoff.stop(runIdOf(run.order))
      }),
    )
  }

  async function settle(fence: number, run: Run): Promise<void> {
    if (!run.result || run.settling) return
    run.settling = true
    try {
      if (run.result !== 'stopped') await record(run.order, run.result)
      runs.delete(fence)
      await locks.give(lockOf(fence))
    } finally {
      run.settling = false
    }
  }

  async function record(order: RunOrder, {ok, detail}: Result): Promise<void> {
    await db.transaction().execute(tx =>
      services.evidence.record(tx, {
        at: services.clock.now(),
        kind: ok ? 'handed_off' : 'handoff_failed',
        source: 'handoff',
        machineId: order.machineId,
        jobId: order.jobId,
        fence: order.fence,
        detail,
        task: advanceTask(order.jobId),
      }),
    )
  }

  function carryOut(run: Run): void {
    const {order} = run
    const started = handoff.start({runId: runIdOf(order), config: handoff.validate(order.config), machine: order.machine})
    void started.done
      .then(({outcome, summary, cause, outputTail}) => {
        run.result ??= {ok: outcome === 'done', detail: {...summary, ...cause, output_tail: outputTail}}
        return settle(order.fence, run)
      })
      .catch(error => log.warn({job: order.jobId, reason: messageOf(error)}, 'the result of a handoff waits to be written'))
  }

  return {
    async start(order) {
      if (runs.has(order.fence)) return 'here'
      if (!(await locks.take(lockOf(order.fence)))) return 'elsewhere'
      const run: Run = {order}
      runs.set(order.fence, run)
      try {
        carryOut(run)
      } catch (error) {
        run.result = 'stopped'
        await settle(order.fence, run)
        throw error
      }
      return 'here'
    },
    async tend() {
      if (!self.mayGoOn()) await stopRuns([...runs.keys()])
      const open = new Set(await store.selectOpenFences(db, [...runs.keys()]))
      await stopRuns([...runs.keys()].filter(fence => !open.has(fence)))
      for (const [fence, run] of runs) await settle(fence, run)
      await store.abandonEffects(db, 'handed_off', self.workerId, [...runs.keys()])
    },
    async stop() {
      await stopRuns([...runs.keys()])
      await locks.close()
    },
  }
}

/** Advisory locks on one connection. Whoever loses it has lost them all. */
function createLocks(pool: Pool, onLost: () => Promise<void>) {
  let connection: Promise<PoolClient> | undefined

  async function connect(): Promise<PoolClient> {
    const client = await pool.connect()
    const lose = () => {
      client.off('error', lose).off('end', lose)
      client.release(true)
      connection = undefined
      void onLost()
    }
    client.on('error', lose).on('end', lose)
    // A host that vanished must not keep its locks for the two hours that TCP would take to notice.
    await client.query('SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3')
    return client
  }

  return {
    async take(name: string): Promise<boolean> {
      connection ??= connect()
      const client = await connection.catch(error => {
        connection = undefined
        throw error
      })
      const {rows} = await client.query<{mine: boolean}>('SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS mine', [name])
      return rows[0]?.mine === true
    },
    /** On a lost connection the lock is gone already. */
    async give(name: string): Promise<void> {
      const client = await connection?.catch(() => undefined)
      await client?.query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [name]).catch(() => undefined)
    },
    async close(): Promise<void> {
      const client = await connection?.catch(() => undefined)
      connection = undefined
      client?.removeAllListeners('end').release(true)
    },
  }
}

function runIdOf({jobId, fence}: RunOrder): string {
  return `${jobId}-${fence}`
}

function lockOf(fence: number): string {
  return `ingot handoff ${fence}`
}
