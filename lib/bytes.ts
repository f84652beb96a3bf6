/** Small pure conversions between bytes and the text forms they have on the wire. */

/** `[0x52, 0x54]` → `"52:54"`. */
export function hexColon(bytes: Uint8Array): string {
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join(':')
}

/** `"ab01"`, `"ab:01"` or `"ab-01"` → bytes; undefined when it is not hexadecimal. */
export function parseHex(text: string): Uint8Array | undefined {
  const digits = text.replace(/[:-]/g, '')
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) return undefined
  return Uint8Array.from(Buffer.from(digits, 'hex'))
}

/**
 * A 16-byte GUID as the two texts it may mean: RFC 4122 order, and SMBIOS order with the first three fields little-endian
 * (SMBIOS 3.x §7.2.1). Firmware disagrees about which one option 97 carries, so both are compared.
 */
export function uuidTexts(guid: Uint8Array): {readonly big: string; readonly little: string} | undefined {
  if (guid.length !== 16) return undefined
  const swapped = Uint8Array.from([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15], from => guid[from] ?? 0)
  return {big: uuidText(guid), little: uuidText(swapped)}
}

function uuidText(guid: Uint8Array): string {
  const hex = Buffer.from(guid).toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** Makes text from the wire fit for a log line or a database: printable ASCII only, the rest as `\xNN`, cut at `limit`. */
export function printable(bytes: Uint8Array | string, limit = 255): string {
  const buffer = typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : Buffer.from(bytes)
  let text = ''
  for (const byte of buffer.subarray(0, limit)) {
    text += byte >= 0x20 && byte < 0x7f && byte !== 0x5c ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  }
  return buffer.length > limit ? `${text}…` : text
}
