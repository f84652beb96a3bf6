/**
 * Makes what strangers sent fit for a jsonb column. PostgreSQL refuses U+0000 and halves of surrogate pairs, which JSON allows; a
 * machine whose DMI strings carry one would be answered 500 for ever. Pure.
 */

export function storable<T>(value: T): T {
  return clean(value) as T
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return textOf(value)
  if (Array.isArray(value)) return value.map(clean)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [textOf(key), clean(entry)]))
}

function textOf(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}
