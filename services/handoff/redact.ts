/** Cuts secrets out of text that a tool printed, in the spellings that tools print them in. Pure. */

export type Redactor = {
  text(text: string): string
  /** The same over every text in a JSON-like value, keys included. */
  value(value: unknown): unknown
  /** Length of the longest text it knows: how much of a cut-off beginning may be half a secret. */
  readonly longest: number
}

export const REDACTED = '[redacted]'

/** Shorter texts are not cut out: they would take half of the output with them. */
const SHORTEST = 4
const SHORTEST_UNLABELLED = 8
const SECRET_NAME = /pass|secret|token|credential|private|api_?key|(^|_)key($|_)|(^|_)pin($|_)/i

export function createRedactor(secrets: readonly string[]): Redactor {
  const spellings = [...new Set(secrets.flatMap(spellingsOf))].sort((a, b) => b.length - a.length)
  const text = (input: string) => spellings.reduce((left, spelling) => left.replaceAll(spelling, REDACTED), input)
  const value = (input: unknown): unknown => {
    if (typeof input === 'string') return text(input)
    if (Array.isArray(input)) return input.map(value)
    if (typeof input !== 'object' || input === null) return input
    return Object.fromEntries(Object.entries(input).map(([key, held]) => [text(key), value(held)]))
  }
  return {text, value, longest: spellings[0]?.length ?? 0}
}

/**
 * The texts in a value that must be taken for secret: under a name that says so from 4 characters on, and elsewhere, if `all`,
 * from 8 on.
 */
export function secretTexts(value: unknown, all: boolean, named = false): string[] {
  if (Array.isArray(value)) return value.flatMap(item => secretTexts(item, all, named))
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).flatMap(([name, held]) => secretTexts(held, all, named || SECRET_NAME.test(name)))
  }
  if (typeof value !== 'string' && typeof value !== 'number') return []
  const text = String(value)
  return text.length >= (named ? SHORTEST : all ? SHORTEST_UNLABELLED : Number.POSITIVE_INFINITY) ? [text] : []
}

function spellingsOf(secret: string): string[] {
  // A secret of several lines (a key file) may be printed line by line.
  const pieces = [secret, ...secret.split(/[\r\n]+/).filter(line => line.trim().length >= SHORTEST_UNLABELLED)]
  return pieces
    .filter(piece => piece.length >= SHORTEST)
    .flatMap(piece => {
      const json = JSON.stringify(piece).slice(1, -1)
      return [piece, json, asciiJson(json), encodeURIComponent(piece.toWellFormed()), Buffer.from(piece).toString('base64')]
    })
}

/** Python's json.dumps escapes everything beyond ASCII. */
function asciiJson(json: string): string {
  return json.replace(/[\u0080-\uffff]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
