/** An IPMI command or answer as it travels over LAN: addresses, two checksums, sequence number (IPMI 2.0 §13.8). Pure; never throws. */

export type LanMessage = {
  /** Address of the receiver: 0x20 is the BMC, 0x81 remote console software (§5.4, Table 5-4). */
  readonly to: number
  readonly from: number
  /** Even for a command, odd for its answer (Table 5-1). */
  readonly netFn: number
  /** Six bits. */
  readonly sequence: number
  readonly command: number
  /** Of an answer: completion code first. */
  readonly data: Buffer
}

export const BMC_ADDRESS = 0x20
export const CONSOLE_ADDRESS = 0x81

export function encodeMessage(message: LanMessage): Buffer {
  const bytes = Buffer.alloc(7 + message.data.length)
  bytes[0] = message.to
  bytes[1] = message.netFn << 2
  bytes[2] = checksum(bytes.subarray(0, 2))
  bytes[3] = message.from
  bytes[4] = message.sequence << 2
  bytes[5] = message.command
  message.data.copy(bytes, 6)
  bytes[bytes.length - 1] = checksum(bytes.subarray(3, -1))
  return bytes
}

/** Undefined when it is too short or a checksum is wrong. */
export function decodeMessage(bytes: Buffer): LanMessage | undefined {
  if (bytes.length < 7) return undefined
  if (checksum(bytes.subarray(0, 2)) !== bytes[2] || checksum(bytes.subarray(3, -1)) !== bytes.at(-1)) return undefined
  return {
    to: bytes.readUInt8(0),
    netFn: bytes.readUInt8(1) >> 2,
    from: bytes.readUInt8(3),
    sequence: bytes.readUInt8(4) >> 2,
    command: bytes.readUInt8(5),
    data: bytes.subarray(6, -1),
  }
}

/** Two's complement of the sum (§13.8). */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (const byte of bytes) sum += byte
  return -sum & 0xff
}
