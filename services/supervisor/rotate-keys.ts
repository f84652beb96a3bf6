/**
 * Rotates the key that seals BMC credentials, while Ingot runs.
 *
 *   1  a new key joins the ring as `coming`; every process that seals or opens gets it, and opens with both
 *   2  it becomes `primary`, the old one `leaving`; every process seals with the new one from here on
 *   3  every sealed value is opened and sealed anew, each under its old bytes: one that was changed meanwhile is the newer one's
 *   4  what is left under the old key is nothing, or cannot be opened by any key; the old key goes
 *
 * Every stage is written to the ring's file before its work begins, so whoever begins again after a crash goes on from there. No stage
 * takes a key away that something still needs.
 */
import {randomBytes} from 'node:crypto'
import {dirname, join} from 'node:path'
import {type Kysely, sql} from 'kysely'
import {sleep} from '../../lib/clock.ts'
import {KEY_BYTES, type Keyring, keyringOf, type SealingKey} from '../../lib/keyring.ts'
import type {Database} from '../../lib/schema.ts'
import {createSealer} from '../../lib/seal.ts'
import {createEvidence} from '../evidence/index.ts'
import {createInventory, type Resealed} from '../inventory/index.ts'
import {type Keyholder, selectKeyholders} from './keyholders.ts'
import {readSealingKeys, writeSealingKeys} from './sealing-key.ts'
import {lockState} from './state-lock.ts'

export type Rotation = {readonly from: string; readonly to: string} & Resealed

export type RotationParts = {
  readonly keyFile: string
  readonly db: Kysely<Database>
  /** Makes the Ingot of this host read the file again; nothing when none runs. */
  readonly renewKeys: () => void
  /** Told whom it waits for, whenever that changes. */
  readonly waitsFor: (holders: readonly Keyholder[]) => void
  readonly signal: AbortSignal
  /** Told before each stage, for tests that stop there. */
  readonly stage?: (name: 'coming' | 'primary' | 'resealed' | 'done') => void | Promise<void>
}

const LOOK_MS = 200

/** @throws IngotError PREFLIGHT_FAILED, DATABASE_LOCKED when another rotation runs; the signal's reason when it is given up */
export async function rotateKeys(parts: RotationParts): Promise<Rotation> {
  const lock = lockState(join(dirname(parts.keyFile), 'rotation'))
  try {
    let ring = readSealingKeys(parts.keyFile)
    if (ring.keys.length === 1)
      ring = await enter(parts, 'coming', keyringOf(['primary', ring.primary.key], ['coming', randomBytes(KEY_BYTES)]))
    const coming = ring.keys.find(({role}) => role === 'coming')
    if (coming) {
      parts.renewKeys()
      await everyHolder(parts, holder => holder.keyIds.includes(coming.id))
      ring = await enter(parts, 'primary', keyringOf(['primary', coming.key], ['leaving', ring.primary.key]))
    }
    parts.renewKeys()
    const {primary} = ring
    const leaving = ring.keys.find(({role}) => role === 'leaving')
    await everyHolder(parts, holder => holder.primaryId === primary.id)
    const resealed = await resealAll(parts, ring)
    await parts.stage?.('resealed')
    await record(parts, primary, leaving, resealed)
    await enter(parts, 'done', keyringOf(['primary', primary.key]))
    parts.renewKeys()
    return {from: leaving?.id ?? primary.id, to: primary.id, ...resealed}
  } finally {
    lock.release()
  }
}

async function enter(parts: RotationParts, name: 'coming' | 'primary' | 'done', ring: Keyring): Promise<Keyring> {
  await parts.stage?.(name)
  writeSealingKeys(parts.keyFile, ring)
  return ring
}

/** Waits until every process that lives has what is asked for. */
async function everyHolder({db, waitsFor, signal}: RotationParts, has: (holder: Keyholder) => boolean): Promise<void> {
  for (let told = ''; ; ) {
    const without = (await selectKeyholders(db)).filter(holder => !has(holder))
    const names = JSON.stringify(without)
    if (without.length === 0) return
    if (names !== told) waitsFor(without)
    told = names
    await sleep(LOOK_MS, signal)
    signal.throwIfAborted()
  }
}

/** Until a whole pass finds nothing to do: then everything that opens is under the new key, and was opened with it. */
async function resealAll({db}: RotationParts, ring: Keyring): Promise<Resealed> {
  const inventory = createInventory({db, sealer: createSealer(() => ring)})
  const total = {resealed: 0}
  for (;;) {
    const pass = await inventory.reseal()
    total.resealed += pass.resealed
    if (pass.resealed === 0) return {...pass, resealed: total.resealed}
  }
}

async function record({db}: RotationParts, to: SealingKey, from: SealingKey | undefined, resealed: Resealed): Promise<void> {
  const {rows} = await sql<{now: Date}>`SELECT now()`.execute(db)
  await createEvidence({db}).changed(db, {
    at: rows[0]?.now ?? new Date(0),
    actor: 'cli',
    kind: 'sealing_key_rotated',
    detail: {to: to.id, from: from?.id ?? null, resealed: resealed.resealed, unopenable: resealed.unopenable.length},
  })
}
