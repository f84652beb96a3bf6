/**
 * One UDP datagram of IPMI over LAN: the RMCP header (IPMI 2.0 §13.1.3) around a session header, either IPMI 1.5's without a session
 * (Table 13-8, left) or RMCP+'s (Table 13-8, right), plain during the handshake and encrypted with a code afterwards. Pure; never throws.
 */
import {checkCode, decrypt, encrypt, type SessionKeys, sameBytes} from './crypto.ts'

/** Payload type numbers (Table 13-16). */
export const PAYLOAD = {
  message: 0x00,
  openRequest: 0x10,
  openResponse: 0x11,
  rakp1: 0x12,
  rakp2: 0x13,
  rakp3: 0x14,
  rakp4: 0x15,
} as const

export type Packet =
  /** IPMI 1.5 format, no session: discovery only. */
  | {readonly format: 'old'; readonly payload: Buffer}
  /** RMCP+ without protection: the handshake. */
  | {readonly format: 'plain'; readonly type: number; readonly payload: Buffer}
  /** RMCP+ within a session; its code has been checked and its payload decrypted. */
  | {
      readonly format: 'sealed'
      readonly type: number
      readonly sessionId: number
      readonly sequence: number
      readonly payload: Buffer
    }

export type IgnoredPacket = {
  readonly ignored: 'too_short' | 'not_ipmi' | 'truncated' | 'half_protected' | 'unknown_session' | 'wrong_code' | 'wrong_cipher'
}

const RMCP = Buffer.from([0x06, 0x00, 0xff, 0x07])
const RMCP_BYTES = RMCP.length
const FORMAT_OLD = 0x00
const FORMAT_RMCP_PLUS = 0x06
const ENCRYPTED = 0x80
const AUTHENTICATED = 0x40
const NEXT_HEADER = 0x07

/** @param keysOf the keys of one of our sessions by the id that we gave it; undefined when there is none or it is not up yet */
export function decodePacket(bytes: Buffer, keysOf: (sessionId: number) => SessionKeys | undefined): Packet | IgnoredPacket {
  if (bytes.length < 14) return {ignored: 'too_short'}
  if (bytes[0] !== 0x06 || bytes[3] !== 0x07) return {ignored: 'not_ipmi'}
  if (bytes[4] === FORMAT_OLD) return decodeOld(bytes)
  if (bytes[4] !== FORMAT_RMCP_PLUS) return {ignored: 'not_ipmi'}
  if (bytes.length < 16) return {ignored: 'too_short'}
  const flags = bytes.readUInt8(5)
  const type = flags & 0x3f
  const payloadEnd = 16 + bytes.readUInt16LE(14)
  if (bytes.length < payloadEnd) return {ignored: 'truncated'}
  const payload = bytes.subarray(16, payloadEnd)
  const protection = flags & (ENCRYPTED | AUTHENTICATED)
  if (protection === 0) return {format: 'plain', type, payload}
  if (protection !== (ENCRYPTED | AUTHENTICATED)) return {ignored: 'half_protected'}

  const sessionId = bytes.readUInt32LE(6)
  const keys = keysOf(sessionId)
  if (!keys) return {ignored: 'unknown_session'}
  const codeStart = bytes.length - keys.suite.checkBytes
  if (codeStart < payloadEnd + 2) return {ignored: 'truncated'}
  const code = checkCode(keys, bytes.subarray(RMCP_BYTES, codeStart))
  if (!sameBytes(code, bytes.subarray(codeStart))) return {ignored: 'wrong_code'}
  const plain = decrypt(keys.cipherKey, payload)
  if (!plain) return {ignored: 'wrong_cipher'}
  return {format: 'sealed', type, sessionId, sequence: bytes.readUInt32LE(10), payload: plain}
}

function decodeOld(bytes: Buffer): Packet | IgnoredPacket {
  const end = 14 + bytes.readUInt8(13)
  if (bytes.length < end) return {ignored: 'truncated'}
  return {format: 'old', payload: bytes.subarray(14, end)}
}

export function encodeOld(message: Buffer): Buffer {
  return Buffer.concat([RMCP, Buffer.from([FORMAT_OLD, 0, 0, 0, 0, 0, 0, 0, 0, message.length]), message])
}

export function encodePlain(type: number, payload: Buffer): Buffer {
  return Buffer.concat([RMCP, sessionHeader(type, 0, 0, payload.length), payload])
}

export type Seal = {
  readonly type: number
  /** The id that the receiver gave the session. */
  readonly sessionId: number
  readonly sequence: number
  readonly keys: SessionKeys
  /** Sixteen fresh random bytes. */
  readonly iv: Buffer
}

/** Encrypted and authenticated; padded with ff so that what the code covers is a multiple of four (Table 13-8). */
export function encodeSealed(payload: Buffer, seal: Seal): Buffer {
  const body = encrypt(seal.keys.cipherKey, seal.iv, payload)
  const header = sessionHeader(seal.type | ENCRYPTED | AUTHENTICATED, seal.sessionId, seal.sequence, body.length)
  const padBytes = (4 - ((header.length + body.length + 2) % 4)) % 4
  const covered = Buffer.concat([header, body, Buffer.alloc(padBytes, 0xff), Buffer.from([padBytes, NEXT_HEADER])])
  return Buffer.concat([RMCP, covered, checkCode(seal.keys, covered)])
}

function sessionHeader(flags: number, sessionId: number, sequence: number, payloadBytes: number): Buffer {
  const header = Buffer.alloc(12)
  header[0] = FORMAT_RMCP_PLUS
  header[1] = flags
  header.writeUInt32LE(sessionId, 2)
  header.writeUInt32LE(sequence, 6)
  header.writeUInt16LE(payloadBytes, 10)
  return header
}
