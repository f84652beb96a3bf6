/**
 * A BMC as its clients see it, on a UDP port: IPMI 2.0 with cipher suites 17 and 3, power, boot flags, event log, sensors, FRU, few
 * sessions; and on request the faults of real ones: lost, late and mangled datagrams, orders that do nothing, lies about power. A
 * thousand of them fit into a process. Who accepts them besides our own client: `ipmitool` and `ipmipower`.
 */
import {randomBytes} from 'node:crypto'
import type {RemoteInfo} from 'node:dgram'
import {COMMANDS} from '../../services/power/ipmi/commands.ts'
import {decodeMessage, encodeMessage, type LanMessage} from '../../services/power/ipmi/lan-message.ts'
import {decodePacket, encodeOld, encodePlain, encodeSealed, PAYLOAD} from '../../services/power/ipmi/packet.ts'
import {type ChassisManners, type ChassisOptions, createChassis} from './chassis.ts'
import {carryOut, type InsideOptions, type Insides} from './commands.ts'
import {createEventLog, type EventLogOptions, type SimulatedEventLog} from './event-log.ts'
import {exampleFrus} from './fru.ts'
import {type LineOptions, openLine} from './line.ts'
import {createRepository, exampleSensors, type RepositoryOptions, type SimulatedSensor} from './sensors.ts'
import {type BmcSession, createSessions, type SessionOptions} from './sessions.ts'

export type {ChassisManners} from './chassis.ts'
export type {SimulatedEvent} from './event-log.ts'

export type BmcOptions = SessionOptions &
  InsideOptions &
  RepositoryOptions &
  EventLogOptions &
  LineOptions & {
    readonly chassis?: Omit<ChassisOptions, 'manners'> & {readonly manners?: ChassisManners}
    /** Called when the machine's power changes, whoever changed it. */
    readonly onPower?: (power: 0 | 1) => void
    /** Keeps no list of what it heard: for a great many of them, for long. */
    readonly quiet?: boolean
    readonly serial?: string
    readonly clock?: {now(): Date; monotonicMs(): number}
    readonly timers?: {after(ms: number, run: () => void): () => void}
  }

export type SimulatedBmc = {
  readonly port: number
  /** The machine's own power, 1 on, 0 off; writable, as a person may press the button. */
  power: 0 | 1
  /** What it does with orders from now on. */
  manners: ChassisManners
  /** Boot flags, data 1–5. */
  readonly boot: Buffer
  /** What the firmware does at power-on: the boot device selector in force, consumed unless it is to stay. */
  takeBootDevice(): number
  readonly identify_s: number
  /** Every Chassis Control it carried out, retransmissions of one request counted once. */
  readonly orders: readonly number[]
  /** Every command within a session, by name or number, retransmissions included. */
  readonly heard: readonly string[]
  /** Algorithms asked for in Open Session, as `authentication/integrity/confidentiality`. */
  readonly asked: readonly string[]
  /** Suites of the sessions that came up. */
  readonly suitesUsed: readonly number[]
  readonly openSessions: number
  readonly mostSessions: number
  readonly log: SimulatedEventLog
  readonly sensors: readonly SimulatedSensor[]
  /** Answers a command in its own way: completion code and data; `silence` for none; undefined for the usual answer. */
  answer: ((message: LanMessage) => Buffer | 'silence' | undefined) | undefined
  /** Stands between the BMC and the wire: what it returns is sent. */
  mangle: ((datagram: Buffer, to: RemoteInfo) => readonly Buffer[]) | undefined
  /** Hears nothing and says nothing while true, as one that hangs. */
  stalled: boolean
  /** Delay of every answer from now on. */
  slow(ms: number): void
  /** Forgets its sessions, as after a restart of its own. */
  reset(): void
  stop(): Promise<void>
}

const COMMAND_NAMES = new Map(Object.entries(COMMANDS).map(([name, {netFn, command}]) => [`${netFn}.${command}`, name]))

const systemTime = {
  clock: {now: () => new Date(), monotonicMs: () => performance.now()},
  timers: {
    after(ms: number, run: () => void) {
      const timer = setTimeout(run, ms)
      return () => clearTimeout(timer)
    },
  },
}

export async function startBmc(options: BmcOptions = {}): Promise<SimulatedBmc> {
  const {clock = systemTime.clock, timers = systemTime.timers} = options
  const sessions = createSessions(options, clock.monotonicMs)
  const sensors = exampleSensors()
  const frus = exampleFrus(options.serial ?? '0001', options.wordwiseFru)
  const chassis = createChassis(options.chassis ?? {}, timers, power => options.onPower?.(power))
  const inside: Insides = {
    chassis,
    log: createEventLog(options),
    repository: createRepository(sensors, new Map([...frus].filter(([id]) => id > 0).map(([id, {name}]) => [id, name])), options),
    frus,
    options,
    now: clock.now,
  }
  const heard: string[] = []
  const line = await openLine(options, timers, receive)

  function send(datagram: Buffer, to: RemoteInfo): void {
    if (!bmc.mangle) return line.send(datagram, to)
    for (const bytes of bmc.mangle(datagram, to)) line.send(bytes, to)
  }

  function receive(bytes: Buffer, from: RemoteInfo): void {
    if (bmc.stalled) return
    const packet = decodePacket(bytes, sessions.keysOf)
    if ('ignored' in packet) return
    if (packet.format === 'old') {
      const message = decodeMessage(packet.payload)
      if (message) send(encodeOld(replyTo(message, carryOut(inside, message))), from)
      return
    }
    if (options.old) return
    if (packet.format === 'sealed') {
      const session = sessions.get(packet.sessionId)
      if (session && packet.type === PAYLOAD.message) receiveCommand(session, packet.payload, from)
      return
    }
    const reply = (type: number, payload: Buffer | undefined) => payload && send(encodePlain(type, payload), from)
    if (packet.type === PAYLOAD.openRequest) reply(PAYLOAD.openResponse, sessions.open(packet.payload))
    if (packet.type === PAYLOAD.rakp1) reply(PAYLOAD.rakp2, sessions.rakp1(packet.payload))
    if (packet.type === PAYLOAD.rakp3) reply(PAYLOAD.rakp4, sessions.rakp3(packet.payload))
    if (packet.type === PAYLOAD.message) {
      const message = decodeMessage(packet.payload)
      if (message) reply(PAYLOAD.message, replyTo(message, carryOut(inside, message)))
    }
  }

  function receiveCommand(session: BmcSession, payload: Buffer, from: RemoteInfo): void {
    const message = decodeMessage(payload)
    if (!message || !session.keys) return
    session.usedMs = clock.monotonicMs()
    if (!options.quiet)
      heard.push(COMMAND_NAMES.get(`${message.netFn}.${message.command}`) ?? `${message.netFn}.${message.command}`)
    // A retransmission is answered again and not carried out again (IPMI 2.0 §6.12: the sequence number of the message tells).
    if (!session.lastRequest?.message.equals(payload)) {
      const usual = bmc.answer?.(message) ?? carryOut(inside, message, session)
      if (usual === 'silence') return
      session.lastRequest = {message: Buffer.from(payload), reply: replyTo(message, usual)}
    }
    session.sequence += 1
    const seal = {
      sessionId: session.consoleId.readUInt32LE(0),
      sequence: session.sequence,
      keys: session.keys,
      iv: randomBytes(16),
    }
    send(encodeSealed(session.lastRequest.reply, {...seal, type: PAYLOAD.message}), from)
    const {netFn, command} = COMMANDS.closeSession
    if (message.netFn === netFn && message.command === command && message.data.equals(session.bmcId)) sessions.close(session.id)
  }

  const bmc: SimulatedBmc = {
    port: line.port,
    get power() {
      return chassis.power
    },
    set power(next) {
      chassis.power = next
    },
    get manners() {
      return chassis.manners
    },
    set manners(next) {
      chassis.manners = next
    },
    boot: chassis.boot,
    takeBootDevice: chassis.takeBootDevice,
    get identify_s() {
      return chassis.identify_s
    },
    orders: chassis.orders,
    heard,
    asked: sessions.asked,
    suitesUsed: sessions.suitesUsed,
    get openSessions() {
      return sessions.size
    },
    get mostSessions() {
      return sessions.most
    },
    log: inside.log,
    sensors,
    answer: undefined,
    mangle: undefined,
    stalled: false,
    slow: line.slow,
    reset: sessions.forget,
    stop() {
      chassis.stop()
      return line.stop()
    },
  }
  return bmc
}

function replyTo({from, to, netFn, sequence, command}: LanMessage, data: Buffer): Buffer {
  return encodeMessage({to: from, from: to, netFn: netFn | 1, sequence, command, data})
}
