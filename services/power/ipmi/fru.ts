/** FRU inventory of the BMC and of the devices that its sensor records name (IPMI 2.0 §34). */
import type {FruInventory} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Bmc} from './bmc.ts'
import {COMMANDS, COMPLETION} from './commands.ts'
import {expectDone} from './expect.ts'
import {readFru} from './fru-data.ts'
import {BMC_ADDRESS} from './lan-message.ts'
import type {Repository} from './sensors.ts'

const BUILT_IN = {id: 0, name: 'built-in'}
const READ_BYTES = 64
const SHORT_READ_BYTES = 16
const FRUS_AT_MOST = 64
const FRU_BYTES_AT_MOST = 64 * 1024

const TOO_LONG: readonly number[] = [COMPLETION.wrongLength, COMPLETION.lengthExceeded, COMPLETION.cannotReturnThatMany, 0xff]

/** Devices that are absent, or hold nothing readable, are left out. */
export async function readFrus(bmc: Bmc, {records}: Repository): Promise<readonly FruInventory[]> {
  const named = records.flatMap(record =>
    record.kind === 'fru' && record.owner === BMC_ADDRESS && record.id !== 0 ? [record] : [],
  )
  const found: FruInventory[] = []
  for (const {id, name} of [BUILT_IN, ...named].slice(0, FRUS_AT_MOST)) {
    const data = await readFruBytes(bmc, id)
    const inventory = data && readFru(data)
    if (inventory) found.push({id, name, ...inventory})
  }
  return found
}

async function readFruBytes(bmc: Bmc, id: number): Promise<Buffer | undefined> {
  const info = await bmc.session.command(COMMANDS.getFruAreaInfo, [id])
  if (info.completion !== 0) return undefined
  if (info.data.length < 3) throw new PowerFault('bad_reply', `${COMMANDS.getFruAreaInfo.name}: the answer is too short`)
  const size = Math.min(info.data.readUInt16LE(0), FRU_BYTES_AT_MOST)
  const unit = (info.data.readUInt8(2) & 0x01) === 1 ? 2 : 1
  const pieces: Buffer[] = []
  for (let at = 0; at < size; ) {
    const wanted = Math.min(bmc.has('short_fru_reads') ? SHORT_READ_BYTES : READ_BYTES, size - at)
    const piece = await readPiece(bmc, id, at / unit, Math.ceil(wanted / unit))
    if (piece === 'too_long') continue
    if (piece === undefined || piece.length === 0) break
    pieces.push(piece)
    at += piece.length
  }
  return Buffer.concat(pieces)
}

/** Offset and count are in the device's own unit, bytes or words. */
async function readPiece(bmc: Bmc, id: number, offset: number, count: number): Promise<Buffer | 'too_long' | undefined> {
  const reply = await bmc.session.command(COMMANDS.readFruData, [id, offset & 0xff, offset >> 8, count])
  if (reply.completion === COMPLETION.notPresent) return undefined
  if (TOO_LONG.includes(reply.completion) && !bmc.has('short_fru_reads')) {
    bmc.learn('short_fru_reads', `${count} units were refused with 0x${reply.completion.toString(16)}`)
    if (bmc.has('short_fru_reads')) return 'too_long'
  }
  return expectDone(COMMANDS.readFruData, reply).subarray(1)
}
