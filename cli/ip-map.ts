/** A prefix drawn as text: a grid of cells, each as dark as it is full. Pure. */
import type {Prefix} from './ip-shapes.ts'

export type PrefixMap = {
  readonly prefix: Prefix
  /** addresses a cell */
  readonly size: number
  readonly count: number
  readonly cells: readonly {readonly cell: number; readonly held: number; readonly cooling: number}[]
}

const COLUMNS = 32
const SHADES = ['░', '▒', '▓'] as const

export function mapLines({prefix, size, count, cells}: PrefixMap): string[] {
  const byCell = new Map(cells.map(cell => [cell.cell, cell]))
  const columns = Math.min(COLUMNS, count)
  const rows = Array.from({length: Math.ceil(count / columns)}, (_, row) => row)
  const labels = rows.map(row => addressAt(prefix.cidr, BigInt(row) * BigInt(columns) * BigInt(Math.round(size))))
  const width = Math.max(...labels.map(label => label.length))
  const drawn = rows.map((row, index) => {
    const line = Array.from({length: Math.min(columns, count - row * columns)}, (_, column) =>
      glyph(byCell.get(row * columns + column), size),
    )
    return `${(labels[index] ?? '').padStart(width)}  ${line.join('')}`
  })
  const held = cells.reduce((sum, cell) => sum + cell.held, 0)
  const cooling = cells.reduce((sum, cell) => sum + cell.cooling, 0)
  const each = size === 1 ? 'an address' : `${size} addresses`
  const words = prefix.status === 'container' ? 'in prefixes' : 'held'
  return [
    `${prefix.cidr}, ${each} a cell: ${held} ${words}, ${cooling} cooling`,
    ...drawn,
    size === 1 ? '█ held   ~ cooling   · free' : '█ full   ▓▒░ in part   ~ cooling only   · free',
  ]
}

function glyph(cell: {held: number; cooling: number} | undefined, size: number): string {
  if (!cell || (cell.held === 0 && cell.cooling === 0)) return '·'
  if (cell.held === 0) return '~'
  if (cell.held >= size) return '█'
  return SHADES[Math.min(SHADES.length - 1, Math.floor((cell.held / size) * SHADES.length))] ?? '░'
}

/** The address so far into a network. */
function addressAt(cidr: string, offset: bigint): string {
  const network = cidr.slice(0, cidr.lastIndexOf('/'))
  if (!network.includes(':')) {
    const first = network.split('.').reduce((value, part) => value * 256n + BigInt(part), 0n)
    const value = Number(first + offset)
    return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.')
  }
  return offset === 0n ? network : `+${offset}`
}
