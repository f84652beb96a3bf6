/**
 * Selectors: which machines a group action is for. Pure.
 *
 *   state=available profile=web attribute.rack=r1|r2 fact.memory_bytes>=64000000000 name=node-*
 *
 * Terms are separated by white space or commas, and all of them must hold. A term is key, operator, value: `=` and `!=` compare text,
 * where `*` stands for anything and `|` parts alternatives; `<`, `<=`, `>`, `>=` compare numbers. A machine that has no such thing
 * fulfils only `!=`. A selector without a term is an error, and so is a key that does not exist: both would mean every machine.
 */

export type SelectorTerm = {readonly key: string; readonly op: Operator; readonly value: string}
export type Operator = '=' | '!=' | '<' | '<=' | '>' | '>='

/** What a selector looks at. */
export type Selectable = {
  readonly name: string
  readonly state: string
  readonly profile: string | null
  readonly model: string | null
  readonly maintenance: boolean
  readonly quarantined: boolean
  readonly attributes: Readonly<Record<string, string>>
  readonly facts: Readonly<Record<string, unknown>>
}

const PLAIN_KEYS = ['name', 'state', 'profile', 'model', 'maintenance', 'quarantined'] as const
const TERM = /^([a-z]+(?:\.[\w.-]+)?)(!=|<=|>=|=|<|>)(.*)$/
const TERMS_AT_MOST = 32

export function parseSelector(text: string): {readonly terms: readonly SelectorTerm[]} | {readonly wrong: string} {
  const words = text.split(/[\s,]+/).filter(Boolean)
  if (words.length === 0) return {wrong: 'the selector is empty, which would mean every machine'}
  if (words.length > TERMS_AT_MOST) return {wrong: `it has more than ${TERMS_AT_MOST} terms`}
  const terms: SelectorTerm[] = []
  for (const word of words) {
    const [, key = '', op = '', value = ''] = TERM.exec(word) ?? []
    if (key === '') return {wrong: `'${word}' is not key=value, such as state=available or fact.memory_bytes>=64000000000`}
    if (!isKey(key)) return {wrong: `there is no '${key}'; there are ${PLAIN_KEYS.join(', ')}, attribute.… and fact.…`}
    if (value === '') return {wrong: `'${word}' has no value`}
    if (op !== '=' && op !== '!=' && !Number.isFinite(Number(value))) return {wrong: `'${word}' compares with what is no number`}
    terms.push({key, op: op as Operator, value})
  }
  return {terms}
}

/** Whether any of its terms asks for what only facts tell. */
export function asksFacts(terms: readonly SelectorTerm[]): boolean {
  return terms.some(term => term.key.startsWith('fact.'))
}

export function selects(terms: readonly SelectorTerm[], machine: Selectable): boolean {
  return terms.length > 0 && terms.every(term => holds(term, readKey(machine, term.key)))
}

function isKey(key: string): boolean {
  return (PLAIN_KEYS as readonly string[]).includes(key) || /^(attribute|fact)\.[\w.-]+$/.test(key)
}

function readKey(machine: Selectable, key: string): unknown {
  if (key.startsWith('attribute.')) {
    const name = key.slice('attribute.'.length)
    return Object.hasOwn(machine.attributes, name) ? machine.attributes[name] : undefined
  }
  if (key.startsWith('fact.')) return key.slice('fact.'.length).split('.').reduce<unknown>(insideOf, machine.facts)
  return machine[key as (typeof PLAIN_KEYS)[number]]
}

function insideOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined
}

function holds({op, value}: SelectorTerm, has: unknown): boolean {
  const plain = typeof has === 'string' || typeof has === 'number' || typeof has === 'boolean'
  if (!plain) return op === '!='
  if (op === '=' || op === '!=') return value.split('|').some(choice => isLike(String(has), choice)) === (op === '=')
  const [left, right] = [Number(has), Number(value)]
  if (has === '' || Number.isNaN(left)) return false
  return op === '<' ? left < right : op === '<=' ? left <= right : op === '>' ? left > right : left >= right
}

/** Without regular expressions: what people type must not become a pattern that takes for ever. */
function isLike(text: string, pattern: string): boolean {
  const parts = pattern.split('*')
  const [first = '', ...rest] = parts
  if (rest.length === 0) return text === pattern
  const last = rest.pop() ?? ''
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false
  let at = first.length
  const end = text.length - last.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found < 0 || found + part.length > end) return false
    at = found + part.length
  }
  return true
}
