/**
 * Cuts out of a bundle what nobody should mail around. Pure. Three nets, one behind the other: values under names that say they are
 * secret; every text that a profile or request gave as a parameter or to a handoff, wherever it comes up again; and what looks like one
 * of our own tokens or a private key.
 */
export const CUT = '[cut]'

const SECRET_NAME = /pass|secret|token|credential|private|session|sealed/i
const SHAPES: readonly RegExp[] = [
  /\b[aw]\.[\w-]{1,40}\.\w{1,20}\.[\w-]{20,}/g,
  /\bs\.\d{1,15}\.[0-9a-f]{64}\b/g,
  /\bingot_[\w-]{43}\b/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /\bBearer [\w.~+/-]{8,}=*/g,
]
/** Shorter ones are words, and would take half of the text with them. */
const SHORTEST = 6
/** What is meant to be known. */
const PUBLIC = /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/=]+( .*)?$/

/** Every text inside a value, and each of its lines. */
export function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return PUBLIC.test(value) ? [] : [value, ...value.split('\n').map(line => line.trim())]
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(textsIn)
  return []
}

export function createBundleRedaction(given: readonly string[]) {
  const spellings = [...new Set(given.filter(text => text.length >= SHORTEST))]
    .flatMap(text => [text, JSON.stringify(text).slice(1, -1)])
    .sort((a, b) => b.length - a.length)
  const text = (input: string): string =>
    SHAPES.reduce(
      (left, shape) => left.replace(shape, CUT),
      spellings.reduce((left, spelling) => left.replaceAll(spelling, CUT), input),
    )
  /** A value as JSON text, without what its names say is secret. */
  const json = (value: unknown): string => {
    const named = JSON.stringify(
      value,
      (name, held) => (SECRET_NAME.test(name) && typeof held === 'string' && held !== '' ? CUT : held),
      2,
    )
    return `${text(named)}\n`
  }
  return {text, json}
}
