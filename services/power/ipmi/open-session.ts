/**
 * Opens an RMCP+ session with one cipher suite (IPMI 2.0 §13.14): Open Session, then RAKP 1–4, by which each side proves that it knows
 * the password. A wrong password shows at RAKP 2, before anything was waited for.
 */
import {type KeyObject, randomBytes} from 'node:crypto'
import type {Privilege} from '../drivers/driver.ts'
import {type FaultKind, PowerFault} from '../fault.ts'
import type {Timers} from '../timers.ts'
import {type RakpFacts, rakp2Code, rakp3Code, rakp4Code, sameBytes, sessionKeys, sessionSecret} from './crypto.ts'
import {exchange} from './exchange.ts'
import {NAME_ONLY, openRequest, ROLES, rakp1, rakp3, readOpenResponse, readRakp2, readRakp4, statusOf} from './handshake.ts'
import {encodePlain, PAYLOAD} from './packet.ts'
import {createSession, type Session} from './session.ts'
import type {IpmiSocket, Line, Peer} from './socket.ts'
import type {Suite} from './suites.ts'

export type Login = {readonly username: Buffer; readonly password: KeyObject; readonly role: Privilege}

export type Opening = {
  readonly socket: IpmiSocket
  readonly peer: Peer
  readonly login: Login
  readonly suite: Suite
  readonly waitsMs: readonly number[]
  readonly timers: Timers
  readonly signal: AbortSignal
  /** Ends the wait for the very first answer only, with its reason. */
  readonly firstAnswer: AbortSignal
}

const INVALID_CHECK_VALUE = 0x0f
const LATER_DATAGRAMS = 3

export async function openSession(opening: Opening): Promise<Session> {
  const {socket, peer, login, suite, waitsMs, timers, signal} = opening
  const line = await socket.open(peer)
  try {
    const facts = await exchangeNames(opening, line)
    const secret = sessionSecret(suite, login.password, facts)
    const keys = sessionKeys(suite, secret)
    line.keys = keys
    const session = createSession({socket, line, keys, bmcId: facts.bmcId, role: login.role, waitsMs, timers, signal})
    try {
      await prove(opening, line, facts, secret)
    } catch (error) {
      // The BMC may hold the session open although its last word was lost.
      if (!(error instanceof PowerFault) || error.kind === 'session_lost') await session.close()
      throw error
    }
    return session
  } catch (error) {
    socket.drop(line)
    throw error
  }
}

/** Open Session, RAKP 1 and 2: ids, random numbers, and the BMC's proof. */
async function exchangeNames(opening: Opening, line: Line): Promise<RakpFacts> {
  const {login, suite} = opening
  const consoleId = Buffer.alloc(4)
  consoleId.writeUInt32LE(line.id)

  const first = AbortSignal.any([opening.signal, opening.firstAnswer])
  const request = openRequest(tagOf(line, 0), consoleId, suite)
  const response = await step({...opening, signal: first}, line, PAYLOAD.openRequest, request, 'the session')
  const opened = readOpenResponse(response, suite)
  if (!opened) throw new PowerFault('no_suite', `the BMC answered suite ${suite.id} with other algorithms than were asked for`)

  const mine = {
    bmcId: opened.bmcId,
    consoleRandom: randomBytes(16),
    role: ROLES[login.role] | NAME_ONLY,
    username: login.username,
  }
  const answer = await step(
    opening,
    line,
    PAYLOAD.rakp1,
    rakp1(tagOf(line, 1), mine),
    `user "${login.username}" as ${login.role}`,
  )
  const theirs = readRakp2(answer)
  if (!theirs) throw new PowerFault('bad_reply', 'RAKP message 2 is too short')
  const facts = {...mine, consoleId, bmcRandom: theirs.bmcRandom, bmcGuid: theirs.bmcGuid}
  if (!sameBytes(rakp2Code(suite, login.password, facts), theirs.code)) {
    const datagram = encodePlain(PAYLOAD.rakp3, rakp3(tagOf(line, 2), facts.bmcId, Buffer.alloc(0), INVALID_CHECK_VALUE))
    opening.socket.send(line, datagram, () => undefined)
    throw new PowerFault('wrong_password', `the password of user "${login.username}" is wrong: the BMC knows another`)
  }
  return facts
}

/** RAKP 3 and 4: our proof, and the BMC's that it derived the same session keys. */
async function prove(opening: Opening, line: Line, facts: RakpFacts, secret: KeyObject): Promise<void> {
  const {login, suite} = opening
  const proof = rakp3(tagOf(line, 2), facts.bmcId, rakp3Code(suite, login.password, facts))
  const reply = readRakp4(await laterStep(opening, line, PAYLOAD.rakp3, proof, `the password of user "${login.username}"`))
  if (!reply || !sameBytes(rakp4Code(suite, secret, facts), reply.code)) {
    throw new PowerFault('wrong_group_key', 'the password is right, but the BMC derived other session keys: it has a K_G key')
  }
}

function tagOf(line: Line, step: number): number {
  return (line.firstTag + step) & 0xff
}

/**
 * Once Open Session was answered, silence means a lost exchange rather than a dead BMC: ipmi_sim, for one, never answers RAKP 3 again
 * when its RAKP 4 was lost. So only a few datagrams are spent on it before the handshake is begun anew.
 */
async function laterStep(opening: Opening, line: Line, type: number, payload: Buffer, what: string): Promise<Buffer> {
  try {
    return await step({...opening, waitsMs: laterWaits(opening.waitsMs)}, line, type, payload, what)
  } catch (error) {
    if (!(error instanceof PowerFault) || error.kind !== 'no_answer') throw error
    throw new PowerFault('session_lost', `the BMC fell silent in the middle of the handshake, at ${what}`)
  }
}

/** The first ones soon after each other, the last with the patience that a slow BMC needs. */
function laterWaits(waitsMs: readonly number[]): readonly number[] {
  return [...waitsMs.slice(0, LATER_DATAGRAMS - 1), ...waitsMs.slice(-1)]
}

type Step = Pick<Opening, 'socket' | 'waitsMs' | 'timers' | 'signal'>

/** Every answer's type number is one above its question's (Table 13-16); its tag is the question's. */
function step({socket, waitsMs, timers, signal}: Step, line: Line, type: number, payload: Buffer, what: string): Promise<Buffer> {
  const datagram = encodePlain(type, payload)
  return exchange(socket, line, {
    make: () => datagram,
    accept(packet) {
      if (packet.format !== 'plain' || packet.type !== type + 1 || packet.payload[0] !== payload[0]) return undefined
      const status = packet.payload[1]
      if (status === undefined) return undefined
      if (status !== 0) throw refusal(status, what)
      return Buffer.from(packet.payload)
    },
    waitsMs,
    timers,
    signal,
  })
}

function refusal(number: number, what: string): PowerFault {
  const status = statusOf(number)
  const kind: FaultKind = status?.fault ?? 'bad_reply'
  return new PowerFault(
    kind,
    `the BMC refused ${what}: ${status?.text ?? 'no meaning on record'} (status 0x${number.toString(16)})`,
  )
}
