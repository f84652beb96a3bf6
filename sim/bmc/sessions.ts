/**
 * The BMC's side of RMCP+ (IPMI 2.0 §13): Open Session, RAKP 1–4 with cipher suites 17 and 3, and the sessions that come of it. It
 * shares with the client under test only the packet and hash code; `ipmitool` and `ipmipower` judge it.
 */
import {createSecretKey, type KeyObject, randomBytes} from 'node:crypto'
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
import {type Suite, suiteOf} from '../../services/power/ipmi/suites.ts'

export type SessionOptions = {
  /** Name → password and highest level (2 user, 3 operator, 4 administrator). */
  readonly users?: Record<string, {password: string; level?: 2 | 3 | 4}> | undefined
  readonly suites?: readonly number[] | undefined
  /** What it does about a suite it does not take: most refuse, some stay silent. */
  readonly otherSuites?: 'refuse' | 'ignore' | undefined
  readonly maxSessions?: number | undefined
  /** Like ipmi_sim: does not answer RAKP 3 again once the session is up, though its answer may have been lost. */
  readonly rakp3Once?: boolean | undefined
  /** A K_G key, for two-key logins. */
  readonly groupKey?: string | undefined
}

export type BmcSession = {
  readonly id: number
  readonly consoleId: Buffer
  readonly bmcId: Buffer
  readonly suite: Suite
  facts?: RakpFacts
  password?: KeyObject
  limit: number
  keys?: SessionKeys
  level: number
  sequence: number
  usedMs: number
  lastRequest?: {message: Buffer; reply: Buffer}
}

export type Sessions = ReturnType<typeof createSessions>

/** A session that nobody used for this long is given up (§6.12). */
const SILENCE_MS = 60_000
export const GUID = Buffer.from('0123456789abcdef0123456789abcdef', 'hex')

export function createSessions(options: SessionOptions, monotonicMs: () => number) {
  const users = new Map(Object.entries(options.users ?? {ingot: {password: 'correct horse'}}))
  const suites = options.suites ?? [17, 3]
  const sessions = new Map<number, BmcSession>()
  const asked: string[] = []
  const suitesUsed: number[] = []
  let nextId = 1
  let most = 0

  function giveUpSilent(): void {
    const before = monotonicMs() - SILENCE_MS
    for (const session of sessions.values()) if (session.usedMs < before) sessions.delete(session.id)
  }

  function open(request: Buffer): Buffer | undefined {
    if (request.length < 32) return undefined
    giveUpSilent()
    const tag = request.readUInt8(0)
    const consoleId = Buffer.from(request.subarray(4, 8))
    const refuse = (status: number) => Buffer.from([tag, status, 0, 0, ...consoleId])
    const [authentication = 0, integrity = 0, confidentiality = 0] = [12, 20, 28].map(at => request.readUInt8(at) & 63)
    asked.push(`${authentication}/${integrity}/${confidentiality}`)
    const suite = suiteOf(authentication, integrity, confidentiality)
    if (!suite || !suites.includes(suite.id)) return options.otherSuites === 'ignore' ? undefined : refuse(0x11)
    const known = sessions.values().find(session => !session.keys && session.consoleId.equals(consoleId))
    if (!known && sessions.size >= (options.maxSessions ?? 64)) return refuse(0x01)
    const {bmcId} = known ?? add(consoleId, suite)
    return Buffer.concat([Buffer.from([tag, 0, 4, 0]), consoleId, bmcId, request.subarray(8, 32)])
  }

  function add(consoleId: Buffer, suite: Suite): BmcSession {
    const id = nextId++
    const bmcId = Buffer.alloc(4)
    bmcId.writeUInt32LE(id)
    const session = {id, consoleId, bmcId, suite, limit: 4, level: 2, sequence: 0, usedMs: monotonicMs()}
    sessions.set(id, session)
    most = Math.max(most, sessions.size)
    return session
  }

  function rakp1(request: Buffer): Buffer | undefined {
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
    session.password = createSecretKey(Buffer.from(user.password))
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

  function rakp3(request: Buffer): Buffer | undefined {
    const session = request.length < 8 ? undefined : sessions.get(request.readUInt32LE(4))
    if (!session?.facts || !session.password) return undefined
    const tag = request.readUInt8(0)
    if (request.readUInt8(1) !== 0) {
      sessions.delete(session.id)
      return undefined
    }
    if (session.keys && options.rakp3Once) return undefined
    if (!sameBytes(rakp3Code(session.suite, session.password, session.facts), request.subarray(8))) {
      sessions.delete(session.id)
      return Buffer.from([tag, 0x0f, 0, 0, ...session.consoleId])
    }
    const key = options.groupKey === undefined ? session.password : createSecretKey(Buffer.from(options.groupKey))
    const secret = sessionSecret(session.suite, key, session.facts)
    if (!session.keys) suitesUsed.push(session.suite.id)
    session.keys ??= sessionKeys(session.suite, secret)
    return Buffer.concat([Buffer.from([tag, 0, 0, 0]), session.consoleId, rakp4Code(session.suite, secret, session.facts)])
  }

  return {
    asked,
    suitesUsed,
    get size() {
      return sessions.size
    },
    get most() {
      return most
    },
    get: (id: number) => sessions.get(id),
    keysOf: (id: number) => sessions.get(id)?.keys,
    close: (id: number) => sessions.delete(id),
    /** As after the BMC's own restart. */
    forget: () => sessions.clear(),
    open,
    rakp1,
    rakp3,
  }
}
