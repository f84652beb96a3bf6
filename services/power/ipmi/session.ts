/**
 * A session that is up: commands out, answers in, and its end. BMCs have few sessions (some four), so `close` is always called.
 *
 * A session begins at the user level (IPMI 2.0 §22.18) and is raised to the role of RAKP 1 before the first command that needs more,
 * so that reading a power state costs no extra round trip.
 */
import {randomBytes} from 'node:crypto'
import type {Privilege} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Guard} from '../guard.ts'
import {pause, type Timers} from '../timers.ts'
import {COMMANDS, COMPLETION, type Command, completionText} from './commands.ts'
import type {SessionKeys} from './crypto.ts'
import {exchange} from './exchange.ts'
import {ROLES} from './handshake.ts'
import {BMC_ADDRESS, CONSOLE_ADDRESS, decodeMessage, encodeMessage} from './lan-message.ts'
import {encodeSealed, PAYLOAD, type Packet} from './packet.ts'
import {createReplayWindow} from './replay.ts'
import type {IpmiSocket, Line} from './socket.ts'

export type Reply = {readonly completion: number; readonly data: Buffer}

export type Session = {
  /** @param guard asked before every datagram; left out for commands that change nothing */
  command(command: Command, data: readonly number[], guard?: Guard): Promise<Reply>
  /** Never throws. */
  close(): Promise<void>
}

export type SessionParts = {
  readonly socket: IpmiSocket
  readonly line: Line
  readonly keys: SessionKeys
  readonly bmcId: Buffer
  readonly role: Privilege
  readonly waitsMs: readonly number[]
  readonly timers: Timers
  readonly signal: AbortSignal
}

const BUSY_WAITS_MS = [200, 500, 1000]
const CLOSE_WAITS_MS = [250, 750]
const BMC_IS_GONE_MS = [0]

export function createSession({socket, line, keys, bmcId, role, waitsMs, timers, signal}: SessionParts): Session {
  const replays = createReplayWindow()
  const sessionId = bmcId.readUInt32LE(0)
  let sequence = 0
  let requestNumber = 0
  let level: number = ROLES.user
  let gone = false

  async function command(wanted: Command, data: readonly number[], guard?: Guard): Promise<Reply> {
    if (wanted.needs !== 'nothing' && ROLES[wanted.needs] > level) await raise()
    for (const waitMs of BUSY_WAITS_MS) {
      const reply = await ask(wanted, data, waitsMs, signal, guard)
      if (reply.completion !== COMPLETION.busy && reply.completion !== COMPLETION.timeout) return reply
      await pause(timers, waitMs, signal)
      signal.throwIfAborted()
    }
    return ask(wanted, data, waitsMs, signal, guard)
  }

  async function raise(): Promise<void> {
    if (ROLES[role] <= level) return
    const {completion} = await ask(COMMANDS.setPrivilege, [ROLES[role]], waitsMs, signal)
    if (completion !== 0) {
      throw new PowerFault('privilege', `the user may not act as ${role}: completion code ${completionText(completion)}`)
    }
    level = ROLES[role]
  }

  async function ask(
    wanted: Command,
    data: readonly number[],
    waits: readonly number[],
    until: AbortSignal,
    guard?: Guard,
  ): Promise<Reply> {
    requestNumber = (requestNumber + 1) & 0x3f
    const request = requestNumber
    try {
      return await exchange(socket, line, {
        make() {
          guard?.check()
          return seal(wanted, request, data)
        },
        accept: packet => readReply(packet, wanted, request),
        waitsMs: waits,
        timers,
        signal: until,
      })
    } catch (error) {
      if (!(error instanceof PowerFault)) throw error
      gone = true
      throw new PowerFault(error.kind, `${error.message}: the BMC fell silent within a session, at ${wanted.name}`)
    }
  }

  function seal({netFn, command: number}: Command, request: number, data: readonly number[]): Buffer {
    sequence = (sequence + 1) >>> 0 || 1
    const message = encodeMessage({
      to: BMC_ADDRESS,
      from: CONSOLE_ADDRESS,
      netFn,
      sequence: request,
      command: number,
      data: Buffer.from(data),
    })
    return encodeSealed(message, {type: PAYLOAD.message, sessionId, sequence, keys, iv: randomBytes(16)})
  }

  function readReply(packet: Packet, wanted: Command, request: number): Reply | undefined {
    if (packet.format !== 'sealed' || packet.type !== PAYLOAD.message || !replays.accept(packet.sequence)) return undefined
    const message = decodeMessage(packet.payload)
    if (!message || message.sequence !== request || message.command !== wanted.command) return undefined
    if (message.netFn !== (wanted.netFn | 1)) return undefined
    const completion = message.data[0]
    return completion === undefined ? undefined : {completion, data: Buffer.from(message.data.subarray(1))}
  }

  return {
    command,
    async close() {
      try {
        // Not the caller's signal: a session is closed after an abort, too. One datagram and no wait where the BMC fell silent.
        const waits = gone ? BMC_IS_GONE_MS : CLOSE_WAITS_MS
        await ask(COMMANDS.closeSession, [...bmcId], waits, new AbortController().signal)
      } catch (error) {
        // The BMC forgets a silent session by itself (§6.12, after 60 s), so nothing more is to be done.
        if (!(error instanceof PowerFault)) throw error
      } finally {
        socket.drop(line)
      }
    },
  }
}
