/**
 * What a read request's options come to: RFC 2347, 2348 (blksize), 2349 (timeout, tsize) and 7440 (windowsize). Pure.
 *
 * An option we do not know, or whose value is out of its range, is left out of the OACK, which RFC 2347 defines as "not accepted".
 */
import type {TftpOption} from './packet.ts'

export type OptionLimits = {
  /** Largest block we agree to; more than one frame means IP fragments, which boot firmware rarely reassembles. */
  readonly blockBytes: number
  readonly windowBlocks: number
}

export type Negotiated = {
  readonly blockBytes: number
  readonly windowBlocks: number
  /** Asked for by the client (RFC 2349); undefined means: measure. */
  readonly timeoutMs: number | undefined
  /** What the OACK says, in the client's order and spelling; empty means that no OACK is sent. */
  readonly accepted: readonly TftpOption[]
}

const DEFAULT_BLOCK_BYTES = 512

/** Each row: the least and greatest legal value, and what we answer to it. */
const OPTIONS = {
  blksize: {
    least: 8,
    greatest: 65464,
    answer: (asked: number, _size: number, limits: OptionLimits) => Math.min(asked, limits.blockBytes),
  },
  timeout: {least: 1, greatest: 255, answer: (asked: number) => asked},
  tsize: {least: 0, greatest: Number.MAX_SAFE_INTEGER, answer: (_asked: number, sizeBytes: number) => sizeBytes},
  windowsize: {
    least: 1,
    greatest: 65535,
    answer: (asked: number, _size: number, limits: OptionLimits) => Math.min(asked, limits.windowBlocks),
  },
} as const

type OptionName = keyof typeof OPTIONS

/** @param options as the client sent them: any case, any order; of a repeated option the first counts */
export function negotiateOptions(options: readonly TftpOption[], sizeBytes: number, limits: OptionLimits): Negotiated {
  const values = new Map<OptionName, number>()
  const accepted: TftpOption[] = []
  for (const [spelling, text] of options) {
    const name = spelling.toLowerCase()
    if (!isKnown(name) || values.has(name)) continue
    const row = OPTIONS[name]
    const asked = /^\d{1,15}$/.test(text) ? Number(text) : undefined
    if (asked === undefined || asked < row.least || asked > row.greatest) continue
    const answer = row.answer(asked, sizeBytes, limits)
    values.set(name, answer)
    accepted.push([spelling, String(answer)])
  }
  const timeoutS = values.get('timeout')
  return {
    blockBytes: values.get('blksize') ?? DEFAULT_BLOCK_BYTES,
    windowBlocks: values.get('windowsize') ?? 1,
    timeoutMs: timeoutS === undefined ? undefined : timeoutS * 1000,
    accepted,
  }
}

function isKnown(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name)
}
