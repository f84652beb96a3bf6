/**
 * Sensors: the records that describe them, then a reading each (IPMI 2.0 §33, §35).
 *
 * A repository may change while it is read: then the reservation is cancelled, and the same record is asked for again under a new one.
 * Most BMCs answer a record whole; those that cannot are read in parts, header first.
 */
import type {SensorReading} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Bmc} from './bmc.ts'
import {COMMANDS, COMPLETION, type Command} from './commands.ts'
import type {DeviceId} from './device-id.ts'
import {expectDone} from './expect.ts'
import {BMC_ADDRESS} from './lan-message.ts'
import {type FruRecord, readSdrRecord, readSensorReading, SDR_HEADER_BYTES, type SensorRecord} from './sdr-record.ts'
import type {Reply} from './session.ts'

export type Repository = {readonly stamp: string; readonly records: readonly (SensorRecord | FruRecord)[]}

type Source = {readonly info: Command; readonly reserve: Command; readonly get: Command}

const REPOSITORY: Source = {info: COMMANDS.getSdrRepositoryInfo, reserve: COMMANDS.reserveSdrRepository, get: COMMANDS.getSdr}
const DEVICE_RECORDS: Source = {info: COMMANDS.getDeviceSdrInfo, reserve: COMMANDS.reserveDeviceSdrs, get: COMMANDS.getDeviceSdr}

const LAST = 0xffff
const WHOLE = 0xff
const PART_BYTES = 16
const RECORDS_AT_MOST = 4096
const RESERVATIONS_AT_MOST = 5

const TOO_LONG: readonly number[] = [COMPLETION.cannotReturnThatMany, COMPLETION.lengthExceeded, COMPLETION.wrongLength, 0xff]

/** @param known what was read the last time; given back when the repository says that nothing changed since */
export async function readRepository(bmc: Bmc, device: DeviceId | undefined, known: Repository | undefined): Promise<Repository> {
  const source = !device || device.support.includes('sdr_repository') ? REPOSITORY : DEVICE_RECORDS
  const stamp = expectDone(source.info, await bmc.session.command(source.info, [])).toString('hex')
  if (known?.stamp === stamp) return known
  const records: (SensorRecord | FruRecord)[] = []
  const reader = createReader(bmc, source)
  for (let id = 0, count = 0; count < RECORDS_AT_MOST; count++) {
    const {next, record} = await reader(id)
    const read = readSdrRecord(record)
    if (read) records.push(read)
    if (next === LAST || next === id) break
    id = next
  }
  return {stamp, records}
}

type ReadRecord = (id: number) => Promise<{next: number; record: Buffer}>

function createReader(bmc: Bmc, {reserve, get}: Source): ReadRecord {
  let reservation: readonly number[] | undefined

  async function ask(id: number, offset: number, count: number): Promise<Reply> {
    for (let tries = 1; ; tries++) {
      reservation ??= [...expectDone(reserve, await bmc.session.command(reserve, [])).subarray(0, 2)]
      const reply = await bmc.session.command(get, [...reservation, id & 0xff, id >> 8, offset, count])
      if (reply.completion !== COMPLETION.reservationCancelled || tries >= RESERVATIONS_AT_MOST) return reply
      reservation = undefined
    }
  }

  async function part(id: number, offset: number, count: number): Promise<{next: number; bytes: Buffer}> {
    const data = expectDone(get, await ask(id, offset, count))
    if (data.length < 3) throw new PowerFault('bad_reply', `${get.name}: the record is too short`)
    return {next: data.readUInt16LE(0), bytes: data.subarray(2)}
  }

  return async id => {
    if (!bmc.has('sdr_in_parts')) {
      const reply = await ask(id, 0, WHOLE)
      if (reply.completion === 0 && reply.data.length > 2)
        return {next: reply.data.readUInt16LE(0), record: reply.data.subarray(2)}
      if (!TOO_LONG.includes(reply.completion)) expectDone(get, reply)
      bmc.learn('sdr_in_parts', `a whole record was refused with 0x${reply.completion.toString(16)}`)
    }
    const {next, bytes: header} = await part(id, 0, SDR_HEADER_BYTES)
    const end = SDR_HEADER_BYTES + (header[4] ?? 0)
    const pieces = [header.subarray(0, SDR_HEADER_BYTES)]
    for (let at = SDR_HEADER_BYTES; at < end; ) {
      const {bytes} = await part(id, at, Math.min(PART_BYTES, end - at))
      pieces.push(bytes)
      at += bytes.length
    }
    return {next, record: Buffer.concat(pieces)}
  }
}

/** A sensor of another controller, or of another unit of this one, is listed without a value: this client asks the BMC itself only. */
export async function readSensors({session}: Bmc, {records}: Repository): Promise<readonly SensorReading[]> {
  const readings: SensorReading[] = []
  for (const record of records) {
    if (record.kind !== 'sensor') continue
    const isHere = record.owner === BMC_ADDRESS && record.lun === 0
    const reply = isHere ? await session.command(COMMANDS.getSensorReading, [record.number]) : undefined
    // A sensor that cannot be read now (a processor while the machine is off) answers an error of its own.
    readings.push(readSensorReading(record, reply?.completion === 0 ? reply.data : undefined))
  }
  return readings
}
