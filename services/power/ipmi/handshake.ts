/**
 * Payloads of the RMCP+ handshake, console side: Open Session (IPMI 2.0 §13.17–13.18) and RAKP 1–4 (§13.20–13.23). Pure.
 * Every answer begins: tag, status, two bytes, the id that the console gave the session.
 */
import type {Privilege} from '../drivers/driver.ts'
import type {RakpFacts} from './crypto.ts'
import type {Suite} from './suites.ts'

/** Requested privilege levels (§13.20, Table 13-11). */
export const ROLES = {user: 2, operator: 3, administrator: 4} as const satisfies Record<Privilege, number>

/** In RAKP 1: look the user up by name alone, not by name and role (§13.20). */
export const NAME_ONLY = 0x10

/**
 * Asks for privilege 0, "the highest the suite allows": the role itself goes into RAKP 1. Some BMCs, and ipmi_sim, refuse a role here
 * (freeipmi's `opensesspriv` workaround).
 */
export function openRequest(tag: number, consoleId: Buffer, suite: Suite): Buffer {
  return Buffer.concat([
    Buffer.from([tag, 0, 0, 0]),
    consoleId,
    algorithm(0, suite.authentication),
    algorithm(1, suite.integrity),
    algorithm(2, suite.confidentiality),
  ])
}

function algorithm(kind: number, number: number): Buffer {
  return Buffer.from([kind, 0, 0, 8, number, 0, 0, 0])
}

/** The BMC's session id; undefined when the answer is short or chose other algorithms than those asked for. */
export function readOpenResponse(payload: Buffer, suite: Suite): {bmcId: Buffer} | undefined {
  if (payload.length < 36) return undefined
  const chosen = [payload[16], payload[24], payload[32]].map(number => (number ?? 0) & 0x3f)
  const asked = [suite.authentication, suite.integrity, suite.confidentiality]
  if (asked.some((number, index) => number !== chosen[index])) return undefined
  return {bmcId: Buffer.from(payload.subarray(8, 12))}
}

export function rakp1(tag: number, facts: Pick<RakpFacts, 'bmcId' | 'consoleRandom' | 'role' | 'username'>): Buffer {
  const tail = Buffer.from([facts.role, 0, 0, facts.username.length])
  return Buffer.concat([Buffer.from([tag, 0, 0, 0]), facts.bmcId, facts.consoleRandom, tail, facts.username])
}

export function readRakp2(payload: Buffer): {bmcRandom: Buffer; bmcGuid: Buffer; code: Buffer} | undefined {
  if (payload.length < 40) return undefined
  return {
    bmcRandom: Buffer.from(payload.subarray(8, 24)),
    bmcGuid: Buffer.from(payload.subarray(24, 40)),
    code: payload.subarray(40),
  }
}

/** With a status other than 0 and no code it tells the BMC to drop the session (§13.22). */
export function rakp3(tag: number, bmcId: Buffer, code: Buffer, status = 0): Buffer {
  return Buffer.concat([Buffer.from([tag, status, 0, 0]), bmcId, code])
}

export function readRakp4(payload: Buffer): {code: Buffer} | undefined {
  return payload.length < 8 ? undefined : {code: payload.subarray(8)}
}

/** What a status other than 0 means (Table 13-15), and what it is to the one who asked. */
export const STATUSES = {
  1: {text: 'no resources for another session', fault: 'no_session'},
  2: {text: 'invalid session id', fault: 'session_lost'},
  3: {text: 'invalid payload type', fault: 'bad_reply'},
  4: {text: 'invalid authentication algorithm', fault: 'no_suite'},
  5: {text: 'invalid integrity algorithm', fault: 'no_suite'},
  6: {text: 'no matching authentication payload', fault: 'no_suite'},
  7: {text: 'no matching integrity payload', fault: 'no_suite'},
  8: {text: 'inactive session id', fault: 'session_lost'},
  9: {text: 'invalid role', fault: 'privilege'},
  10: {text: 'unauthorised role', fault: 'privilege'},
  11: {text: 'no resources for a session of this role', fault: 'no_session'},
  12: {text: 'invalid name length', fault: 'wrong_user'},
  13: {text: 'unauthorised name', fault: 'wrong_user'},
  14: {text: 'unauthorised GUID', fault: 'bad_reply'},
  15: {text: 'invalid integrity check value', fault: 'wrong_password'},
  16: {text: 'invalid confidentiality algorithm', fault: 'no_suite'},
  17: {text: 'no matching cipher suite', fault: 'no_suite'},
  18: {text: 'illegal parameter', fault: 'no_suite'},
} as const satisfies Record<number, {text: string; fault: string}>

export function statusOf(number: number): (typeof STATUSES)[keyof typeof STATUSES] | undefined {
  return (STATUSES as Record<number, (typeof STATUSES)[keyof typeof STATUSES]>)[number]
}
