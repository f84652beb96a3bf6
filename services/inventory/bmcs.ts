/** BMCs and the credentials of windows: sealed at rest, opened only in the process that holds the sealing key. */
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import {type Sealer, type SealPlace, sealedUnder} from '../../lib/seal.ts'
import type {Secret} from '../../lib/secret.ts'
import * as store from './store.ts'

export type BmcInput = {
  driver: 'ipmi' | 'manual'
  address?: string | undefined
  port?: number | undefined
  username?: string | undefined
  password?: Secret | undefined
}

/** A BMC with its password opened. */
export type BmcAccess = {
  driver: 'ipmi' | 'manual'
  address: string | undefined
  port: number
  username: string | undefined
  password: Secret | undefined
  provenAt: Date | null
}

export async function setBmc(
  tx: Kysely<Database>,
  sealer: Sealer | undefined,
  machineId: string,
  input: BmcInput,
  now: Date,
): Promise<void> {
  const sealed = input.password && requireSealer(sealer).seal(input.password, bmcPlace(machineId))
  await store.upsertBmc(tx, {
    machine_id: machineId,
    driver: input.driver,
    address: input.address ?? null,
    port: input.port ?? 623,
    username: input.username ?? null,
    password_sealed: sealed ?? null,
    proven_at: null,
    updated_at: now,
  })
}

export async function openBmc(
  db: Kysely<Database>,
  sealer: Sealer | undefined,
  machineId: string,
): Promise<BmcAccess | undefined> {
  const row = await store.selectBmc(db, machineId)
  if (!row) return undefined
  return {
    driver: row.driver,
    address: row.address ?? undefined,
    port: row.port,
    username: row.username ?? undefined,
    password: row.password_sealed ? requireSealer(sealer).open(row.password_sealed, bmcPlace(machineId)) : undefined,
    provenAt: row.proven_at,
  }
}

export function sealWindowPassword(sealer: Sealer | undefined, windowId: string, password: Secret): Buffer {
  return requireSealer(sealer).seal(password, windowPlace(windowId))
}

export function openWindowPassword(sealer: Sealer | undefined, window: store.WindowRow): Secret | undefined {
  if (!window.bmc_password_sealed) return undefined
  return requireSealer(sealer).open(window.bmc_password_sealed, windowPlace(window.id))
}

/** What sealing everything anew did: how many values, and which no key opens. */
export type Resealed = {readonly resealed: number; readonly unopenable: readonly SealPlace[]}

/**
 * Seals everything that is under another key anew, a row at a time, and opens again what it wrote. A row that was changed meanwhile is
 * left to whoever changed it, and found by the next pass if need be.
 */
export async function resealAll(db: Kysely<Database>, sealer: Sealer): Promise<Resealed> {
  const unopenable: SealPlace[] = []
  let resealed = 0
  for (const {row, sealed, put} of await sealedValues(db)) {
    const fresh = resealOne(sealer, sealed, row)
    if (fresh === 'unopenable') unopenable.push(row)
    else if (fresh && (await put(fresh))) resealed += 1
  }
  return {resealed, unopenable}
}

/** How many values are sealed under which key, by its name; `unnamed` for those of a version that did not say. */
export async function countSealed(db: Kysely<Database>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const {sealed} of await sealedValues(db)) {
    const id = sealedUnder(sealed) ?? 'unnamed'
    counts[id] = (counts[id] ?? 0) + 1
  }
  return counts
}

type SealedValue = {readonly row: SealPlace; readonly sealed: Buffer; readonly put: (fresh: Buffer) => Promise<boolean>}

/** Every column that holds something sealed. Values are some 130 bytes each. */
async function sealedValues(db: Kysely<Database>): Promise<SealedValue[]> {
  const bmcs = await store.selectSealedBmcs(db)
  const windows = await store.selectSealedWindows(db)
  return [
    ...bmcs.map(({id, sealed}) => ({
      row: bmcPlace(id),
      sealed,
      put: (fresh: Buffer) => store.updateSealedBmc(db, id, {before: sealed, after: fresh}),
    })),
    ...windows.map(({id, sealed}) => ({
      row: windowPlace(id),
      sealed,
      put: (fresh: Buffer) => store.updateSealedWindow(db, id, {before: sealed, after: fresh}),
    })),
  ]
}

function resealOne(sealer: Sealer, sealed: Buffer, place: SealPlace): Buffer | 'unopenable' | undefined {
  let fresh: Buffer | undefined
  try {
    fresh = sealer.reseal(sealed, place)
  } catch {
    return 'unopenable'
  }
  if (fresh) sealer.open(fresh, place)
  return fresh
}

function requireSealer(sealer: Sealer | undefined): Sealer {
  if (!sealer) throw new Error('this process holds no sealing key: BMC credentials live only in control')
  return sealer
}

const bmcPlace = (machineId: string) => ({table: 'bmcs', row: machineId, field: 'password'})
const windowPlace = (windowId: string) => ({table: 'windows', row: windowId, field: 'bmc_password'})
