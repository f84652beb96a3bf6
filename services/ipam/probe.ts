/**
 * Looks whether a freed address is still in use before it is given to somebody else. In the background, while it cools down: whoever asks
 * for an address waits for nothing. What answers keeps the address out of use until it falls silent.
 */
import type {Db} from '../../lib/db.ts'
import type {IpAddress} from './integers.ts'
import * as usage from './store/usage.ts'

/** @returns who answers, in words; null for silence or where it cannot be known */
export type Look = (address: IpAddress) => Promise<string | null>

export type Conflict = {readonly address: IpAddress; readonly cidr: string; readonly seen: string}

const AT_ONCE = 64
const AGAIN_S = 60

/** @returns addresses at which something answers that did not before */
export async function probeFreed(db: Db, look: Look, now: Date): Promise<Conflict[]> {
  const due = await usage.selectToProbe(db, now, AGAIN_S, AT_ONCE)
  if (due.length === 0) return []
  const seen = await Promise.all(due.map(async probe => ({...probe, seen: await look(probe.address)})))
  await usage.updateProbed(
    db,
    seen.map(row => ({id: row.id, conflict: row.seen})),
    now,
  )
  return seen.flatMap(row =>
    row.seen !== null && row.conflict === null ? [{address: row.address, cidr: row.cidr, seen: row.seen}] : [],
  )
}
