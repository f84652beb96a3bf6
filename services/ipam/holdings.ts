/** What happens to a holding after it began: a hold is confirmed, renewed, or over; an elastic address moves to another holder. */
import type {Db} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {endAddresses, nameOf, sameHolder, toWanted} from './allocate.ts'
import {OWN_HOLDERS} from './holds.ts'
import type {Allocation, Holder} from './model.ts'
import * as asking from './store/asking.ts'
import * as store from './store.ts'

const ACTOR = 'ipam'

/** @param until when the hold ends; null confirms it for good */
export function setExpiry(tx: Db, id: string, until: Date | null, now: Date): Promise<Allocation> {
  return store.inTx(tx, async tx => {
    await store.lockAllocations(tx, [id])
    const allocation = await requireAllocation(tx, id)
    if (allocation.freedAt === null && allocation.expiresAt === null && until !== null)
      throw new IngotError('CONFLICT', `${allocation.address} is no hold: it was given to ${nameOf(allocation.holder)} for good`)
    if (await asking.updateExpiry(tx, id, until, now)) return {...allocation, expiresAt: until}
    const over = allocation.freedAt ?? allocation.expiresAt
    throw new IngotError(
      'CONFLICT',
      `the hold of ${nameOf(allocation.holder)} on ${allocation.address} was over at ${over?.toISOString()}`,
      {
        mend: 'Ask for an address again.',
      },
    )
  })
}

/** Frees what was held until now and neither confirmed nor renewed. */
export function expireHolds(db: Db, now: Date): Promise<Allocation[]> {
  return store.inTx(db, async tx => endAddresses(tx, await asking.lockLapsed(tx, now), ACTOR, now, 'its hold was over'))
}

export type Move = {
  readonly to: Exclude<Holder, {kind: 'range'}>
  readonly interface?: string | null
  readonly reason: string
}

/** Passes an address on in one instant: at no time has it no holder, or two. @returns the new holding */
export async function move(
  tx: Db,
  id: string,
  {to, reason, interface: onInterface}: Move,
  actor: string,
  now: Date,
): Promise<Allocation> {
  const {holder} = toWanted({holder: to, purpose: 'service', reason})
  return await store.inTx(tx, async tx => {
    await store.lockAllocations(tx, [id])
    const from = await requireAllocation(tx, id)
    if (from.freedAt !== null)
      throw new IngotError('CONFLICT', `${from.address} was freed by ${from.freedBy} at ${from.freedAt.toISOString()}`)
    if (from.purpose === 'boot' || from.purpose === 'dynamic' || from.purpose === 'bmc' || isOwn(from.holder)) {
      throw new IngotError('CONFLICT', `${from.address} is the ${from.purpose} address of ${nameOf(from.holder)}`, {
        mend: 'Only addresses that were asked for can move; allocate one of those.',
      })
    }
    if (sameHolder(from.holder, holder) && from.interface === (onInterface ?? null)) return from
    if (from.anycast) {
      const [shared] = await store.selectAllocations(tx, store.whereShares(from, holder))
      if (shared) throw new IngotError('CONFLICT', `${nameOf(holder)} holds ${from.address} already`)
    }
    const wanted = {
      holder,
      purpose: from.purpose,
      reason,
      clientKey: null,
      interface: onInterface ?? null,
      tenant: from.tenant,
      expiresAt: from.expiresAt,
    }
    const moved = await store.handOver(tx, id, wanted, actor, now, `moved to ${nameOf(holder)}`)
    if (!moved) throw new Error(`${from.address} was freed while it was locked`)
    return await requireAllocation(tx, moved.id)
  })
}

function isOwn(holder: Holder): boolean {
  const own: readonly string[] = OWN_HOLDERS
  return holder.kind === 'service' && own.includes(holder.name)
}

async function requireAllocation(tx: Db, id: string): Promise<Allocation> {
  const [allocation] = await store.selectAllocations(tx, store.whereAllocation(id))
  if (allocation) return allocation
  throw new IngotError('NOT_FOUND', `there is no allocation ${id}`)
}
