/**
 * The narrow gate before anything destructive.
 *
 * `serve`   an attempt's installer script leaves once: the row is stamped in a committed transaction before a byte is sent.
 *           Whoever asks again gets local boot, and the attempt ends with LOADER_LOOP unless its disk was already written.
 * `claim`   the ramdisk's permission to write. It locks the job row, checks that the attempt's fence is still the job's, and succeeds
 *           once. The ramdisk brings the session secret it made in its own memory, so a reply that was lost can be asked for again by
 *           the same ramdisk, while a second claimant, who cannot know the secret, is told no and ends the attempt.
 *
 * Concurrency: both take the job's row lock first, then the attempt's; a cancel or a new attempt takes the same lock, so after either
 * commits no late claim of the old fence can succeed.
 */
import {createHash, timingSafeEqual} from 'node:crypto'
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {Evidence} from '../evidence/index.ts'
import * as store from './store.ts'
import {advanceTask} from './tasks.ts'

export type Served = {answer: 'serve'} | {refused: 'attempt_over' | 'loader_loop' | 'written'}
export type Claimed = {granted: store.JobRow} | {refused: 'ATTEMPT_OVER' | 'SECOND_CLAIM' | 'CANCELLED'}
export type AttemptOwner = {machineId: string; jobId: string}

export type Claims = ReturnType<typeof createClaims>

export function createClaims({db, evidence}: {db: Kysely<Database>; evidence: Evidence}) {
  return {
    /** Stamps an attempt's installer as served. @param written whether its disk is already proven written or wiped */
    serve(fence: number, from: string): Promise<Served> {
      return db.transaction().execute(async tx => {
        const now = await store.selectNow(tx)
        const job = await store.lockJobOfFence(tx, fence)
        const attempt = await store.lockAttempt(tx, fence)
        if (!job || !attempt || attempt.ended_at || !isOpen(job)) return {refused: 'attempt_over'} as const
        if (!attempt.served_at) {
          await store.updateAttempt(tx, fence, {served_at: now})
          await record(tx, job, 'script_fetched', now, {from})
          return {answer: 'serve'} as const
        }
        const seen = await evidence.kindsOf(tx, fence)
        if (seen.has('disk_written') || seen.has('wiped') || seen.has('local_boot_set')) return {refused: 'written'} as const
        if (!seen.has('loader_loop')) await record(tx, job, 'loader_loop', now, {from})
        return {refused: 'loader_loop'} as const
      })
    },

    /** @param session the secret that the ramdisk made; only its hash is stored */
    claim(fence: number, session: string, from: string): Promise<Claimed> {
      return db.transaction().execute(async tx => {
        const now = await store.selectNow(tx)
        const job = await store.lockJobOfFence(tx, fence)
        const attempt = await store.lockAttempt(tx, fence)
        if (!job || !attempt || attempt.ended_at || !isOpen(job)) return {refused: 'ATTEMPT_OVER'} as const
        if (job.cancel_requested) return {refused: 'CANCELLED'} as const
        const hash = hashSession(session)
        if (attempt.session_hash) {
          if (timingSafeEqual(attempt.session_hash, hash)) return {granted: job}
          await record(tx, job, 'second_claim', now, {from})
          return {refused: 'SECOND_CLAIM'} as const
        }
        await store.updateAttempt(tx, fence, {claimed_at: now, session_hash: hash})
        await record(tx, job, 'claimed', now, {from})
        return {granted: job}
      })
    },

    /** The job of a claimed session, while its attempt is the current one; undefined otherwise. */
    async jobOfSession(fence: number, session: string): Promise<store.JobRow | undefined> {
      const attempt = await store.selectAttempt(db, fence)
      if (!attempt?.session_hash || attempt.ended_at || !timingSafeEqual(attempt.session_hash, hashSession(session)))
        return undefined
      const job = await store.selectJob(db, attempt.job_id)
      return job && job.fence === fence && isOpen(job) ? job : undefined
    },

    /**
     * Whose attempt this is or was, for what is recorded and changes nothing any more.
     * @param session must be the attempt's own, when it is given
     */
    async ownerOf(fence: number, session?: string): Promise<AttemptOwner | undefined> {
      const attempt = await store.selectAttempt(db, fence)
      if (!attempt) return undefined
      if (session !== undefined && !(attempt.session_hash && timingSafeEqual(attempt.session_hash, hashSession(session))))
        return undefined
      const job = await store.selectJob(db, attempt.job_id)
      return job && {machineId: job.machine_id, jobId: job.id}
    },

    /** Work that only one may do at a time for an attempt: what it reads there stays so until it commits. */
    async alone<T>(fence: number, work: (tx: Kysely<Database>) => Promise<T>): Promise<T> {
      return db.transaction().execute(async tx => {
        await store.lockAttempt(tx, fence)
        return work(tx)
      })
    },
  }

  async function record(tx: Kysely<Database>, job: store.JobRow, kind: string, at: Date, detail: Record<string, unknown>) {
    await evidence.record(tx, {
      at,
      kind,
      source: 'boot',
      machineId: job.machine_id,
      jobId: job.id,
      fence: job.fence,
      detail,
      task: advanceTask(job.id),
    })
  }
}

/** A job that is held is open too, but nothing may happen for it. */
function isOpen(job: store.JobRow): boolean {
  return job.state !== 'held' && (store.OPEN_JOB_STATES as readonly string[]).includes(job.state)
}

function hashSession(session: string): Buffer {
  return createHash('sha256').update(session).digest()
}
