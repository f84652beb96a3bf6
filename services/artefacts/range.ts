/** The `Range` header of a request for one artefact (RFC 9110 §14). Pure. */

export type ByteRange = {readonly start: number; readonly end: number}

/**
 * Only a single byte range is honoured; anything else is answered with the whole content, as RFC 9110 §14.2 allows.
 * @returns the range with both ends included, `whole`, or `unsatisfiable` (416)
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | 'whole' | 'unsatisfiable' {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '')
  const [, first = '', last = ''] = match ?? []
  if (first === '' && last === '') return 'whole'
  if (first === '') {
    const suffix = Math.min(Number(last), sizeBytes)
    return suffix === 0 ? 'unsatisfiable' : {start: sizeBytes - suffix, end: sizeBytes - 1}
  }
  const start = Number(first)
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1)
  if (last !== '' && Number(last) < start) return 'whole'
  return start >= sizeBytes ? 'unsatisfiable' : {start, end}
}
