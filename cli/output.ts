/** How the CLI speaks: tables and sentences for people, one JSON document with --json; problems with cause and mend on standard error. */
import {ERRORS, type ErrorCode, IngotError, messageOf, type Problem, toProblem} from '../lib/errors.ts'
import {ApiProblem} from './client.ts'

/** A document; what a terminal would act upon is written as an escape, which JSON allows. */
export function printJson(value: unknown): void {
  write(`${escapeForJson(JSON.stringify(value, null, 2))}\n`)
}

/** One document in one line, for streams. */
export function printJsonLine(value: unknown): void {
  write(`${escapeForJson(JSON.stringify(value))}\n`)
}

export function printLine(text: string): void {
  write(`${text.split('\n').map(visible).join('\n')}\n`)
}

/** Columns as wide as their widest cell. An empty list says so in `nothing`. */
export function printTable(
  rows: readonly Readonly<Record<string, unknown>>[],
  columns: readonly string[],
  nothing: string,
): void {
  if (rows.length === 0) return printLine(nothing)
  const cells = rows.map(row => columns.map(column => cellOf(row[column])))
  const widths = columns.map((column, index) => Math.max(column.length, ...cells.map(row => row[index]?.length ?? 0)))
  const line = (texts: readonly string[]) =>
    texts
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join('  ')
      .trimEnd()
  printLine(line(columns.map(column => column.toUpperCase().replaceAll('_', ' '))))
  for (const row of cells) printLine(line(row))
}

export function cellOf(value: unknown): string {
  if (value === null || value === undefined || value === '') return '-'
  return visible(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

/** `2026-11-21T01:33:30.123Z` → `2026-11-21 02:33:30`, in this host's time zone. */
export function timeOf(text: unknown): string {
  const at = new Date(String(text))
  if (typeof text !== 'string' || Number.isNaN(at.getTime())) return cellOf(text)
  const two = (value: number) => String(value).padStart(2, '0')
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-')
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':')}`
}

/** Says what went wrong and what to do, and sets the exit code. */
export function reportFailure(error: unknown, json: boolean): void {
  process.exitCode = 1
  const problem = problemOf(error)
  if (!problem) {
    process.stderr.write(`ingot: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    return
  }
  if (json) {
    process.stderr.write(`${escapeForJson(JSON.stringify(problem))}\n`)
    return
  }
  const fields = (problem.errors ?? []).filter(field => !problem.detail.includes(field.message))
  const lines = [
    `ingot: ${problem.title ?? problem.code}: ${problem.detail}`,
    ...fields.map(field => `  ${field.field}: ${field.message}`),
    `  → ${mendOf(problem)}`,
  ]
  process.stderr.write(`${lines.map(visible).join('\n')}\n`)
}

/** What a client of HTTP would do, in the words of this program. */
const MENDS: Partial<Record<ErrorCode, string>> = {
  INVALID_INPUT: 'Correct it and try again; --help says what is taken.',
  UNAUTHENTICATED: 'Set INGOT_TOKEN to a token that is valid; `ingot init --new-token` makes one on the host of Ingot.',
  FORBIDDEN: 'Use a token with that permission; `ingot tokens make` makes one for who may.',
  NOT_FOUND: 'Check the id or name; `list` shows what exists.',
  TRANSITION_REFUSED: '`ingot machines actions <machine>` says what is possible now and why the rest is not.',
}

function mendOf({code, mend}: Pick<Problem, 'code' | 'mend'>): string {
  return mend === ERRORS[code]?.mend ? (MENDS[code] ?? mend) : mend
}

function problemOf(error: unknown): (Pick<Problem, 'code' | 'detail' | 'mend'> & Partial<Problem>) | undefined {
  if (error instanceof ApiProblem) return error.problem
  if (error instanceof IngotError) return toProblem(error)
  // A file that was named and cannot be read or written.
  if (error instanceof Error && 'syscall' in error && 'path' in error)
    return {
      code: 'INVALID_INPUT',
      title: 'A file is not usable',
      detail: messageOf(error),
      mend: 'Name another file, or mend this one.',
    }
  return undefined
}

/**
 * What machines and DHCP clients say of themselves is printed, and a terminal obeys escape sequences: control characters (C0, DEL, C1) and
 * those that turn the direction of writing become visible text.
 */
export function visible(text: string): string {
  return text.replace(UNSAFE, escaped)
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
const UNSAFE = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

function escapeForJson(text: string): string {
  return text.replace(UNSAFE, character => (character === '\n' ? character : escaped(character)))
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

let listens = false

/** A reader that has seen enough (`| head`) is no failure: there is only nobody left to write for. */
function write(text: string): void {
  if (!listens) {
    listens = true
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0)
      throw error
    })
  }
  process.stdout.write(text)
}
