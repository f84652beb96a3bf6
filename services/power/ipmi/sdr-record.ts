/** Sensor data records: which sensors a controller has, and how their raw readings become values (IPMI 2.0 §36, §43). Pure. */
import type {SensorReading} from '../drivers/driver.ts'
import {readTypedText} from './fru-data.ts'
import {eventText, sensorType, THRESHOLD_EVENT_TYPE, unitText} from './sensor-words.ts'

export const SDR_HEADER_BYTES = 5

const FULL_SENSOR = 0x01
const COMPACT_SENSOR = 0x02
const FRU_LOCATOR = 0x11

/** How a raw reading becomes a value: y = L((M·x + B·10^Bexp) · 10^Rexp) (§36.3). */
type Conversion = {
  readonly signed: 'unsigned' | 'ones_complement' | 'twos_complement' | 'none'
  readonly linearization: number
  readonly m: number
  readonly b: number
  readonly bExponent: number
  readonly rExponent: number
}

export type SensorRecord = {
  readonly kind: 'sensor'
  readonly owner: number
  readonly lun: number
  readonly number: number
  readonly name: string
  readonly type: number
  readonly eventType: number
  readonly unit: string | null
  /** Undefined where only states can be read. */
  readonly conversion: Conversion | undefined
  /** Raw values of those that can be read, by name. */
  readonly thresholds: Readonly<Partial<Record<ThresholdName, number>>>
}

export type FruRecord = {readonly kind: 'fru'; readonly id: number; readonly owner: number; readonly name: string}

export type ThresholdName = keyof SensorReading['thresholds']

/** Bits of the readable mask (byte 19) and of a reading's comparison (§35.14), and the record's byte that holds the raw value. */
const THRESHOLDS = [
  {name: 'lower_non_critical', bit: 0x01, at: 41, status: 'warning'},
  {name: 'lower_critical', bit: 0x02, at: 40, status: 'critical'},
  {name: 'lower_non_recoverable', bit: 0x04, at: 39, status: 'critical'},
  {name: 'upper_non_critical', bit: 0x08, at: 38, status: 'warning'},
  {name: 'upper_critical', bit: 0x10, at: 37, status: 'critical'},
  {name: 'upper_non_recoverable', bit: 0x20, at: 36, status: 'critical'},
] as const satisfies readonly {name: ThresholdName; bit: number; at: number; status: SensorReading['status']}[]

/** A record that is of no use here, or too short for its type, is undefined. */
export function readSdrRecord(record: Buffer): SensorRecord | FruRecord | undefined {
  const type = record[3]
  if (type === FULL_SENSOR && record.length >= 48) return readSensor(record, 47, true)
  if (type === COMPACT_SENSOR && record.length >= 32) return readSensor(record, 31, false)
  if (type === FRU_LOCATOR && record.length >= 16) {
    const isLogical = (record.readUInt8(7) & 0x80) !== 0
    if (!isLogical) return undefined
    return {kind: 'fru', id: record.readUInt8(6), owner: record.readUInt8(5), name: readTypedText(record, 15)}
  }
  return undefined
}

function readSensor(record: Buffer, nameAt: number, isFull: boolean): SensorRecord {
  const eventType = record.readUInt8(13)
  const hasThresholds = eventType === THRESHOLD_EVENT_TYPE
  const readable = isFull && hasThresholds ? record.readUInt8(18) : 0
  return {
    kind: 'sensor',
    owner: record.readUInt8(5),
    lun: record.readUInt8(6) & 0x03,
    number: record.readUInt8(7),
    name: readTypedText(record, nameAt),
    type: record.readUInt8(12),
    eventType,
    unit: unitText(record.readUInt8(20), record.readUInt8(21), record.readUInt8(22)),
    conversion: isFull ? readConversion(record) : undefined,
    thresholds: Object.fromEntries(
      THRESHOLDS.filter(({bit}) => readable & bit).map(({name, at}) => [name, record.readUInt8(at)]),
    ),
  }
}

const FORMATS = ['unsigned', 'ones_complement', 'twos_complement', 'none'] as const

function readConversion(record: Buffer): Conversion | undefined {
  const signed = FORMATS[record.readUInt8(20) >> 6] ?? 'none'
  if (signed === 'none') return undefined
  const exponents = record.readUInt8(29)
  return {
    signed,
    linearization: record.readUInt8(23) & 0x7f,
    m: signExtend(record.readUInt8(24) | ((record.readUInt8(25) & 0xc0) << 2), 10),
    b: signExtend(record.readUInt8(26) | ((record.readUInt8(27) & 0xc0) << 2), 10),
    rExponent: signExtend(exponents >> 4, 4),
    bExponent: signExtend(exponents & 0x0f, 4),
  }
}

function signExtend(value: number, bits: number): number {
  return value >= 2 ** (bits - 1) ? value - 2 ** bits : value
}

/** Linearization 1–11 (§43.1, byte 24); 0x70 and above need factors for each reading and are told as not readable. */
const LINEARIZATIONS: readonly ((value: number) => number)[] = [
  value => value,
  Math.log,
  Math.log10,
  Math.log2,
  Math.exp,
  value => 10 ** value,
  value => 2 ** value,
  value => 1 / value,
  value => value ** 2,
  value => value ** 3,
  Math.sqrt,
  Math.cbrt,
]

/** Null where the formula has no value. Six significant digits: a raw reading has eight bits. */
export function toValue(conversion: Conversion, raw: number): number | null {
  const {signed, m, b, bExponent, rExponent} = conversion
  const linearize = LINEARIZATIONS[conversion.linearization]
  if (!linearize) return null
  const x = signed === 'unsigned' || raw < 0x80 ? raw : signed === 'ones_complement' ? raw - 0xff : raw - 0x100
  const value = linearize((m * x + b * 10 ** bExponent) * 10 ** rExponent)
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null
}

/** @param data the answer to Get Sensor Reading without its completion code; undefined where none was given (§35.14) */
export function readSensorReading(record: SensorRecord, data: Buffer | undefined): SensorReading {
  const [raw = 0, flags = 0, low = 0, high = 0] = data ?? []
  const {conversion, eventType} = record
  const scanned = data !== undefined && data.length >= 2 && (flags & 0x40) !== 0 && (flags & 0x20) === 0
  const value = scanned && conversion ? toValue(conversion, raw) : null
  const crossed = scanned && eventType === THRESHOLD_EVENT_TYPE ? THRESHOLDS.filter(({bit}) => low & bit) : []
  const bits = low | ((high & 0x7f) << 8)
  const offsets =
    eventType === THRESHOLD_EVENT_TYPE || !scanned
      ? []
      : Array.from({length: 15}, (_, bit) => bit).filter(bit => (bits >> bit) & 1)
  return {
    name: record.name,
    number: record.number,
    type: sensorType(record.type),
    unit: value === null ? null : record.unit,
    value,
    status: !scanned ? 'unavailable' : (worst(crossed.map(({status}) => status)) ?? 'ok'),
    states: [
      ...crossed.map(({name}) => name.replaceAll('_', ' ')),
      ...offsets.map(offset => eventText(record.type, eventType, offset)),
    ],
    thresholds: conversion
      ? Object.fromEntries(
          Object.entries(record.thresholds).flatMap(([name, number]) => {
            const limit = toValue(conversion, number)
            return limit === null ? [] : [[name, limit]]
          }),
        )
      : {},
  }
}

function worst(statuses: readonly ('warning' | 'critical')[]): 'warning' | 'critical' | undefined {
  return statuses.includes('critical') ? 'critical' : statuses[0]
}
