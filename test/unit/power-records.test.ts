/** What BMCs say of themselves, as bytes: device, event log, sensor records, inventory. Anything may come; nothing may throw. */
import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import {readDeviceId} from '../../services/power/ipmi/device-id.ts'
import {readFru, readTypedText} from '../../services/power/ipmi/fru-data.ts'
import {readSdrRecord, readSensorReading, type SensorRecord, toValue} from '../../services/power/ipmi/sdr-record.ts'
import {readSelInfo, readSelRecord} from '../../services/power/ipmi/sel-record.ts'
import {eventText, sensorType, unitText} from '../../services/power/ipmi/sensor-words.ts'
import {exampleFrus} from '../../sim/bmc/fru.ts'
import {encodeRecords, exampleSensors} from '../../sim/bmc/sensors.ts'

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')

describe('readings', () => {
  const linear = {signed: 'unsigned', linearization: 0, m: 1, b: 0, bExponent: 0, rExponent: 0} as const

  test.each([
    ['as it is', {}, 200, 200],
    ["two's complement", {signed: 'twos_complement'}, 0xfe, -2],
    ["ones' complement", {signed: 'ones_complement'}, 0xfe, -1],
    ['a factor and an offset with exponents', {m: 16, b: -10, bExponent: 1, rExponent: -3}, 200, 3.1],
    ['a negative factor', {m: -1, b: 100}, 30, 70],
    ['the inverse', {linearization: 7, m: 2}, 4, 0.125],
    ['a square root', {linearization: 10}, 16, 4],
    ['nothing, where the inverse has no value', {linearization: 7}, 0, null],
    ['nothing, where each reading has factors of its own', {linearization: 0x70}, 1, null],
  ] as const)('a raw value becomes %s', (_name, change, raw, value) => {
    expect(toValue({...linear, ...change}, raw)).toBe(value)
  })

  test('a sensor that is not scanned, or was not read, has no value', () => {
    const [record] = encodeRecords(exampleSensors(), new Map())
    const sensor = readSdrRecord(record!) as SensorRecord
    expect(readSensorReading(sensor, bytes('29 c0 c0'))).toMatchObject({name: 'CPU Temp', value: 41, unit: '°C', status: 'ok'})
    expect(readSensorReading(sensor, bytes('29 c0 18'))).toMatchObject({
      status: 'critical',
      states: ['upper non critical', 'upper critical'],
    })
    expect(readSensorReading(sensor, bytes('29 c0 08'))).toMatchObject({status: 'warning'})
    for (const data of [bytes('29 a0 c0'), bytes('29 e0 c0'), bytes('29'), undefined])
      expect(readSensorReading(sensor, data)).toMatchObject({value: null, unit: null, status: 'unavailable', states: []})
  })

  test('units have rates and divisors', () => {
    expect(unitText(0x00, 18, 0)).toBe('rpm')
    expect(unitText(0x01, 0, 0)).toBe('%')
    expect(unitText(0x1a, 70, 0)).toBe('B/s')
    expect(unitText(0x02, 17, 24)).toBe('cfm/h')
    expect(unitText(0, 0, 0)).toBeNull()
    expect([1, 4, 5, 6, 19, 54, 58, 60, 73, 85, 92].map(unit => unitText(0, unit, 0))).toEqual([
      '°C',
      'V',
      'A',
      'W',
      'Hz',
      'Ω',
      'ppm',
      'dB',
      'GB',
      'packet',
      'g',
    ])
  })
})

describe('the event log', () => {
  const nameOf = (sensor: number) => (sensor === 0x41 ? 'PSU2 Status' : undefined)

  test('an event has time, sensor, words and direction', () => {
    expect(readSelRecord(bytes('0200 02 6478e768 2000 04 08 41 6f 03ffff'), nameOf)).toEqual({
      id: 2,
      at: new Date('2025-10-09T08:55:00Z'),
      since_start_s: null,
      sensor: 'PSU2 Status',
      sensor_type: 'power_supply',
      text: 'input lost',
      asserted: true,
      raw: '0200026478e76820000408416f03ffff',
    })
    expect(readSelRecord(bytes('0300 02 a2070000 2000 04 01 07 81 09ffff'), nameOf)).toMatchObject({
      at: null,
      since_start_s: 0x7a2,
      sensor: '#07',
      text: 'upper critical going high',
      asserted: false,
    })
  })

  test('records of makers keep their bytes, and those without a time have none', () => {
    expect(readSelRecord(bytes('0400 c1 6478e768 7c2a00 010203040506'), nameOf)).toMatchObject({
      text: 'OEM record c1 of manufacturer 10876',
      at: new Date('2025-10-09T08:55:00Z'),
      raw: '0400c16478e7687c2a00010203040506',
    })
    expect(readSelRecord(bytes('0500 e3 0102030405060708090a0b0c0d'), nameOf)).toMatchObject({
      at: null,
      since_start_s: null,
      text: 'OEM record e3',
    })
    expect(readSelRecord(bytes('0600 02 ffffffff 2000 04 01 07 01 09ffff'), nameOf)).toMatchObject({
      at: null,
      since_start_s: null,
    })
  })

  test('what no table knows is told by its numbers', () => {
    expect([sensorType(0xc3), sensorType(0x7f)]).toEqual(['oem', 'type_7f'])
    expect([eventText(8, 0x6f, 14), eventText(1, 1, 15), eventText(1, 0x70, 2)]).toEqual([
      'event 14 of type 6f',
      'threshold event 15',
      'event 2 of type 70',
    ])
  })
})

describe('the inventory', () => {
  const [whole] = [exampleFrus('7').get(0)!.bytes]

  test('fields are read in each way of writing a text', () => {
    expect(readFru(whole)).toEqual({
      areas: {
        chassis: {part_number: 'CSE-819U', serial: 'C7'},
        board: {
          made_at: '2024-03-01T12:00:00.000Z',
          manufacturer: 'Example Corp',
          product: 'X11-TEST',
          serial: 'B7',
          part_number: '1234-5678',
          file_id: '00ff',
        },
        product: {
          manufacturer: 'Example Corp',
          product: 'Server 2U',
          part_number: 'PN-0042',
          version: '1.02',
          serial: 'S7',
          asset_tag: 'asset-7',
        },
      },
      broken: [],
    })
  })

  test('an area with a wrong checksum is named and not believed; the others are', () => {
    const broken = Buffer.from(whole)
    const board = broken[3]! * 8
    broken[board + 8]! ^= 0x10
    const read = readFru(broken)
    expect(read?.broken).toEqual(['board'])
    expect(Object.keys(read?.areas ?? {})).toEqual(['chassis', 'product'])
  })

  test('text of a machine carries no control characters', () => {
    expect(readTypedText(bytes('c6 41 1b 5b 32 4a 00'), 0)).toBe('A [2J')
    expect(readTypedText(bytes('c4 41 00 00 00'), 0)).toBe('A')
  })

  test('an empty store is no inventory', () => {
    expect(readFru(Buffer.alloc(64, 0xff))).toBeUndefined()
    expect(readFru(Buffer.alloc(64))).toBeUndefined()
    expect(readFru(Buffer.alloc(0))).toBeUndefined()
  })
})

test('the device names its maker and version as people write them', () => {
  expect(readDeviceId(bytes('20 81 02 09 02 bf a20200 0001 00000000'))).toEqual({
    device_id: 32,
    device_revision: 1,
    firmware: '2.09',
    ipmi: '2.0',
    manufacturer_id: 674,
    manufacturer: 'Dell',
    product_id: 256,
    support: ['sensors', 'sdr_repository', 'event_log', 'fru', 'chassis'],
  })
})

test('F12 no bytes make a reader throw, and what is read can be stored as JSON', () => {
  const any = fc.uint8Array({maxLength: 96}).map(array => Buffer.from(array))
  const near = fc
    .tuple(
      fc.constantFrom(...encodeRecords(exampleSensors(), new Map([[1, 'PSU']])), exampleFrus('1').get(0)!.bytes),
      fc.nat(200),
      fc.nat(255),
      fc.nat(200),
    )
    .map(([base, at, byte, length]) => {
      const changed = Buffer.from(base)
      changed[at % changed.length] = byte
      return changed.subarray(0, Math.max(1, changed.length - (length % 40)))
    })
  fc.assert(
    fc.property(fc.oneof(any, near), data => {
      const record = readSdrRecord(data)
      const read = [
        readDeviceId(data),
        readSelInfo(data),
        readSelRecord(data, () => undefined),
        readFru(data),
        readTypedText(data, 0),
        record,
        record?.kind === 'sensor' ? readSensorReading(record, data.subarray(0, 5)) : null,
      ]
      expect(JSON.stringify(read)).not.toMatch(/\\u0000|NaN/)
    }),
    {numRuns: 3000},
  )
})
