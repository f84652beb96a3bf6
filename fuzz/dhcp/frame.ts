/**
 * A datagram taken apart far enough to be broken on purpose: its fixed part, its options as they stand, and what follows them. And a
 * reader of options of its own, slow and plain, that the real one is compared with. Pure.
 */

export type Frame = {
  /** The first 240 octets, or fewer. Changed in place. */
  head: Buffer
  /** Each with its code and length; changed in place. */
  options: Buffer[]
  /** From the end mark on. */
  tail: Buffer
}

export const HEAD_OCTETS = 240
export const LARGEST_DATAGRAM = 65_507
const COOKIE = '63825363'

/** Copies, so that a seed is never changed. */
export function takeApart(datagram: Uint8Array): Frame {
  const bytes = Buffer.from(datagram)
  const options: Buffer[] = []
  let at = HEAD_OCTETS
  while (at + 1 < bytes.length && bytes[at] !== 0 && bytes[at] !== 255) {
    const end = at + 2 + (bytes[at + 1] ?? 0)
    if (end > bytes.length) break
    options.push(bytes.subarray(at, end))
    at = end
  }
  return {head: bytes.subarray(0, HEAD_OCTETS), options, tail: bytes.subarray(at)}
}

export function putTogether({head, options, tail}: Frame): Buffer {
  return Buffer.concat([head, ...options, tail]).subarray(0, LARGEST_DATAGRAM)
}

export function option(code: number, value: Uint8Array | readonly number[]): Buffer {
  const body = Buffer.from(value).subarray(0, 255)
  return Buffer.concat([Buffer.of(code, body.length), body])
}

export type Field = {readonly codes: readonly number[]; readonly values: readonly Buffer[]; readonly endsAt: number | null}

/**
 * Walks one field as RFC 2132 §3 has it: pads skipped, an end mark ends it, an option that leaves it ends it too.
 * @returns `endsAt`, where its end mark stands, or null when it has none or an option leaves it
 */
export function walkField(field: Buffer): Field {
  const codes: number[] = []
  const values: Buffer[] = []
  for (let at = 0; at < field.length; ) {
    const code = field.readUInt8(at)
    if (code === 255) return {codes, values, endsAt: at}
    if (code === 0) {
      at += 1
    } else {
      if (at + 2 > field.length) break
      const length = field.readUInt8(at + 1)
      if (at + 2 + length > field.length) break
      codes.push(code)
      values.push(field.subarray(at + 2, at + 2 + length))
      at += 2 + length
    }
  }
  return {codes, values, endsAt: null}
}

/** What `decodePacket` should find: RFC 2131 §4.1 for the order of the fields, RFC 3396 §7 for options that come in pieces. */
export function readOptionsPlainly(datagram: Buffer): Map<number, Buffer> {
  const pieces = new Map<number, Buffer[]>()
  const take = ({codes, values}: Field) => {
    for (const [index, value] of values.entries()) {
      const code = codes[index] ?? 0
      const before = pieces.get(code)
      if (before === undefined) pieces.set(code, [value])
      else before.push(value)
    }
  }
  if (datagram.toString('hex', 236, HEAD_OCTETS) === COOKIE) {
    take(walkField(datagram.subarray(HEAD_OCTETS)))
    const overload = Buffer.concat(pieces.get(52) ?? [])
    pieces.delete(52)
    const lent = overload.length === 1 ? overload.readUInt8(0) : 0
    if (lent === 1 || lent === 3) take(walkField(datagram.subarray(108, 236)))
    if (lent === 2 || lent === 3) take(walkField(datagram.subarray(44, 108)))
    pieces.delete(52)
  }
  return new Map([...pieces].map(([code, parts]) => [code, parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)]))
}
