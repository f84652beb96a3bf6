/** What the database itself refuses, as an error that people can read: its message names the other party. */
import {sqlState} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'

/** Constraints whose violation is a person's mistake, with what to do about it. */
const REFUSALS: Readonly<Record<string, string>> = {
  containers_hold_prefixes: 'Make the outer one a container, or choose another network.',
  prefix_keeps_its_network: 'Add a prefix of the other kind and remove this one.',
  range_in_prefix: 'Give a range inside of the prefix.',
  gateway_outside_ranges: 'End the range before the gateway, or change the gateway.',
  address_in_prefix: 'Ask the prefix that the address lies in.',
  held_prefix_stays: 'Free that address first.',
}

/** @param undo to the savepoint before `work`, so that the transaction goes on */
export async function namingRefusal<T>(undo: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const refusal = refusalOf(error)
    if (!refusal) throw error
    await undo()
    throw refusal
  }
}

export function refusalOf(error: unknown): IngotError | undefined {
  if (sqlState(error) !== '23514' || !(error instanceof Error)) return undefined
  const mend = REFUSALS[(error as {constraint?: string}).constraint ?? '']
  return mend === undefined ? undefined : new IngotError('CONFLICT', error.message, {mend, cause: error})
}
