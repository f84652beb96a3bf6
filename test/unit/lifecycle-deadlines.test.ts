import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {deadlineFor, etaOf, LEARNED_PHASES, LEARNING, lastsAtMost_s, phaseSeconds} from '../../services/lifecycle/deadlines.ts'
import {PHASES, type Phase, PLANS} from '../../services/lifecycle/phases.ts'

const NOW = new Date('2026-03-01T12:00:00Z')
const inSeconds = (seconds: number) => new Date(NOW.getTime() + seconds * 1000)
const paces = fc.record({
  samples: fc.nat({max: 300}),
  p50_s: fc.double({min: 0, max: 1e5, noNaN: true}),
  p99_s: fc.double({min: 0, max: 1e6, noNaN: true}),
})
const phases = fc.constantFrom(...(Object.keys(PHASES) as Phase[]))

describe('deadlines', () => {
  it('are learned within a floor and a ceiling, and only from enough machines', () => {
    fc.assert(
      fc.property(phases, paces, (phase, pace) => {
        const general = PHASES[phase].deadline_s
        const lasts = lastsAtMost_s(phase, pace)
        if (pace.samples < LEARNING.samples || !LEARNED_PHASES.includes(phase)) {
          expect(lasts).toBe(general)
          return
        }
        expect(lasts).toBeGreaterThanOrEqual(Math.max(LEARNING.floor_s, general * LEARNING.floorOfGeneral))
        expect(lasts).toBeLessThanOrEqual(Math.ceil(general * LEARNING.ceilingOfGeneral))
        // Whoever took as long as nearly all others is never failed, unless that is beyond all bounds.
        if (pace.p99_s <= general) expect(lasts).toBeGreaterThanOrEqual(Math.min(pace.p99_s, general * LEARNING.ceilingOfGeneral))
      }),
    )
  })

  it('of a model whose memory check takes long are longer than the general one', () => {
    expect(lastsAtMost_s('dhcp_seen', {samples: 40, p50_s: 600, p99_s: 700})).toBe(2100)
    expect(lastsAtMost_s('dhcp_seen', {samples: 40, p50_s: 20, p99_s: 50})).toBe(150)
    expect(lastsAtMost_s('dhcp_seen', {samples: 19, p50_s: 20, p99_s: 50})).toBe(900)
  })

  it('never learn how long people and Ingot’s own steps take', () => {
    for (const phase of LEARNED_PHASES) expect(PHASES[phase].step, phase).toBeUndefined()
    expect(LEARNED_PHASES).not.toContain('attended')
    expect(deadlineFor('power_cycled', {power: 'manual'}, NOW)).toEqual(inSeconds(24 * 3600))
  })

  it('leave a burn-in the time that it was asked to take', () => {
    const test = {seconds: 7200, memory_percent: 80, min_memory_mb_s: 0, min_cpu_mb_s: 0, min_disk_mb_s: 0}
    const pace = {samples: 100, p50_s: 3, p99_s: 4}
    expect(deadlineFor('tested', {power: 'ipmi', test}, NOW, pace).getTime()).toBeGreaterThan(inSeconds(3 * 7200).getTime())
  })
})

describe('what is expected', () => {
  const plan = PLANS.clean
  const known = new Map(plan.map(phase => [phase as string, {samples: 10, p50_s: 10, p99_s: 20}]))

  it('is the sum of what is still to come, less what the current phase has had', () => {
    const proven = plan.slice(0, -2)
    expect(etaOf({plan, proven, since: inSeconds(-4), now: NOW}, known)).toEqual(inSeconds(6 + 10))
    expect(etaOf({plan, proven, since: inSeconds(-400), now: NOW}, known)).toEqual(inSeconds(10))
    expect(etaOf({plan, proven: plan, since: NOW, now: NOW}, known)).toEqual(NOW)
  })

  it('is not said where a phase to come is unknown', () => {
    const fewer = new Map([...known].filter(([phase]) => phase !== 'wiped'))
    expect(etaOf({plan, proven: ['planned'], since: NOW, now: NOW}, fewer)).toBeUndefined()
  })

  it('is learned as the time since the phase before, never below nothing', () => {
    const proven = [
      {phase: 'planned', at: NOW},
      {phase: 'power_cycled', at: inSeconds(9)},
      {phase: 'dhcp_seen', at: inSeconds(7)},
      {phase: 'loader_fetched', at: inSeconds(20)},
    ]
    expect(phaseSeconds(plan, proven, ['dhcp_seen', 'loader_fetched', 'planned'])).toEqual([
      {phase: 'dhcp_seen', seconds: 0},
      {phase: 'loader_fetched', seconds: 13},
    ])
  })
})
