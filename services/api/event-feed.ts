/**
 * Events in an order that a cursor follows without missing one.
 *
 * An event draws its id when it is written and is seen when its transaction commits: a lower id may appear after a higher one. Every
 * transaction below the horizon (`pg_snapshot_xmin`) has ended. A cursor therefore is an id and a horizon, `<id>.<horizon>`: delivered
 * is every event up to the id whose transaction lies below the horizon. The next page brings what is after the id, and of what is before
 * it those whose transaction lay above: they came late. A late one is looked for among the last `LOOK_BACK` ids, far more than are
 * drawn while one of our transactions (milliseconds long; the server ends an idle one after a minute) is open.
 */
import {z} from 'zod'
import {sleep} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Evidence, SeenEvent} from '../evidence/index.ts'
import type {Page} from './page.ts'

export type Event = Omit<SeenEvent, 'late'>

export type EventPage = Page<Event> & {readonly next: string}

/** Where to begin: `now`, a cursor, or the id of an event. */
export const eventCursor = z
  .string()
  .regex(/^(now|\d{1,15}(\.\d{1,19})?)$/, 'is `now`, the `next` of a page, or the id of an event')
  .default('0')

export const LONGEST_WAIT_S = 25
const LOOK_MS = 250
const LOOK_BACK = 10_000
/** So many waiters look at the usual pace; more of them look less often, so that the database is asked no more. */
const WAITERS_AT_PACE = 20

type EventSource = Pick<Evidence, 'events' | 'eventsEnd' | 'eventsStart'>

export type EventFeed = ReturnType<typeof createEventFeed>

type Asked = {
  after: string
  last?: number | undefined
  limit: number
  machineId?: string | undefined
  wait_s?: number
}

export function createEventFeed({evidence, clock}: {evidence: EventSource; clock: {monotonicMs(): number}}) {
  let waiters = 0
  return {
    /** `next` is the cursor to go on from, even when nothing came within `wait_s`. */
    async read(asked: Asked, signal: AbortSignal): Promise<EventPage> {
      const end = clock.monotonicMs() + (asked.wait_s ?? 0) * 1000
      let from = await startOf(evidence, asked)
      waiters++
      try {
        for (;;) {
          const page = await pageFrom(evidence, from, asked)
          if (page.items.length > 0 || clock.monotonicMs() >= end || signal.aborted) return page
          from = parseCursor(page.next)
          await sleep(LOOK_MS * Math.max(1, waiters / WAITERS_AT_PACE), signal)
        }
      } finally {
        waiters--
      }
    },
  }
}

type Cursor = {readonly after: number; readonly since: string | null}

async function startOf(evidence: EventSource, asked: Asked): Promise<Cursor> {
  if (asked.last !== undefined) {
    if (asked.after !== '0') {
      throw new IngotError('INVALID_INPUT', '`after` and `last` exclude each other', {
        errors: [{field: 'last', code: 'excluded', message: 'cannot be given together with `after`'}],
      })
    }
    return {after: await evidence.eventsStart(asked.last, asked.machineId ?? null), since: null}
  }
  if (asked.after !== 'now') return parseCursor(asked.after)
  const {last, horizon} = await evidence.eventsEnd()
  return {after: last, since: horizon}
}

async function pageFrom(evidence: EventSource, from: Cursor, asked: Asked): Promise<EventPage> {
  const {horizon, rows} = await evidence.events({
    ...from,
    lookBack: LOOK_BACK,
    limit: asked.limit,
    machineId: asked.machineId ?? null,
  })
  const newest = rows.findLast(row => !row.late)?.id ?? from.after
  return {items: rows.map(({late: _late, ...event}) => event), next: `${newest}.${horizon}`}
}

function parseCursor(text: string): Cursor {
  const [id = '0', since] = text.split('.')
  return {after: Number(id), since: since ?? null}
}
