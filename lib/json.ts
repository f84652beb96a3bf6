/** JSON from strangers: size and depth are checked on the bytes, before a parser builds anything from them. */
import {IngotError} from './errors.ts'

export const MAX_JSON_DEPTH = 32

/**
 * @param maxBytes longer bodies are refused with BODY_TOO_LARGE
 * @throws IngotError BODY_TOO_LARGE, BODY_TOO_DEEP, INVALID_INPUT
 */
export function parseJson(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) throw new IngotError('BODY_TOO_LARGE', `${bytes.length} bytes, at most ${maxBytes} are taken`)
  if (jsonDepth(bytes) > MAX_JSON_DEPTH) throw new IngotError('BODY_TOO_DEEP', `nested deeper than ${MAX_JSON_DEPTH}`)
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
  } catch (error) {
    throw new IngotError('INVALID_INPUT', `the body is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** The deepest nesting of `[` and `{` outside strings; stops counting once it is too deep. */
export function jsonDepth(bytes: Uint8Array): number {
  let depth = 0
  let deepest = 0
  let inString = false
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (inString) {
      if (byte === 0x5c) at++
      else if (byte === 0x22) inString = false
    } else if (byte === 0x22) inString = true
    else if (byte === 0x7b || byte === 0x5b) {
      depth++
      if (depth > deepest) deepest = depth
      if (deepest > MAX_JSON_DEPTH) return deepest
    } else if (byte === 0x7d || byte === 0x5d) depth--
  }
  return deepest
}

/** JSON with keys in order: the same value has the same text, whatever storage did to the order of its keys. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null || value instanceof Date) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined)
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, entry]) => `${JSON.stringify(key)}:${canonicalJson(entry)}`)
    .join(',')}}`
}
