/** Reasons and option values as `explain` prints them. */
import {cellOf, visible} from './output.ts'
import type {Reason} from './shapes.ts'

export function reasonText({rule, because, source}: Reason): string {
  return `${rule}: ${visible(because)}${source ? ` [${visible(source)}]` : ''}`
}

/** Lists without brackets, as people write them. */
export function optionText(value: unknown): string {
  return Array.isArray(value) ? value.map(cellOf).join(', ') : cellOf(value)
}
