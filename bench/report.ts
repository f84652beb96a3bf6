/** What a benchmark answers, and how that is shown to a person and to a program. Pure. */

export type Goal = {
  readonly id: string
  /** What is measured, its unit and the limit, in a few words. */
  readonly what: string
  readonly ours: number
  /** The peer's figure of the same run; null for a goal that has no peer. */
  readonly peer: number | null
  readonly ratio: number | null
  readonly met: boolean
}

export type Row = Readonly<Record<string, string | number | null>>

export type Table = {readonly title: string; readonly rows: readonly Row[]}

export type Report = {
  readonly bench: string
  readonly goals: readonly Goal[]
  /** Everything measured, for programs. */
  readonly rows: readonly Row[]
  /** The same for people. */
  readonly tables: readonly Table[]
}

export type Benchmark = {
  readonly name: string
  readonly about: string
  readonly usage: string
  /** @param args what stood after the name, without `--json`; @throws when one of them is not understood */
  run(args: readonly string[]): Promise<Report>
}

export function reportText({goals, tables}: Report): string {
  const shown = goals.map(({id, what, ours, peer, ratio, met}) => ({goal: id, what, ours, peer, ratio, met: met ? 'yes' : 'NO'}))
  return [...tables, {title: 'Goals', rows: shown}].map(({title, rows}) => `${title}\n${tableText(rows)}`).join('\n')
}

/** One line. */
export function reportJson({bench, goals, rows}: Report): string {
  return JSON.stringify({bench, goals: goals.map(({id, ours, peer, ratio, met}) => ({id, ours, peer, ratio, met})), rows})
}

/** Columns are the keys of the rows, in the order in which they first come. Numbers stand to the right. */
export function tableText(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap(row => Object.keys(row)))]
  const cells = rows.map(row => columns.map(column => cellText(row[column])))
  const widths = columns.map((column, index) => Math.max(column.length, ...cells.map(cell => cell[index]?.length ?? 0)))
  const isNumber = columns.map(column => rows.some(row => typeof row[column] === 'number'))
  const line = (texts: readonly string[]) =>
    texts.map((text, index) => (isNumber[index] ? text.padStart(widths[index] ?? 0) : text.padEnd(widths[index] ?? 0))).join('  ')
  return [columns, widths.map(width => '-'.repeat(width)), ...cells].map(texts => `  ${line(texts).trimEnd()}\n`).join('')
}

function cellText(value: string | number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  if (typeof value === 'string') return value
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1)
}
