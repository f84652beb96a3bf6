/** Holds what a client sent against its schema. Every complaint names its field; nothing that no database can store gets through. */
import type {z} from 'zod'
import {type FieldError, IngotError} from '../../lib/errors.ts'

const ERRORS_AT_MOST = 20
const TEXT_AT_MOST = 300

/** @throws IngotError INVALID_INPUT */
export function checkInput(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined
  const unusable = unusableTexts(value, [])
  if (unusable.length > 0) throw invalidInput(unusable)
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw invalidInput(result.error.issues.flatMap(fieldErrors))
}

/** An unknown field is reported by its own name, not by that of the object around it. */
function fieldErrors(issue: z.core.$ZodIssue): FieldError[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.slice(0, ERRORS_AT_MOST + 1).map(key => ({
      field: fieldName([...issue.path, key]),
      code: issue.code,
      message: 'is not a field of this request',
    }))
  }
  return [{field: fieldName(issue.path), code: issue.code, message: shorten(issue.message)}]
}

function invalidInput(errors: readonly FieldError[]): IngotError {
  const shown = errors.slice(0, ERRORS_AT_MOST)
  const more = errors.length > shown.length ? `; and ${errors.length - shown.length} more` : ''
  const detail = shown.map(error => `${error.field}: ${error.message}`).join('; ')
  return new IngotError('INVALID_INPUT', `${detail}${more}`, {errors: shown})
}

/**
 * Texts that PostgreSQL refuses (NUL in any text, half a surrogate pair in jsonb), and the key that would become a prototype.
 * The nesting was limited before, so recursion is.
 */
function unusableTexts(value: unknown, path: readonly string[]): FieldError[] {
  if (typeof value === 'string') return isUsable(value) ? [] : [unusable(path)]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, held]) =>
    isUsable(key) && key !== '__proto__' ? unusableTexts(held, [...path, key]) : [unusable([...path, key])],
  )
}

function isUsable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

function unusable(path: readonly string[]): FieldError {
  return {field: fieldName(path), code: 'text', message: 'holds NUL, half a character, or a name that cannot be stored'}
}

function fieldName(path: readonly PropertyKey[]): string {
  const name = path.map(String).join('.').toWellFormed().replaceAll('\0', '\\0')
  return name === '' ? '(all)' : shorten(name)
}

function shorten(text: string): string {
  return text.length > TEXT_AT_MOST ? `${text.slice(0, TEXT_AT_MOST)}…` : text
}
