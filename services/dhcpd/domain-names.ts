/** Domain names as options carry them (RFC 1035 §3.1, RFC 3397). Pure. */
import {printable} from '../../lib/bytes.ts'

export function encodeDomains(names: readonly string[]): Uint8Array {
  return Buffer.concat(names.flatMap(name => [...name.split('.').map(encodeLabel), Uint8Array.of(0)]))
}

/** RFC 1035 §2.3.4: labels of 63 octets, names of 255 with their lengths. A leading underscore is in use for services. */
export function parseDomain(text: string): string | undefined {
  const name = text.replace(/\.$/, '')
  const fits = name.length <= 253 && name.split('.').every(label => /^[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label))
  return fits ? name : undefined
}

function encodeLabel(label: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(label.length), Buffer.from(label, 'latin1')])
}

/** RFC 3397 §2: names may end in a pointer (RFC 1035 §4.1.4) into what stands before; one that points ahead would never end. */
export function decodeDomains(bytes: Uint8Array): readonly string[] | undefined {
  const names: string[] = []
  let at = 0
  while (at < bytes.length) {
    const read = readDomain(bytes, at, at)
    if (read === undefined) return undefined
    names.push(read.labels.join('.'))
    at = read.end
  }
  return names.length > 0 ? names : undefined
}

function readDomain(bytes: Uint8Array, from: number, below: number): {labels: readonly string[]; end: number} | undefined {
  const labels: string[] = []
  let at = from
  let octets = 0
  for (;;) {
    const length = bytes[at]
    if (length === undefined) return undefined
    if (length === 0) return labels.length === 0 ? undefined : {labels, end: at + 1}
    if (length >= 0xc0) {
      const to = ((length & 0x3f) << 8) | (bytes[at + 1] ?? 0xff)
      const rest = at + 1 < bytes.length && to < below ? readDomain(bytes, to, to) : undefined
      const whole = [...labels, ...(rest?.labels ?? [])]
      return rest === undefined || whole.join('.').length > 253 ? undefined : {labels: whole, end: at + 2}
    }
    const end = at + 1 + length
    octets += length + 1
    if (length > 63 || end > bytes.length || octets > 254) return undefined
    labels.push(printable(bytes.subarray(at + 1, end)))
    at = end
  }
}
