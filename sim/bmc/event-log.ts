/** A system event log: added to, read by reservation, erased in the background (IPMI 2.0 §31). */

export type EventLogOptions = {
  /** How many times erasing is said to be still in progress. */
  readonly erasePolls?: number | undefined
  /** Whether erasing is said to be done while everything stays. */
  readonly keepsErased?: boolean | undefined
}

export type SimulatedEvent = {
  /** Seconds since 1970. */
  readonly at_s: number
  readonly sensorType: number
  readonly sensor: number
  readonly eventType: number
  readonly offset: number
  readonly deasserted?: boolean
}

export type SimulatedEventLog = ReturnType<typeof createEventLog>

const CAPACITY = 512
const RECORD_BYTES = 16
const NOT_PRESENT = 0xcb
const RESERVATION_CANCELLED = 0xc5
const INVALID_FIELD = 0xcc

export function createEventLog(options: EventLogOptions) {
  let records: Buffer[] = []
  let nextId = 1
  let reservation = 0
  let erasing = 0
  let overflow = false
  let added_s = 0xffff_ffff
  let erased_s = 0xffff_ffff

  function add(record: Buffer): number {
    if (records.length >= CAPACITY) {
      overflow = true
      return 0
    }
    record.writeUInt16LE(nextId, 0)
    records.push(record)
    added_s = record.readUInt32LE(3)
    return nextId++
  }

  return {
    get count() {
      return records.length
    },
    add(event: SimulatedEvent): void {
      const record = Buffer.alloc(RECORD_BYTES)
      record[2] = 0x02
      record.writeUInt32LE(event.at_s, 3)
      record.writeUInt16LE(0x0020, 7)
      record[9] = 0x04
      record.set([event.sensorType, event.sensor, event.eventType | (event.deasserted ? 0x80 : 0), event.offset, 0xff, 0xff], 10)
      add(record)
    },
    /** A record as its bytes, id aside. */
    addRaw: (record: Buffer) => add(Buffer.from(record)),
    info(): Buffer {
      const data = Buffer.alloc(15)
      data[1] = 0x51
      data.writeUInt16LE(records.length, 2)
      data.writeUInt16LE((CAPACITY - records.length) * RECORD_BYTES, 4)
      data.writeUInt32LE(added_s, 6)
      data.writeUInt32LE(erased_s, 10)
      data[14] = (overflow ? 0x80 : 0) | 0x02
      return data
    },
    reserve(): Buffer {
      reservation = (reservation % 0xffff) + 1
      const data = Buffer.alloc(3)
      data.writeUInt16LE(reservation, 1)
      return data
    },
    entry(request: Buffer): Buffer {
      if (request.length < 6) return Buffer.from([0xc7])
      const [id, offset, count] = [request.readUInt16LE(2), request.readUInt8(4), request.readUInt8(5)]
      const index = id === 0 ? 0 : id === 0xffff ? records.length - 1 : records.findIndex(record => record.readUInt16LE(0) === id)
      const record = records[index]
      if (!record) return Buffer.from([NOT_PRESENT])
      const next = records[index + 1]?.readUInt16LE(0) ?? 0xffff
      const bytes = count === 0xff ? record : record.subarray(offset, offset + count)
      return Buffer.concat([Buffer.from([0, next & 0xff, next >> 8]), bytes])
    },
    clear(request: Buffer, now_s: number): Buffer {
      if (request.length < 6 || request.toString('latin1', 2, 5) !== 'CLR') return Buffer.from([INVALID_FIELD])
      if (request.readUInt16LE(0) !== reservation || reservation === 0) return Buffer.from([RESERVATION_CANCELLED])
      if (request[5] === 0xaa) {
        erasing = options.erasePolls ?? 0
        if (!options.keepsErased) records = []
        overflow = false
        erased_s = now_s
      } else if (erasing > 0) erasing -= 1
      return Buffer.from([0, erasing > 0 ? 0 : 1])
    },
  }
}
