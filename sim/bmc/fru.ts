/** FRU inventories as bytes (FRU Information Storage Definition 1.0), with each of its four ways to write a text. */

const END = 0xc1

/** @param wordwise whether it is to be read in words of two bytes */
export type SimulatedFru = {readonly name: string; readonly bytes: Buffer; readonly wordwise?: boolean}

/** @param wordwise of the power supply's: `ipmitool` 1.8 cannot read one of those */
export function exampleFrus(serial: string, wordwise = false): Map<number, SimulatedFru> {
  const built = encodeFru({
    chassis: [text('CSE-819U'), text(`C${serial}`)],
    board: [text('Example Corp'), text('X11-TEST'), text(`B${serial}`), bcdPlus('1234-5678'), binary('00ff')],
    product: [
      text('Example Corp'),
      text('Server 2U'),
      sixBit('PN-0042'),
      text('1.02'),
      text(`S${serial}`),
      text('asset-7'),
      text(''),
    ],
  })
  const supply = encodeFru({product: [text('Power Co'), text('PSU 800W'), text('P800'), text('A1'), text(`P${serial}`)]})
  return new Map([
    [0, {name: 'built-in', bytes: built}],
    [1, {name: 'PSU1', bytes: supply, wordwise}],
    [2, {name: 'PSU2', bytes: Buffer.alloc(128, 0xff)}],
  ])
}

type Fields = {readonly chassis?: readonly Buffer[]; readonly board?: readonly Buffer[]; readonly product?: readonly Buffer[]}

/** 2024-03-01 12:00 UTC in minutes since 1996. */
const MADE_AT_MIN = (Date.UTC(2024, 2, 1, 12) - Date.UTC(1996, 0, 1)) / 60_000

export function encodeFru({chassis, board, product}: Fields): Buffer {
  const areas: Buffer[] = []
  const offsets = [0, 0, 0]
  const add = (index: number, bytes: Buffer) => {
    offsets[index] = (8 + areas.reduce((sum, area) => sum + area.length, 0)) / 8
    areas.push(bytes)
  }
  const madeAt = Buffer.alloc(3)
  madeAt.writeUIntLE(MADE_AT_MIN, 0, 3)
  if (chassis) add(0, area(Buffer.from([0x17]), chassis))
  if (board) add(1, area(Buffer.concat([Buffer.from([0x19]), madeAt]), board))
  if (product) add(2, area(Buffer.from([0x19]), product))
  const header = Buffer.from([1, 0, ...offsets, 0, 0, 0])
  header[7] = checksum(header.subarray(0, 7))
  return Buffer.concat([header, ...areas])
}

/** Version, length in eights, what the area begins with, its fields, padding, checksum. */
function area(begin: Buffer, fields: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([1, 0]), begin, ...fields, Buffer.from([END])])
  const padded = Buffer.alloc(Math.ceil((body.length + 1) / 8) * 8)
  body.copy(padded)
  padded[1] = padded.length / 8
  padded[padded.length - 1] = checksum(padded.subarray(0, -1))
  return padded
}

function checksum(bytes: Buffer): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff
}

function text(value: string): Buffer {
  return Buffer.from([0xc0 | value.length, ...Buffer.from(value, 'latin1')])
}

function binary(hex: string): Buffer {
  return Buffer.from([hex.length / 2, ...Buffer.from(hex, 'hex')])
}

function bcdPlus(value: string): Buffer {
  const digits = [...value.padEnd(value.length + (value.length % 2))].map(digit => '0123456789 -.'.indexOf(digit))
  const bytes = Array.from(
    {length: digits.length / 2},
    (_, index) => ((digits[2 * index] ?? 0) << 4) | (digits[2 * index + 1] ?? 0),
  )
  return Buffer.from([0x40 | bytes.length, ...bytes])
}

function sixBit(value: string): Buffer {
  const bits = [...value.padEnd(Math.ceil(value.length / 4) * 4)].map(character => character.charCodeAt(0) - 0x20)
  const bytes: number[] = []
  for (let at = 0; at < bits.length; at += 4) {
    const packed = (bits[at] ?? 0) | ((bits[at + 1] ?? 0) << 6) | ((bits[at + 2] ?? 0) << 12) | ((bits[at + 3] ?? 0) << 18)
    bytes.push(packed & 0xff, (packed >> 8) & 0xff, packed >> 16)
  }
  return Buffer.from([0x80 | bytes.length, ...bytes])
}
