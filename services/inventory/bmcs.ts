/** BMCs and the credentials of windows: sealed at rest, opened only in the process that holds the sealing key. */
import type {Kysely} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {Sealer} from '../../lib/seal.ts'
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

function requireSealer(sealer: Sealer | undefined): Sealer {
  if (!sealer) throw new Error('this process holds no sealing key: BMC credentials live only in control')
  return sealer
}

const bmcPlace = (machineId: string) => ({table: 'bmcs', row: machineId, field: 'password'})
const windowPlace = (windowId: string) => ({table: 'windows', row: windowId, field: 'bmc_password'})
