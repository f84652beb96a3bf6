/** The commands a BMC understands, as a table: network function and command → what it answers, completion code first. */
import type {LanMessage} from '../../services/power/ipmi/lan-message.ts'
import type {Chassis} from './chassis.ts'
import type {SimulatedEventLog} from './event-log.ts'
import type {SimulatedFru} from './fru.ts'
import type {SimulatedRepository} from './sensors.ts'
import {type BmcSession, GUID} from './sessions.ts'

/** Everything behind the network side of one BMC. */
export type Insides = {
  readonly chassis: Chassis
  readonly log: SimulatedEventLog
  readonly repository: SimulatedRepository
  readonly frus: ReadonlyMap<number, SimulatedFru>
  readonly options: InsideOptions
  readonly now: () => Date
}

export type InsideOptions = {
  /** Says that it speaks IPMI 1.5 only, and ignores everything else. */
  readonly old?: boolean | undefined
  /** Of Get Device ID. */
  readonly manufacturer?: number | undefined
  readonly product?: number | undefined
  readonly firmware?: readonly [major: number, minorBcd: number] | undefined
  /** Whether its second FRU is read in words of two bytes. */
  readonly wordwiseFru?: boolean | undefined
  /** Most bytes of one FRU read. */
  readonly fruReadBytes?: number | undefined
}

type Answer = (inside: Insides, data: Buffer, session: BmcSession | undefined) => Buffer

const NO_PRIVILEGE = Buffer.from([0xd4])
const UNKNOWN_COMMAND = Buffer.from([0xc1])
const NOT_PRESENT = Buffer.from([0xcb])
const WRONG_LENGTH = Buffer.from([0xc7])

type Row = {readonly needs: 0 | 2 | 3; readonly answer: Answer}

const TABLE: Readonly<Record<string, Row>> = {
  '0.1': {needs: 2, answer: ({chassis}) => chassis.status()},
  '0.2': {needs: 3, answer: ({chassis}, data) => chassis.control((data[0] ?? 0) & 0x0f)},
  '0.4': {needs: 3, answer: ({chassis}, data) => chassis.identify(data)},
  '0.8': {needs: 3, answer: ({chassis}, data) => chassis.setBootOption(data)},
  '0.9': {needs: 3, answer: ({chassis}, data) => chassis.bootOption((data[0] ?? 0) & 0x7f)},
  '4.39': {needs: 2, answer: ({repository}, data) => repository.thresholds(data[0] ?? 0)},
  '4.45': {needs: 2, answer: ({repository}, data) => repository.reading(data[0] ?? 0)},
  '6.1': {needs: 2, answer: deviceId},
  '6.55': {needs: 0, answer: () => Buffer.from([0, ...GUID])},
  '6.56': {needs: 0, answer: authCapabilities},
  '6.59': {needs: 2, answer: setPrivilege},
  '6.60': {needs: 2, answer: (_inside, data, session) => Buffer.from([session && data.equals(session.bmcId) ? 0 : 0x87])},
  '6.84': {needs: 0, answer: cipherSuites},
  '10.16': {needs: 2, answer: fruAreaInfo},
  '10.17': {needs: 2, answer: readFru},
  '10.32': {needs: 2, answer: ({repository}) => repository.info()},
  '10.34': {needs: 2, answer: ({repository}) => repository.reserve()},
  '10.35': {needs: 2, answer: ({repository}, data) => repository.record(data)},
  '10.64': {needs: 2, answer: ({log}) => log.info()},
  '10.66': {needs: 2, answer: ({log}) => log.reserve()},
  '10.67': {needs: 2, answer: ({log}, data) => log.entry(data)},
  '10.71': {needs: 3, answer: ({log, now}, data) => log.clear(data, Math.floor(now().getTime() / 1000))},
  '10.72': {needs: 2, answer: ({now}) => selTime(now())},
}

/** @param session undefined before one is up: then only what needs no privilege is answered */
export function carryOut(inside: Insides, {netFn, command, data}: LanMessage, session?: BmcSession): Buffer {
  const row = TABLE[`${netFn}.${command}`]
  if (!row) return session ? UNKNOWN_COMMAND : NO_PRIVILEGE
  return (session?.level ?? 0) < row.needs ? NO_PRIVILEGE : row.answer(inside, data, session)
}

function authCapabilities({options}: Insides): Buffer {
  return Buffer.from(options.old ? [0, 1, 0x04, 0, 0, 0, 0, 0, 0] : [0, 1, 0x80, 4, 2, 0, 0, 0, 0])
}

/** Records of suites 3 and 17, sixteen bytes an answer (§22.15.1). */
function cipherSuites(_inside: Insides, data: Buffer): Buffer {
  const records = Buffer.from([0xc0, 3, 1, 0x41, 0x81, 0xc0, 17, 3, 0x44, 0x81])
  const start = ((data[2] ?? 0) & 0x3f) * 16
  return Buffer.concat([Buffer.from([0, 1]), records.subarray(start, start + 16)])
}

function setPrivilege(_inside: Insides, data: Buffer, session?: BmcSession): Buffer {
  if (!session) return NO_PRIVILEGE
  const wanted = (data[0] ?? 0) & 0x0f
  if (wanted > session.limit) return Buffer.from([0x81])
  session.level = wanted || session.level
  return Buffer.from([0, session.level])
}

function deviceId({options}: Insides): Buffer {
  const {manufacturer = 10_876, product = 2404, firmware = [3, 0x77]} = options
  const bytes = Buffer.alloc(16)
  bytes.set([0, 0x20, 0x01, firmware[0] & 0x7f, firmware[1], 0x02, 0xbf])
  bytes.writeUIntLE(manufacturer, 7, 3)
  bytes.writeUInt16LE(product, 10)
  return bytes
}

function fruAreaInfo({frus}: Insides, data: Buffer): Buffer {
  const fru = frus.get(data[0] ?? 0)
  if (!fru) return NOT_PRESENT
  return Buffer.from([0, fru.bytes.length & 0xff, fru.bytes.length >> 8, fru.wordwise ? 1 : 0])
}

function readFru({frus, options}: Insides, data: Buffer): Buffer {
  if (data.length < 4) return WRONG_LENGTH
  const fru = frus.get(data.readUInt8(0))
  if (!fru) return NOT_PRESENT
  const unit = fru.wordwise ? 2 : 1
  const [at, count] = [data.readUInt16LE(1) * unit, data.readUInt8(3) * unit]
  if (count > (options.fruReadBytes ?? 255)) return Buffer.from([0xca])
  const bytes = fru.bytes.subarray(at, at + count)
  return Buffer.concat([Buffer.from([0, bytes.length / unit]), bytes])
}

function selTime(now: Date): Buffer {
  const data = Buffer.alloc(5)
  data.writeUInt32LE(Math.floor(now.getTime() / 1000), 1)
  return data
}
