/**
 * One look at a job in one statement: a consistent snapshot by itself, and one way to the database instead of nine. It is what a worker
 * asks most of all.
 */
import {type Kysely, type Selectable, sql} from 'kysely'
import type * as schema from '../../lib/schema.ts'
import type {Database} from '../../lib/schema.ts'
import type {AttemptRow, JobRow} from './store.ts'

export type AttemptLook = Pick<AttemptRow, 'powered_at' | 'claimed_at'>
export type EffectLook = Pick<Selectable<schema.EffectsTable>, 'phase' | 'tries' | 'outcome'> & {readonly finished: boolean}

export type JobLook = {
  readonly job: JobRow
  readonly now: Date
  readonly attempt: AttemptLook
  readonly proven: readonly string[]
  readonly effects: readonly EffectLook[]
  /** Ids of the workers whose last beat is not older than was asked for. */
  readonly alive: readonly string[]
}

/** @throws when the job has no attempt for its fence, which no commit leaves */
export async function selectLook(db: Kysely<Database>, jobId: string, silenceMs: number): Promise<JobLook | undefined> {
  const row = await db
    .selectFrom('jobs')
    .leftJoin('attempts', 'attempts.fence', 'jobs.fence')
    .selectAll('jobs')
    .select([
      'attempts.job_id as look_attempt',
      'attempts.powered_at as look_powered_at',
      'attempts.claimed_at as look_claimed_at',
      sql<Date>`clock_timestamp()`.as('look_now'),
      sql<string[]>`ARRAY(SELECT p.phase FROM phases p WHERE p.fence = jobs.fence ORDER BY p.at)`.as('look_proven'),
      sql<EffectLook[] | null>`(SELECT json_agg(json_build_object('phase', f.phase, 'tries', f.tries, 'outcome', f.outcome,
        'finished', f.finished_at IS NOT NULL)) FROM effects f WHERE f.fence = jobs.fence)`.as('look_effects'),
      sql<string[]>`ARRAY(SELECT w.id FROM workers w
        WHERE w.beat_at > clock_timestamp() - ${silenceMs}::float8 * interval '1 ms')`.as('look_alive'),
    ])
    .where('jobs.id', '=', jobId)
    .executeTakeFirst()
  if (!row) return undefined
  const {look_attempt, look_powered_at, look_claimed_at, look_now, look_proven, look_effects, look_alive, ...job} = row
  if (!look_attempt) throw new Error(`job ${jobId} has no attempt for fence ${job.fence}`)
  return {
    job,
    now: look_now,
    attempt: {powered_at: look_powered_at, claimed_at: look_claimed_at},
    proven: look_proven,
    effects: look_effects ?? [],
    alive: look_alive,
  }
}
