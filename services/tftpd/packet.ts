/**
 * TFTP packets as values: RFC 1350 §5 with the option extension of RFC 2347. Pure.
 *
 * Decoding is lenient where firmware is known to be sloppy (padding after a request, a missing last NUL, long ACKs) and never throws.
 */

/** One option as it stood on the wire; names keep the client's spelling, because the OACK echoes them. */
export type TftpOption = readonly [name: string, value: string]

export type TftpRequest = {
  readonly kind: 'rrq' | 'wrq'
  readonly name: string
  /** In lower case. */
  readonly mode: string
  readonly options: readonly TftpOption[]
}

export type TftpPacket =
  | TftpRequest
  | {readonly kind: 'data'; readonly block: number; readonly bytes: Uint8Array}
  | {readonly kind: 'ack'; readonly block: number}
  | {readonly kind: 'error'; readonly code: number; readonly message: string}
  | {readonly kind: 'oack'; readonly options: readonly TftpOption[]}

/** Why bytes are not a packet; each is a counter. */
export type UndecodableReason = 'too_short' | 'unknown_opcode' | 'request_too_long' | 'malformed_request'

/** Error codes of RFC 1350 §5 and RFC 2347. */
export const TFTP_ERROR = {
  undefined: 0,
  fileNotFound: 1,
  accessViolation: 2,
  illegalOperation: 4,
  unknownTransferId: 5,
  optionsDeclined: 8,
} as const

const OPCODE = {rrq: 1, wrq: 2, data: 3, ack: 4, error: 5, oack: 6} as const

/** RFC 2347 allows 512 octets; firmware that pads gets up to one Ethernet frame. */
const REQUEST_MAX_BYTES = 1472
const OPTIONS_MAX = 16

/** @returns the packet, or the reason why there is none; never throws */
export function decodePacket(bytes: Uint8Array): TftpPacket | {readonly ignored: UndecodableReason} {
  if (bytes.length < 4) return {ignored: 'too_short'}
  switch (readUint16(bytes, 0)) {
    case OPCODE.rrq:
      return decodeRequest('rrq', bytes)
    case OPCODE.wrq:
      return decodeRequest('wrq', bytes)
    case OPCODE.data:
      return {kind: 'data', block: readUint16(bytes, 2), bytes: bytes.subarray(4)}
    case OPCODE.ack:
      return {kind: 'ack', block: readUint16(bytes, 2)}
    case OPCODE.error:
      return {kind: 'error', code: readUint16(bytes, 2), message: splitStrings(bytes, 4)[0] ?? ''}
    case OPCODE.oack:
      return {kind: 'oack', options: pairOptions(splitStrings(bytes, 2))}
    default:
      return {ignored: 'unknown_opcode'}
  }
}

export function encodeRequest(kind: 'rrq' | 'wrq', name: string, mode: string, options: readonly TftpOption[] = []): Buffer {
  return encodeStrings(OPCODE[kind], [name, mode, ...options.flat()])
}

export function encodeOack(options: readonly TftpOption[]): Buffer {
  return encodeStrings(OPCODE.oack, options.flat())
}

/** The four octets before a block's bytes; the caller sends both without copying. */
export function encodeDataHeader(block: number): Buffer {
  return encodeNumbers(OPCODE.data, block)
}

export function encodeAck(block: number): Buffer {
  return encodeNumbers(OPCODE.ack, block)
}

/** @param message printable ASCII */
export function encodeError(code: number, message: string): Buffer {
  return Buffer.concat([encodeNumbers(OPCODE.error, code), Buffer.from(`${message}\0`, 'latin1')])
}

function decodeRequest(kind: 'rrq' | 'wrq', bytes: Uint8Array): TftpRequest | {readonly ignored: UndecodableReason} {
  if (bytes.length > REQUEST_MAX_BYTES) return {ignored: 'request_too_long'}
  const [name, mode, ...rest] = splitStrings(bytes, 2)
  if (!name || !mode) return {ignored: 'malformed_request'}
  return {kind, name, mode: mode.toLowerCase(), options: pairOptions(rest)}
}

/** An empty name is padding: nothing after it counts. */
function pairOptions(strings: readonly string[]): readonly TftpOption[] {
  const options: TftpOption[] = []
  for (let index = 0; index + 1 < strings.length && options.length < OPTIONS_MAX; index += 2) {
    const name = strings[index]
    if (!name) break
    options.push([name, strings[index + 1] ?? ''])
  }
  return options
}

function splitStrings(bytes: Uint8Array, offset: number): string[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1', offset)
  const strings = text.split('\0')
  if (strings.at(-1) === '') strings.pop()
  return strings
}

function encodeStrings(opcode: number, strings: readonly string[]): Buffer {
  const header = Buffer.from([0, opcode])
  return Buffer.concat([header, Buffer.from(strings.map(text => `${text}\0`).join(''), 'latin1')])
}

function encodeNumbers(opcode: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes[0] = 0
  bytes[1] = opcode
  bytes[2] = (value >>> 8) & 0xff
  bytes[3] = value & 0xff
  return bytes
}

function readUint16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0)
}
