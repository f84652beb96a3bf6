/** What a loader can be set for: an architecture by its number, all of one kind, or clients that speak BOOTP. Pure. */
import {printable} from '../../lib/bytes.ts'
import type {FieldError} from '../../lib/errors.ts'
import {ARCHITECTURES, LOADERS} from './architectures.ts'
import {BOOTP_LOADER} from './boot-file.ts'
import {fitsFile} from './packet.ts'

export const LOADER_KEYS: readonly string[] = [
  ...Object.keys(LOADERS),
  BOOTP_LOADER,
  ...ARCHITECTURES.map(({code}) => String(code)),
]

type Loaders = Readonly<Record<string, string>>

/** @returns what is then stored, or every mistake by its field */
export function changeLoaders(
  before: Loaders,
  change: {readonly set?: Loaders; readonly unset?: readonly string[]},
): {readonly loaders: Loaders} | {readonly errors: readonly FieldError[]} {
  const errors: FieldError[] = []
  const loaders = new Map(Object.entries(before))
  for (const key of change.unset ?? [])
    if (!loaders.delete(key)) errors.push({field: `unset.${printable(key, 40)}`, code: 'absent', message: 'is not set here'})
  for (const [key, name] of Object.entries(change.set ?? {})) {
    const field = `set.${printable(key, 40)}`
    if (!LOADER_KEYS.includes(key))
      errors.push({
        field,
        code: 'unknown',
        message: `is none of ${Object.keys(LOADERS).join(', ')}, ${BOOTP_LOADER}, or an IANA number`,
      })
    else if (!fitsFile(name)) errors.push({field, code: 'length', message: 'is longer than the `file` field of a DHCP packet'})
    else loaders.set(key, name)
  }
  return errors.length > 0 ? {errors} : {loaders: Object.fromEntries(loaders)}
}
