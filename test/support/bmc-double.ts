/**
 * A BMC for tests, on loopback: IPMI 2.0 with cipher suites 17 and 3, full boot flags, privileges, few sessions, and on request the
 * faults of real ones: lost, late and mangled datagrams, orders that do nothing, slow power-off. `ipmitool` and `ipmipower` accept it:
 * they are its judges, so it shares only the packet and hash code with the client under test.
 */
import {randomBytes} from 'node:crypto'
import {createSocket, type RemoteInfo} from 'node:dgram'
import {COMMANDS} from '../../services/power/ipmi/commands.ts'
import {
  type RakpFacts,
  rakp2Code,
  rakp3Code,
  rakp4Code,
  type SessionKeys,
  sameBytes,
  sessionKeys,
  sessionSecret,
} from '../../services/power/ipmi/crypto.ts'
import {decodeMessage, encodeMessage, type LanMessage} from '../../services/power/ipmi/lan-message.ts'
import {decodePacket, encodeOld, encodePlain, encodeSealed, PAYLOAD} from '../../services/power/ipmi/packet.ts'
import {type Suite, suiteOf} from '../../services/power/ipmi/suites.ts'

export type BmcDoubleOptions = {
  /** 0, the default, lets the kernel choose. */
  readonly port?: number
  /** Name → password and highest level (2 user, 3 operator, 4 administrator). */
  readonly users?: Record<string, {password: string; level?: 2 | 3 | 4}>
  readonly suites?: readonly number[]
  /** What it does about a suite it does not take: most refuse, some stay silent. */
  readonly otherSuites?: 'refuse' | 'ignore'
  readonly maxSessions?: number
  /** Of the generator behind `loss`, `repeat` and `delayMs`. */
  readonly seed?: number
  /** Share of datagrams lost, each way. */
  readonly loss?: number
  /** Share of answers sent twice. */
  readonly repeat?: number
  /** Longest delay of an answer, so that answers overtake each other. */
  readonly delayMs?: number
  /** How many status readings an order takes to have its effect. */
  readonly slowPolls?: number
  /** Flags of data byte 1 of the boot flags that it keeps. */
  readonly keptBootFlags?: number
  /** The chassis: `deaf` takes orders and does nothing. */
  readonly chassis?: 'obeys' | 'deaf'
  /** A K_G key, for two-key logins. */
  readonly groupKey?: string
  /** Says that it speaks IPMI 1.5 only, and ignores everything else. */
  readonly old?: boolean
}

export type BmcDouble = {
  readonly port: number
  /** 1 on, 0 off; writable, as a person may press the button. */
  power: 0 | 1
  /** Boot flags, data 1–5. */
  readonly boot: Buffer
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
  /** Answers a command in its own way: completion code and data; `silence` for none; undefined for the usual answer. */
  answer: ((message: LanMessage) => Buffer | 'silence' | undefined) | undefined
  /** Stands between the double and the wire: what it returns is sent. */
  mangle: ((datagram: Buffer, to: RemoteInfo) => readonly Buffer[]) | undefined
  stop(): Promise<void>
}

type BmcSession = {
  readonly id: number
  readonly consoleId: Buffer
  readonly bmcId: Buffer
  readonly suite: Suite
  facts?: RakpFacts
  password?: Buffer
  limit: number
  keys?: SessionKeys
  level: number
  sequence: number
  lastRequest?: {message: Buffer; reply: Buffer}
}

const GUID = Buffer.from('0123456789abcdef0123456789abcdef', 'hex')
const COMMAND_NAMES = new Map(Object.entries(COMMANDS).map(([name, {netFn, command}]) => [`${netFn}.${command}`, name]))

export async function startBmcDouble(options: BmcDoubleOptions = {}): Promise<BmcDouble> {
  const users = new Map(Object.entries(options.users ?? {ingot: {password: 'correct horse'}}))
  const suites = options.suites ?? [17, 3]
  const random = createRandom(options.seed ?? 1)
  const sessions = new Map<number, BmcSession>()
  const timers = new Set<NodeJS.Timeout>()
  const orders: number[] = []
  const heard: string[] = []
  const asked: string[] = []
  const suitesUsed: number[] = []
  const boot = Buffer.alloc(5)
  let nextId = 1
  let mostSessions = 0
  let pending: {power: 0 | 1; polls: number} | undefined

  const socket = createSocket('udp4')
  socket.on('message', (bytes, from) => {
    if (random() >= (options.loss ?? 0)) receive(bytes, from)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(options.port ?? 0, '127.0.0.1', resolve)
  })

  function send(datagram: Buffer, to: RemoteInfo): void {
    const copies = random() < (options.repeat ?? 0) ? [datagram, datagram] : [datagram]
    for (const bytes of copies.flatMap(copy => double.mangle?.(copy, to) ?? [copy])) {
      if (random() < (options.loss ?? 0)) continue
      if (!options.delayMs) {
        socket.send(bytes, to.port, to.address)
        continue
      }
      const timer = setTimeout(() => {
        timers.delete(timer)
        socket.send(bytes, to.port, to.address)
      }, random() * options.delayMs)
      timers.add(timer)
    }
  }

  function receive(bytes: Buffer, from: RemoteInfo): void {
    const packet = decodePacket(bytes, id => sessions.get(id)?.keys)
    if ('ignored' in packet) return
    if (packet.format === 'old') {
      const message = decodeMessage(packet.payload)
      if (message) send(encodeOld(replyTo(message, beforeSession(message))), from)
      return
    }
    if (options.old) return
    if (packet.format === 'sealed') {
      const session = sessions.get(packet.sessionId)
      if (session && packet.type === PAYLOAD.message) receiveCommand(session, packet.payload, from)
      return
    }
    const reply = (type: number, payload: Buffer | undefined) => payload && send(encodePlain(type, payload), from)
    if (packet.type === PAYLOAD.openRequest) reply(PAYLOAD.openResponse, open(packet.payload))
    if (packet.type === PAYLOAD.rakp1) reply(PAYLOAD.rakp2, answerRakp1(packet.payload))
    if (packet.type === PAYLOAD.rakp3) reply(PAYLOAD.rakp4, answerRakp3(packet.payload))
    if (packet.type === PAYLOAD.message) {
      const message = decodeMessage(packet.payload)
      if (message) reply(PAYLOAD.message, replyTo(message, beforeSession(message)))
    }
  }

  function open(request: Buffer): Buffer | undefined {
    if (request.length < 32) return undefined
    const tag = request.readUInt8(0)
    const consoleId = Buffer.from(request.subarray(4, 8))
    const refuse = (status: number) => Buffer.from([tag, status, 0, 0, ...consoleId])
    const [authentication = 0, integrity = 0, confidentiality = 0] = [12, 20, 28].map(at => request.readUInt8(at) & 63)
    asked.push(`${authentication}/${integrity}/${confidentiality}`)
    const suite = suiteOf(authentication, integrity, confidentiality)
    if (!suite || !suites.includes(suite.id)) return options.otherSuites === 'ignore' ? undefined : refuse(0x11)
    const known = sessions.values().find(session => !session.keys && session.consoleId.equals(consoleId))
    if (!known && sessions.size >= (options.maxSessions ?? 64)) return refuse(0x01)
    const {bmcId} = known ?? addSession(consoleId, suite)
    return Buffer.concat([Buffer.from([tag, 0, 4, 0]), consoleId, bmcId, request.subarray(8, 32)])
  }

  function addSession(consoleId: Buffer, suite: Suite): BmcSession {
    const id = nextId++
    const bmcId = Buffer.alloc(4)
    bmcId.writeUInt32LE(id)
    const session = {id, consoleId, bmcId, suite, limit: 4, level: 2, sequence: 0}
    sessions.set(id, session)
    mostSessions = Math.max(mostSessions, sessions.size)
    return session
  }

  function answerRakp1(request: Buffer): Buffer | undefined {
    const session = request.length < 28 ? undefined : sessions.get(request.readUInt32LE(4))
    if (!session) return undefined
    const tag = request.readUInt8(0)
    const refuse = (status: number) => {
      sessions.delete(session.id)
      return Buffer.from([tag, status, 0, 0, ...session.consoleId])
    }
    const username = Buffer.from(request.subarray(28, 28 + request.readUInt8(27)))
    const user = users.get(username.toString())
    if (!user) return refuse(0x0d)
    const role = request.readUInt8(24)
    if ((role & 0x0f) > (user.level ?? 4)) return refuse(0x0a)
    session.password = Buffer.from(user.password)
    session.limit = role & 0x0f
    session.facts = {
      consoleId: session.consoleId,
      bmcId: session.bmcId,
      consoleRandom: Buffer.from(request.subarray(8, 24)),
      bmcRandom: session.facts?.bmcRandom ?? randomBytes(16),
      bmcGuid: GUID,
      role,
      username,
    }
    const code = rakp2Code(session.suite, session.password, session.facts)
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), session.consoleId, session.facts.bmcRandom, GUID, code])
  }

  function answerRakp3(request: Buffer): Buffer | undefined {
    const session = request.length < 8 ? undefined : sessions.get(request.readUInt32LE(4))
    if (!session?.facts || !session.password) return undefined
    const tag = request.readUInt8(0)
    if (request.readUInt8(1) !== 0) {
      sessions.delete(session.id)
      return undefined
    }
    // Like ipmi_sim: a session that is up does not answer RAKP 3 again.
    if (session.keys) return undefined
    if (!sameBytes(rakp3Code(session.suite, session.password, session.facts), request.subarray(8))) {
      sessions.delete(session.id)
      return Buffer.from([tag, 0x0f, 0, 0, ...session.consoleId])
    }
    const key = options.groupKey === undefined ? session.password : Buffer.from(options.groupKey)
    const secret = sessionSecret(session.suite, key, session.facts)
    suitesUsed.push(session.suite.id)
    session.keys = sessionKeys(session.suite, secret)
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), session.consoleId, rakp4Code(session.suite, secret, session.facts)])
  }

  function receiveCommand(session: BmcSession, payload: Buffer, from: RemoteInfo): void {
    const message = decodeMessage(payload)
    if (!message || !session.keys) return
    heard.push(COMMAND_NAMES.get(`${message.netFn}.${message.command}`) ?? `${message.netFn}.${message.command}`)
    // A retransmission is answered again and not carried out again (IPMI 2.0 §6.12: the sequence number of the message tells).
    if (!session.lastRequest?.message.equals(payload)) {
      const usual = double.answer?.(message) ?? carryOut(session, message)
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
    if (message.netFn === 6 && message.command === COMMANDS.closeSession.command && message.data.equals(session.bmcId)) {
      sessions.delete(session.id)
    }
  }

  function beforeSession({netFn, command, data}: LanMessage): Buffer {
    if (netFn === 6 && command === 0x38)
      return Buffer.from(options.old ? [0, 1, 0x04, 0, 0, 0, 0, 0, 0] : [0, 1, 0x80, 4, 2, 0, 0, 0, 0])
    if (netFn === 6 && command === 0x54) {
      const records = Buffer.from([0xc0, 3, 1, 0x41, 0x81, 0xc0, 17, 3, 0x44, 0x81])
      const start = ((data[2] ?? 0) & 0x3f) * 16
      return Buffer.concat([Buffer.from([0, 1]), records.subarray(start, start + 16)])
    }
    return Buffer.from([0xd4])
  }

  function carryOut(session: BmcSession, message: LanMessage): Buffer {
    const {netFn, command, data} = message
    const number = netFn === 0 ? command : -1
    if ([0x02, 0x04, 0x08, 0x09].includes(number) && session.level < 3) return Buffer.from([0xd4])
    if (netFn === 6) {
      if (command === 0x38 || command === 0x54) return beforeSession(message)
      if (command === 0x01) return Buffer.from([0, 0x20, 1, 1, 0, 0x02, 0x9f, 0, 0, 0, 1, 0])
      if (command === 0x37) return Buffer.from([0, ...GUID])
      if (command === 0x3c) return Buffer.from([data.equals(session.bmcId) ? 0 : 0x87])
      if (command === 0x3b) {
        const wanted = (data[0] ?? 0) & 0x0f
        if (wanted > session.limit) return Buffer.from([0x81])
        session.level = wanted || session.level
        return Buffer.from([0, session.level])
      }
    }
    if (number === 0x01) return Buffer.from([0, statusByte(), 0, 0x40])
    if (number === 0x02) return chassisControl((data[0] ?? 0) & 0x0f)
    if (number === 0x04) return Buffer.from([0])
    if (number === 0x08) {
      if (((data[0] ?? 0) & 0x7f) === 5) {
        data.copy(boot, 0, 1, 6)
        boot[0] = (boot[0] ?? 0) & (options.keptBootFlags ?? 0xff)
      }
      return Buffer.from([0])
    }
    if (number === 0x09) return Buffer.from((data[0] ?? 0) === 5 ? [0, 1, 5, ...boot] : [0, 1, data[0] ?? 0, 0, 0])
    return Buffer.from([0xc1])
  }

  function statusByte(): number {
    if (pending && pending.polls-- <= 0) {
      double.power = pending.power
      pending = undefined
    }
    return double.power
  }

  function chassisControl(order: number): Buffer {
    orders.push(order)
    if (order > 5 || order === 4) return Buffer.from([0xcc])
    if ((order === 2 || order === 3) && double.power === 0) return Buffer.from([0xd5])
    if (options.chassis === 'deaf' || order === 2 || order === 3) return Buffer.from([0])
    pending = {power: order === 1 ? 1 : 0, polls: options.slowPolls ?? 0}
    if (pending.polls === 0) statusByte()
    return Buffer.from([0])
  }

  const double: BmcDouble = {
    port: socket.address().port,
    power: 0,
    boot,
    orders,
    heard,
    asked,
    suitesUsed,
    get openSessions() {
      return sessions.size
    },
    get mostSessions() {
      return mostSessions
    },
    answer: undefined,
    mangle: undefined,
    stop() {
      for (const timer of timers) clearTimeout(timer)
      return new Promise(resolve => socket.close(() => resolve()))
    },
  }
  return double
}

function replyTo({from, to, netFn, sequence, command}: LanMessage, data: Buffer): Buffer {
  return encodeMessage({to: from, from: to, netFn: netFn | 1, sequence, command, data})
}

/** Mulberry32: small, seeded, good enough to lose datagrams by. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
