/** The arithmetic of the comparison: phases as time since power-on, what each took, its share, and ours as a ratio to the peer's. Pure. */
import {BASELINE_PHASES, type BaselinePhase} from '../../lab/baseline.ts'

/** Seconds since power-on. A phase that a machine does not go through (UEFI told by its own variable to boot its disk) is missing. */
export type PhaseTimes = Readonly<Partial<Record<BaselinePhase, number>>>

export type ComparedPhase = {
  readonly phase: BaselinePhase
  /** medians of the time since power-on */
  readonly ours_at_s: number
  readonly peer_at_s: number
  /** medians of the time since the phase before */
  readonly ours_took_s: number
  readonly peer_took_s: number
  /** of the whole */
  readonly ours_share: number
  readonly peer_share: number
  readonly ratio: number
}

export function comparePhases(ours: readonly PhaseTimes[], peer: readonly PhaseTimes[]): ComparedPhase[] {
  // A phase that one of them lacks would give its time to the next one of that side only.
  const phases = BASELINE_PHASES.filter(phase => [...ours, ...peer].every(times => times[phase] !== undefined))
  const last = phases.at(-1)
  if (last === undefined) return []
  const wholes = {ours: medianAt(ours, last), peer: medianAt(peer, last)}
  return phases.map((phase, index) => {
    const before = phases[index - 1]
    const took = (rounds: readonly PhaseTimes[]) =>
      median(rounds.map(times => (times[phase] ?? 0) - (before ? (times[before] ?? 0) : 0)))
    const [ours_took_s, peer_took_s] = [took(ours), took(peer)]
    return {
      phase,
      ours_at_s: medianAt(ours, phase),
      peer_at_s: medianAt(peer, phase),
      ours_took_s,
      peer_took_s,
      ours_share: ours_took_s / wholes.ours,
      peer_share: peer_took_s / wholes.peer,
      ratio: ours_took_s / peer_took_s,
    }
  })
}

/** Of an even number, the mean of the middle two. @throws RangeError when there is none */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low, high] = [sorted[sorted.length % 2 === 1 ? middle : middle - 1], sorted[middle]]
  if (low === undefined || high === undefined) throw new RangeError('the median of nothing')
  return (low + high) / 2
}

/** Field by field. All must have the same fields. */
export function medians<K extends string>(rows: readonly Readonly<Record<K, number>>[]): Record<K, number> {
  const keys = Object.keys(rows[0] ?? {}) as K[]
  return Object.fromEntries(keys.map(key => [key, median(rows.map(row => row[key]))])) as Record<K, number>
}

function medianAt(rounds: readonly PhaseTimes[], phase: BaselinePhase): number {
  return median(rounds.map(times => times[phase] ?? Number.NaN))
}
