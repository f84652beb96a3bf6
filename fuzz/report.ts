/** What a fuzz run answers, and how that is shown. */

export type FuzzFailure = {
  /** Number of the packet, for `--only`. */
  readonly index: number
  readonly what: string
  /** The mutations that made it. */
  readonly how: readonly string[]
  readonly hex: string
  /** A smaller packet that fails alike by itself; null where it needs the packets before it, or is one of many alike. */
  readonly smaller: string | null
}

export type FuzzReport = {
  readonly fuzz: string
  readonly seed: number
  readonly from: number
  readonly packets: number
  readonly seconds: number
  readonly replies: number
  readonly slowest_ms: number
  /** In use after a garbage collection, at the end of the first stretch, of the last, and of that with the most. */
  readonly heap_mb: {readonly first: number; readonly last: number; readonly most: number}
  readonly counters: Readonly<Record<string, number>>
  readonly failed: number
  /** The first of each kind. */
  readonly failures: readonly FuzzFailure[]
}

export type FuzzTarget = {
  readonly name: string
  readonly about: string
  readonly usage: string
  /** @param args what stood after the name, without `--json`; @throws when one of them is not understood */
  run(args: readonly string[], say: (line: string) => void): Promise<FuzzReport>
}

/** `--name 7` pairs; @throws on anything else */
export function readNumbers<N extends string>(args: readonly string[], names: readonly N[]): Partial<Record<N, number>> {
  const numbers: Partial<Record<N, number>> = {}
  for (let at = 0; at < args.length; at += 2) {
    const name = names.find(known => `--${known}` === args[at])
    const value = args[at + 1] ?? ''
    if (name === undefined) throw new Error(`unknown argument '${args[at]}'`)
    if (!/^\d{1,15}$/.test(value)) throw new Error(`--${name} wants a whole number`)
    numbers[name] = Number(value)
  }
  return numbers
}

export function reportText(report: FuzzReport): string {
  const {fuzz, seed, from, packets, seconds, replies, slowest_ms, heap_mb, counters, failed, failures} = report
  const counted = Object.entries(counters).map(([name, count]) => `  ${name.padEnd(32)} ${String(count).padStart(9)}\n`)
  const shown = failures.map(
    ({index, what, how, hex, smaller}) =>
      `\nFAILED: ${what}\n  packet ${index}${how.length > 0 ? `, spoilt by: ${how.join(', ')}` : ''}\n` +
      `  again: npm run fuzz -- ${fuzz} --seed ${seed} --only ${index}\n` +
      (smaller === null ? `  packet: ${hex}\n` : `  minimised: ${smaller}\n`),
  )
  return (
    `${counted.join('')}${shown.join('')}\n` +
    `${fuzz}: ${packets} packets of seed ${seed} from ${from} in ${seconds} s, ${replies} replies, slowest packet ${slowest_ms} ms, ` +
    `heap ${heap_mb.first} → ${heap_mb.last} MB (most ${heap_mb.most}), ` +
    `${failed === 0 ? 'no failures' : `${failed} FAILURES of ${failures.length} kinds`}\n`
  )
}
