/**
 * Evidence: what was observed, append-only, written by every door and read by lifecycle; and events: what changed, by whom.
 * An observation that should move a job carries a task, committed with it: once a callback was answered, the job will be woken,
 * whatever dies next.
 */
import type {Kysely} from 'kysely'
import {withTx} from '../../lib/db.ts'
import type {Database} from '../../lib/schema.ts'
import {createPartitions, dropPartitionsBefore} from './partitions.ts'
import {storable} from './storable.ts'
import * as store from './store.ts'
import type {WireCount} from './watch-store.ts'
import * as watching from './watch-store.ts'

export type {EventRow, EvidenceRow, SeenEvent} from './store.ts'
export type {SourcedCount, WireCount} from './watch-store.ts'

/** A task for the queue: which handler, with what, in which (serial) queue, under which key (the same key queues once). */
export type Task = {name: string; payload: Record<string, unknown>; queue: string; key: string}

export type Observation = {
  at: Date
  kind: string
  source: string
  machineId?: string | undefined
  jobId?: string | undefined
  fence?: number | undefined
  mac?: string | undefined
  detail?: Record<string, unknown>
  /** a function when the task must name the evidence it came with */
  task?: Task | ((evidenceId: number) => Task) | undefined
}

/** A change, with who made it. `actor` is `api:<token name>`, `lifecycle`, `dhcpd`, … */
export type Change = {
  at: Date
  actor: string
  kind: string
  machineId?: string | undefined
  jobId?: string | undefined
  subject?: string | undefined
  detail?: Record<string, unknown>
}

export type Evidence = ReturnType<typeof createEvidence>

export function createEvidence({db}: {db: Kysely<Database>}) {
  return {
    /** Writes one observation and its task. Durable when it returns (or with `tx`). @returns the evidence id */
    async record(tx: Kysely<Database>, observation: Observation): Promise<number> {
      const [id = 0] = await store.insertEvidence(tx, [toRow(observation)])
      if (observation.task)
        await store.insertTask(tx, typeof observation.task === 'function' ? observation.task(id) : observation.task)
      return id
    },

    /** Writes several observations, best effort: for packets and fetches, which must never slow an answer. */
    async recordAll(observations: readonly Observation[]): Promise<void> {
      if (observations.length === 0) return
      await db.transaction().execute(async tx => {
        await store.insertEvidenceBatch(tx, observations.map(toRow))
        const tasks = new Map(observations.flatMap(({task}) => (task && typeof task !== 'function' ? [[task.key, task]] : [])))
        for (const task of tasks.values()) await store.insertTask(tx, task)
      })
    },

    /** Hands a task to the queue inside the caller's transaction. */
    async enqueue(tx: Kysely<Database>, task: Task): Promise<void> {
      await store.insertTask(tx, task)
    },

    /** Writes an audit event in the transaction of the change it tells of. */
    async changed(tx: Kysely<Database>, change: Change): Promise<void> {
      await store.insertEvent(tx, {
        at: change.at,
        actor: change.actor,
        kind: change.kind,
        machine_id: change.machineId ?? null,
        job_id: change.jobId ?? null,
        subject: change.subject ?? null,
        detail: storable(change.detail ?? {}),
      })
    },

    /**
     * Tells of something worrying, unless the same was told in the last `quietMs`, by whichever process. It is an event like any other
     * and changes nothing. @returns whether it was told
     */
    async alert(change: Change & {subject: string}, quietMs: number): Promise<boolean> {
      return withTx(db, async tx => {
        if (await watching.wasTold(tx, change.kind, change.subject, new Date(change.at.getTime() - quietMs))) return false
        await this.changed(tx, change)
        return true
      })
    },

    /** What a wire process counted since its start, for control to show; and the addresses by which DHCP clients know it. */
    async publish(source: string, counts: readonly WireCount[], servers: readonly string[], now: Date): Promise<void> {
      await withTx(db, async tx => {
        await watching.replaceCounters(tx, source, counts, now)
        await watching.upsertDhcpServers(tx, source, servers, now)
      })
    },
    counters: (since: Date) => watching.selectCounters(db, since),
    /** Whether an address is that of a DHCP server of this Ingot, on whichever host. */
    isOwnServer: (address: string, since: Date) => watching.isDhcpServer(db, address, since),
    forgetCounters: (before: Date) => watching.deleteOldCounters(db, before),

    /** What decides about an attempt, oldest first: without progress and logs. */
    ofFence: (tx: Kysely<Database>, fence: number) => store.selectEvidenceOfFence(tx, fence),
    /** How often each kind was recorded for an attempt. */
    async kindsOf(tx: Kysely<Database>, fence: number): Promise<ReadonlyMap<string, number>> {
      return new Map((await store.countKindsOfFence(tx, fence)).map(row => [row.kind, row.rows]))
    },
    byId: (id: number) => store.selectEvidence(db, id),
    /** Newest first; `before` is the last id of the page before. */
    ofMachine: (machineId: string, page: {before?: number | undefined; limit: number}) =>
      store.selectEvidenceOfMachine(db, machineId, page.before, page.limit),
    /** Events from a place on, and the horizon below which every transaction has ended. What a cursor must hold is the reader's. */
    events: (from: Parameters<typeof store.selectEvents>[1]) => store.selectEvents(db, from),
    eventsEnd: () => store.selectEventsEnd(db),
    eventsStart: (count: number, machineId: string | null) => store.selectEventsStart(db, count, machineId),

    /** Makes the partitions of today and tomorrow and drops those older than the retention. @returns names dropped */
    async keepPartitions(now: Date, retentionDays: number): Promise<string[]> {
      await createPartitions(db, now)
      await createPartitions(db, new Date(now.getTime() + 86_400_000))
      return dropPartitionsBefore(db, new Date(now.getTime() - retentionDays * 86_400_000))
    },
  }
}

function toRow(observation: Observation): store.NewEvidence {
  return {
    at: observation.at,
    machine_id: observation.machineId ?? null,
    job_id: observation.jobId ?? null,
    fence: observation.fence ?? null,
    kind: observation.kind,
    mac: observation.mac ?? null,
    source: observation.source,
    detail: storable(observation.detail ?? {}),
  }
}
