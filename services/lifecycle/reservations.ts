/** Reservations: an available machine kept for somebody until a time. Their end is a column that a sweep reads. */
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import {next} from './next.ts'
import {enterState, moveWithoutJob, standingOf} from './requests.ts'
import type {LifecycleServices} from './services.ts'
import * as store from './store.ts'

const AT_ONCE = 100
/** Longer than this nobody means. */
const LONGEST_MS = 366 * 24 * 3600 * 1000

export async function reserve(
  services: LifecycleServices,
  tx: Kysely<Database>,
  machineId: string,
  input: {for: string; until: Date},
  actor: string,
): Promise<void> {
  const now = await store.selectNow(tx)
  if (input.until <= now || input.until.getTime() - now.getTime() > LONGEST_MS) {
    const message = 'is not between now and a year from now'
    throw new IngotError('INVALID_INPUT', `the reservation’s end ${message}`, {
      errors: [{field: 'until', code: 'range', message}],
    })
  }
  const set = {reserved_for: input.for, reserved_until: input.until}
  await moveWithoutJob(services, tx, {machineId, event: 'reserve', actor, set})
}

/** Gives back what was reserved until now. Replicas share the work: who finds a row locked leaves it. */
export async function expireReservations(services: LifecycleServices): Promise<void> {
  await services.db.transaction().execute(async tx => {
    const now = await store.selectNow(tx)
    for (const state of await store.lockExpiredReservations(tx, now, AT_ONCE)) {
      const result = next(standingOf(state, undefined), 'reservation_expired')
      if ('refused' in result) continue
      const because = `its reservation for ${state.reserved_for} is over`
      await enterState(services, tx, state, result.to, {now, actor: 'lifecycle', because})
    }
  })
}
