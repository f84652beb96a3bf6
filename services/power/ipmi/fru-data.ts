/**
 * FRU inventory: who made chassis, board and product, with part and serial numbers (Platform Management FRU Information Storage
 * Definition 1.0, revision 1.3). Pure; a BMC may say anything here, so nothing is trusted and nothing throws.
 */
import type {FruArea, FruInventory} from '../drivers/driver.ts'

/** Offset of the area in the common header (§8), where its fields begin, and their names in order. */
const AREAS = [
  {area: 'chassis', headerAt: 2, fieldsAt: 3, fields: ['part_number', 'serial']},
  {area: 'board', headerAt: 3, fieldsAt: 6, fields: ['manufacturer', 'product', 'serial', 'part_number', 'file_id']},
  {
    area: 'product',
    headerAt: 4,
    fieldsAt: 3,
    fields: ['manufacturer', 'product', 'part_number', 'version', 'serial', 'asset_tag', 'file_id'],
  },
] as const satisfies readonly {area: FruArea; headerAt: number; fieldsAt: number; fields: readonly string[]}[]

const END_OF_FIELDS = 0xc1
/** Minutes of a board's making count from here (§11). */
const EPOCH_1996_MS = Date.UTC(1996, 0, 1)
const FIELDS_AT_MOST = 64

/** Undefined when there is no header, or its checksum is wrong: nothing was ever written there. */
export function readFru(data: Buffer): Omit<FruInventory, 'id' | 'name'> | undefined {
  if (data.length < 8 || (data.readUInt8(0) & 0x0f) !== 1 || !sumsToZero(data.subarray(0, 8))) return undefined
  const found: Partial<Record<FruArea, Record<string, string>>> = {}
  const broken: FruArea[] = []
  for (const {area, headerAt, fieldsAt, fields} of AREAS) {
    const start = data.readUInt8(headerAt) * 8
    if (start === 0) continue
    const length = (data[start + 1] ?? 0) * 8
    const bytes = data.subarray(start, start + length)
    if (length === 0 || bytes.length < length || !sumsToZero(bytes)) {
      broken.push(area)
      continue
    }
    found[area] = {...(area === 'board' ? madeAt(bytes) : {}), ...readFields(bytes.subarray(0, -1), fieldsAt, fields)}
  }
  return {areas: found, broken}
}

function madeAt(board: Buffer): {made_at?: string} {
  const minutes = board.readUIntLE(3, 3)
  return minutes === 0 ? {} : {made_at: new Date(EPOCH_1996_MS + minutes * 60_000).toISOString()}
}

function readFields(bytes: Buffer, start: number, names: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {}
  let at = start
  for (let index = 0; index < FIELDS_AT_MOST; index++) {
    const head = bytes[at]
    if (head === undefined || head === END_OF_FIELDS) break
    const text = readTypedText(bytes, at)
    if (text !== '') fields[names[index] ?? `custom_${index - names.length + 1}`] = text
    at += 1 + (head & 0x3f)
  }
  return fields
}

const BCD_PLUS = '0123456789 -.:,_'

/** A type/length byte and what follows it (§13): binary, BCD plus, 6-bit ASCII, or 8-bit text. Cut short where the bytes end. */
export function readTypedText(bytes: Buffer, at: number): string {
  const head = bytes[at]
  if (head === undefined) return ''
  const body = bytes.subarray(at + 1, at + 1 + (head & 0x3f))
  switch (head >> 6) {
    case 0:
      return body.toString('hex')
    case 1:
      return [...body]
        .map(byte => `${BCD_PLUS[byte >> 4]}${BCD_PLUS[byte & 15]}`)
        .join('')
        .trim()
    case 2:
      return readSixBit(body).trim()
    default:
      return tidy(body.toString('latin1'))
  }
}

/** Four characters in three bytes, least significant bits first, counted from the blank. */
function readSixBit(body: Buffer): string {
  const count = Math.floor((body.length * 8) / 6)
  return Array.from({length: count}, (_, index) => {
    const bit = index * 6
    const pair = (body[bit >> 3] ?? 0) | ((body[(bit >> 3) + 1] ?? 0) << 8)
    return String.fromCharCode(0x20 + ((pair >> (bit & 7)) & 0x3f))
  }).join('')
}

/** Text of a BMC ends in NULs or blanks as often as not; no database stores a NUL. */
function tidy(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim()
}

function sumsToZero(bytes: Buffer): boolean {
  let sum = 0
  for (const byte of bytes) sum += byte
  return (sum & 0xff) === 0
}
