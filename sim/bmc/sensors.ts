/**
 * Sensors and the records that describe them, as a server has them (IPMI 2.0 §33, §35, §43): a few that measure, with every kind of
 * number that records know, and a few that only have states. Written from the specification alone, apart from the client's reader.
 */

export type SimulatedSensor = {
  readonly number: number
  readonly name: string
  readonly type: number
  /** 01 threshold, 6f by type, else generic. */
  readonly eventType: number
  /** Of a threshold sensor: base unit, and y = (m·x + b·10^bExp) · 10^rExp; `signed` for two's complement. */
  readonly unit?: number
  readonly m?: number
  readonly b?: number
  readonly bExp?: number
  readonly rExp?: number
  readonly signed?: boolean
  readonly percent?: boolean
  /** Raw: lower non-critical, critical, non-recoverable, upper likewise. */
  readonly limits?: readonly [lnc: number, lcr: number, lnr: number, unc: number, ucr: number, unr: number]
  /** Owner other than the BMC. */
  readonly owner?: number
  raw: number
  /** States, bit by bit, of a sensor that has them. */
  states?: number
  available?: boolean
}

export function exampleSensors(): SimulatedSensor[] {
  return [
    {
      number: 0x01,
      name: 'CPU Temp',
      type: 0x01,
      eventType: 1,
      unit: 1,
      m: 1,
      signed: true,
      limits: [5, 0, 0xfb, 85, 95, 100],
      raw: 41,
    },
    {
      number: 0x02,
      name: 'Inlet Temp',
      type: 0x01,
      eventType: 1,
      unit: 1,
      m: 1,
      signed: true,
      limits: [5, 0, 0xfb, 42, 47, 50],
      raw: 0xfe,
    },
    {number: 0x10, name: 'FAN1', type: 0x04, eventType: 1, unit: 18, m: 75, limits: [10, 8, 4, 0xff, 0xff, 0xff], raw: 84},
    {number: 0x11, name: 'FAN2', type: 0x04, eventType: 1, unit: 18, m: 75, limits: [10, 8, 4, 0xff, 0xff, 0xff], raw: 7},
    {
      number: 0x20,
      name: '12V',
      type: 0x02,
      eventType: 1,
      unit: 4,
      m: 63,
      rExp: -3,
      b: 0,
      limits: [170, 165, 160, 210, 215, 220],
      raw: 192,
    },
    {
      number: 0x21,
      name: 'VBAT',
      type: 0x02,
      eventType: 1,
      unit: 4,
      m: 16,
      b: -10,
      bExp: 1,
      rExp: -3,
      limits: [170, 165, 160, 240, 245, 250],
      raw: 200,
    },
    {number: 0x30, name: 'PSU1 Power', type: 0x03, eventType: 1, unit: 6, m: 4, limits: [0, 0, 0, 200, 220, 240], raw: 57},
    {
      number: 0x31,
      name: 'Fan Duty',
      type: 0x04,
      eventType: 1,
      percent: true,
      unit: 0,
      m: 392,
      rExp: -3,
      limits: [0, 0, 0, 255, 255, 255],
      raw: 128,
    },
    {number: 0x40, name: 'PSU1 Status', type: 0x08, eventType: 0x6f, raw: 0, states: 0x01},
    {number: 0x41, name: 'PSU2 Status', type: 0x08, eventType: 0x6f, raw: 0, states: 0x09},
    {number: 0x42, name: 'Intrusion', type: 0x05, eventType: 0x6f, raw: 0, states: 0},
    {number: 0x43, name: 'PSU Redundancy', type: 0x08, eventType: 0x0b, raw: 0, states: 0x02},
    {
      number: 0x50,
      name: 'CPU2 Temp',
      type: 0x01,
      eventType: 1,
      unit: 1,
      m: 1,
      signed: true,
      limits: [5, 0, 0xfb, 85, 95, 100],
      raw: 0,
      available: false,
    },
  ]
}

/** The repository's records, numbered from 1. @param frus names of logical FRU devices, by id */
export function encodeRecords(sensors: readonly SimulatedSensor[], frus: ReadonlyMap<number, string>): Buffer[] {
  const records = [
    ...sensors.map(sensor => (sensor.eventType === 1 ? fullRecord(sensor) : compactRecord(sensor))),
    ...[...frus].map(([id, name]) => fruLocator(id, name)),
  ]
  for (const [index, record] of records.entries()) record.writeUInt16LE(index + 1, 0)
  return records
}

export type SimulatedRepository = ReturnType<typeof createRepository>

export type RepositoryOptions = {
  /** Most bytes of a record that one answer may hold; a whole record is refused then. */
  readonly partBytes?: number | undefined
  /** After how many reads the repository changes once, and cancels the reservation. */
  readonly changesAfter?: number | undefined
}

const NOT_PRESENT = 0xcb
const RESERVATION_CANCELLED = 0xc5
const CANNOT_RETURN_THAT_MANY = 0xca

export function createRepository(
  sensors: readonly SimulatedSensor[],
  frus: ReadonlyMap<number, string>,
  options: RepositoryOptions,
) {
  let reservation = 0
  let reads = 0
  let added_s = 1_700_000_000
  // Sensors change their readings, not their records.
  const stored = encodeRecords(sensors, frus)

  return {
    info(): Buffer {
      const data = Buffer.alloc(15)
      data[1] = 0x51
      data.writeUInt16LE(stored.length, 2)
      data.writeUInt16LE(0xffff, 4)
      data.writeUInt32LE(added_s, 6)
      data.writeUInt32LE(1_600_000_000, 10)
      data[14] = 0x22
      return data
    },
    reserve(): Buffer {
      reservation = (reservation % 0xffff) + 1
      const data = Buffer.alloc(3)
      data.writeUInt16LE(reservation, 1)
      return data
    },
    record(request: Buffer): Buffer {
      if (request.length < 6) return Buffer.from([0xc7])
      const [reserved, id, offset, count] = [
        request.readUInt16LE(0),
        request.readUInt16LE(2),
        request.readUInt8(4),
        request.readUInt8(5),
      ]
      if (options.changesAfter !== undefined && reads++ === options.changesAfter) {
        reservation += 1
        added_s += 1
      }
      // A record's beginning may be read without a reservation (§33.12).
      if ((offset > 0 || reserved !== 0) && reserved !== reservation) return Buffer.from([RESERVATION_CANCELLED])
      const index = id === 0 ? 0 : id === 0xffff ? stored.length - 1 : id - 1
      const record = stored[index]
      if (!record) return Buffer.from([NOT_PRESENT])
      const wanted = count === 0xff ? record.length - offset : count
      if (options.partBytes !== undefined && wanted > options.partBytes) return Buffer.from([CANNOT_RETURN_THAT_MANY])
      const next = index + 1 < stored.length ? index + 2 : 0xffff
      return Buffer.concat([Buffer.from([0, next & 0xff, next >> 8]), record.subarray(offset, offset + wanted)])
    },
    reading(number: number): Buffer {
      const sensor = sensors.find(candidate => candidate.number === number)
      if (!sensor) return Buffer.from([NOT_PRESENT])
      if (sensor.available === false) return Buffer.from([0, 0, 0xe0, 0xc0])
      if (sensor.eventType !== 1)
        return Buffer.from([0, 0, 0xc0, (sensor.states ?? 0) & 0xff, 0x80 | ((sensor.states ?? 0) >> 8)])
      return Buffer.from([0, sensor.raw, 0xc0, 0xc0 | crossed(sensor)])
    },
    thresholds(number: number): Buffer {
      const limits = sensors.find(candidate => candidate.number === number)?.limits
      return limits ? Buffer.from([0, 0x3f, ...limits]) : Buffer.from([NOT_PRESENT])
    },
  }
}

function crossed({raw, limits, signed}: SimulatedSensor): number {
  if (!limits) return 0
  const at = (value: number) => (signed && value > 0x7f ? value - 0x100 : value)
  return limits.reduce((bits, limit, index) => {
    const beyond = index < 3 ? at(raw) <= at(limit) && limit !== 0 : at(raw) >= at(limit)
    return beyond ? bits | (1 << index) : bits
  }, 0)
}

/** Type 01, §43.1. */
function fullRecord(sensor: SimulatedSensor): Buffer {
  const {m = 1, b = 0, bExp = 0, rExp = 0, limits = [0, 0, 0, 0, 0, 0]} = sensor
  const record = Buffer.alloc(48)
  begin(record, 0x01, sensor)
  record[18] = 0x3f
  record[19] = 0x3f
  record[20] = (sensor.signed ? 0x80 : 0) | (sensor.percent ? 0x01 : 0)
  record[21] = sensor.unit ?? 0
  record[24] = m & 0xff
  record[25] = (m >> 2) & 0xc0
  record[26] = b & 0xff
  record[27] = (b >> 2) & 0xc0
  record[29] = ((rExp & 0x0f) << 4) | (bExp & 0x0f)
  const [lnc, lcr, lnr, unc, ucr, unr] = limits
  record.set([unr, ucr, unc, lnr, lcr, lnc], 36)
  return finish(record, 47, sensor.name)
}

/** Type 02, §43.2. */
function compactRecord(sensor: SimulatedSensor): Buffer {
  const record = Buffer.alloc(32)
  begin(record, 0x02, sensor)
  record.writeUInt16LE(0x7fff, 18)
  record[20] = 0xc0
  record[23] = 0x01
  return finish(record, 31, sensor.name)
}

function begin(record: Buffer, type: number, sensor: SimulatedSensor): void {
  record[2] = 0x51
  record[3] = type
  record[5] = sensor.owner ?? 0x20
  record[7] = sensor.number
  record[8] = 0x07
  record[9] = 0x01
  record[10] = 0x7f
  record[11] = 0x68
  record[12] = sensor.type
  record[13] = sensor.eventType
}

/** Type 11, §43.8. */
function fruLocator(id: number, name: string): Buffer {
  const record = Buffer.alloc(16)
  record[2] = 0x51
  record[3] = 0x11
  record[5] = 0x20
  record[6] = id
  record[7] = 0x80
  record[10] = 0x10
  record[12] = 0x0a
  record[13] = id
  return finish(record, 15, name)
}

/** The name, as 8-bit text, and the length of what follows the header. */
function finish(record: Buffer, nameAt: number, name: string): Buffer {
  record[nameAt] = 0xc0 | name.length
  const whole = Buffer.concat([record.subarray(0, nameAt + 1), Buffer.from(name, 'latin1')])
  whole[4] = whole.length - 5
  return whole
}
