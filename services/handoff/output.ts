/** Keeps the last of what a tool says, within bounds, and makes it fit to be shown. */
import type {Redactor} from './redact.ts'

export const OUTPUT_LIMIT_BYTES = 64 * 1024

export type OutputTail = {
  add(chunk: Uint8Array | string): void
  text(redactor: Redactor): string
}

export function createOutputTail(limitBytes = OUTPUT_LIMIT_BYTES): OutputTail {
  let held: Buffer[] = []
  let heldBytes = 0
  let cut = false
  // Twice the limit: redaction and a dropped beginning shorten it before it is cut to the limit itself.
  const capacity = 2 * limitBytes
  return {
    add(chunk) {
      const bytes = Buffer.from(chunk)
      held.push(bytes)
      heldBytes += bytes.length
      if (heldBytes <= 2 * capacity) return
      const last = Buffer.concat(held).subarray(-capacity)
      held = [last]
      heldBytes = last.length
      cut = true
    },
    text(redactor) {
      const redacted = redactor.text(Buffer.concat(held).toString('utf8'))
      // The beginning of a cut text may be the end of a secret, which no search finds.
      return lastBytes(showable(cut ? redacted.slice(redactor.longest) : redacted), limitBytes)
    },
  }
}

/** Lines of printable text: carriage returns become line ends; other control and direction-changing characters are spelt out. */
export function showable(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, character =>
      character === '\n' || character === '\t' ? character : `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
    )
}

/** One line of it, for a sentence. */
export function oneLine(text: string, limit = 600): string {
  const line = showable(text).replace(/\s+/g, ' ').trim()
  return line.length > limit ? `${line.slice(0, limit)}…` : line
}

function lastBytes(text: string, limit: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return text
  // Continuation bytes (RFC 3629 §3) at the cut belong to a character whose beginning is gone.
  let from = bytes.length - limit
  while (((bytes[from] ?? 0) & 0xc0) === 0x80) from += 1
  return bytes.subarray(from).toString('utf8')
}
