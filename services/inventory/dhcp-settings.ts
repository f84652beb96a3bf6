/**
 * What DHCP clients are told beside their prefix's settings (options, loaders), by scope; and by what else than a MAC machines are known.
 * Inventory stores it; what an option may be is dhcpd's to say, and is checked at the door.
 */
import type {Kysely} from 'kysely'
import {IngotError} from '../../lib/errors.ts'
import type {Database, StoredDhcpOptions} from '../../lib/schema.ts'
import * as store from './store.ts'

export type DhcpScopeOwner = {readonly prefixId?: string; readonly profileId?: string; readonly machineId?: string}
export type DhcpScopeSettings = {readonly options: StoredDhcpOptions; readonly loaders: Readonly<Record<string, string>>}
export type NewClientKey = {
  readonly kind: 'client_id' | 'circuit_id'
  /** Hexadecimal with colons. */
  readonly value: string
  readonly relay: string | null
}

export async function readDhcpScope(db: Kysely<Database>, owner: DhcpScopeOwner): Promise<DhcpScopeSettings> {
  const row = await store.selectDhcpScope(db, rowOf(owner))
  return {options: row?.options ?? {}, loaders: row?.loaders ?? {}}
}

/** Reads and writes under the scope's lock: two that change different options at once both keep theirs. */
export async function changeDhcpScope(
  tx: Kysely<Database>,
  owner: DhcpScopeOwner,
  change: (before: DhcpScopeSettings) => DhcpScopeSettings,
): Promise<DhcpScopeSettings> {
  const {id, options, loaders} = await store.lockDhcpScope(tx, rowOf(owner))
  const after = change({options, loaders})
  await store.updateDhcpScope(tx, id, {options: JSON.stringify(after.options), loaders: JSON.stringify(after.loaders)})
  return after
}

/** @throws IngotError CONFLICT naming the machine that has it */
export async function addClientKey(tx: Kysely<Database>, machineId: string, key: NewClientKey): Promise<store.ClientKeyRow> {
  const added = await store.insertClientKey(tx, {machine_id: machineId, ...key})
  if (added !== undefined) return added
  const other = await store.selectClientKey(tx, key)
  if (other?.machine_id === machineId) return other
  const owner = other && (await store.selectMachine(tx, other.machine_id))
  throw new IngotError('CONFLICT', `${key.value} is a key of machine '${owner?.name ?? 'unknown'}'`)
}

function rowOf({
  prefixId = null,
  profileId = null,
  machineId = null,
}: {
  prefixId?: string | null
  profileId?: string | null
  machineId?: string | null
}): store.ScopeOwner {
  return {prefix_id: prefixId, profile_id: profileId, machine_id: machineId}
}
