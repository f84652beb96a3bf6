/** Records of a system event log (IPMI 2.0 §31.6, §32). Pure. */
import type {LogEntry} from '../drivers/driver.ts'
import {eventText, sensorType} from './sensor-words.ts'

export const SEL_RECORD_BYTES = 16

const SYSTEM_EVENT = 0x02
/** OEM records c0–df carry a time, those from e0 on only bytes. */
const OEM_TIMED = 0xc0
const OEM_UNTIMED = 0xe0
/** Times up to here count from the controller's start, not from 1970 (§37.1). */
const SINCE_START_S = 0x2000_0000

export type SelInfo = {
  readonly entries: number
  readonly free_bytes: number
  readonly overflow: boolean
  readonly canReserve: boolean
}

/** @param data the answer to Get SEL Info without its completion code (§31.2) */
export function readSelInfo(data: Buffer): SelInfo | undefined {
  if (data.length < 14) return undefined
  const operations = data.readUInt8(13)
  return {
    entries: data.readUInt16LE(1),
    free_bytes: data.readUInt16LE(3),
    overflow: (operations & 0x80) !== 0,
    canReserve: (operations & 0x02) !== 0,
  }
}

/** @param nameOf the name of a sensor by its number, where its record is known */
export function readSelRecord(record: Buffer, nameOf: (sensor: number) => string | undefined): LogEntry | undefined {
  if (record.length < SEL_RECORD_BYTES) return undefined
  const id = record.readUInt16LE(0)
  const type = record.readUInt8(2)
  const raw = record.subarray(0, SEL_RECORD_BYTES).toString('hex')
  if (type >= OEM_UNTIMED)
    return {id, ...NO_TIME, sensor: null, sensor_type: 'oem', text: `OEM record ${hex(type)}`, asserted: null, raw}
  const time = readTime(record.readUInt32LE(3))
  if (type >= OEM_TIMED) {
    const text = `OEM record ${hex(type)} of manufacturer ${record.readUIntLE(7, 3)}`
    return {id, ...time, sensor: null, sensor_type: 'oem', text, asserted: null, raw}
  }
  if (type !== SYSTEM_EVENT)
    return {id, ...time, sensor: null, sensor_type: 'unknown', text: `record of type ${hex(type)}`, asserted: null, raw}
  const [kind = 0, number = 0, direction = 0, data1 = 0] = record.subarray(10)
  return {
    id,
    ...time,
    sensor: nameOf(number) ?? `#${hex(number)}`,
    sensor_type: sensorType(kind),
    text: eventText(kind, direction & 0x7f, data1 & 0x0f),
    asserted: (direction & 0x80) === 0,
    raw,
  }
}

const NO_TIME = {at: null, since_start_s: null} as const

function readTime(seconds: number): Pick<LogEntry, 'at' | 'since_start_s'> {
  if (seconds === 0xffff_ffff) return NO_TIME
  if (seconds <= SINCE_START_S) return {at: null, since_start_s: seconds}
  return {at: new Date(seconds * 1000), since_start_s: null}
}

function hex(number: number): string {
  return number.toString(16).padStart(2, '0')
}
