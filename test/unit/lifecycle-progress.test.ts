import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {PHASES, type Phase, PLANS} from '../../services/lifecycle/phases.ts'
import {type EffectSeen, type EvidenceSeen, type JobSeen, nextMove, STEP_TRIES} from '../../services/lifecycle/progress.ts'
import type {JobKind} from '../../services/lifecycle/transitions.ts'

const KINDS: readonly JobKind[] = Object.keys(PLANS) as JobKind[]
const PROVING = [...new Set(Object.values(PHASES).flatMap(row => row.provenBy))]
const ENDING = ['failed', 'loader_loop', 'second_claim', 'handoff_failed']
const NOW = new Date('2026-03-01T12:00:00Z')
const LATER = new Date(NOW.getTime() + 3_600_000)

function seen(id: number, kind: string, detail: Record<string, unknown> = {}): EvidenceSeen {
  return {id, at: NOW, kind, detail}
}

function jobOf(kind: JobKind, over: Partial<JobSeen> = {}): JobSeen {
  const calm = {deadline: LATER, cancelRequested: false, held: false, holdAt: null, now: NOW}
  return {plan: PLANS[kind], proven: [], evidence: [], effects: [], ...calm, ...over}
}

/** Takes proofs until there are none, as a worker does; effects are the ones given. */
function provenOf(job: JobSeen): {proven: string[]; last: ReturnType<typeof nextMove>} {
  let proven = [...job.proven]
  for (let moves = 0; moves < 100; moves++) {
    const move = nextMove({...job, proven})
    if (move.do !== 'prove') return {proven, last: move}
    expect(move.proofs.length).toBeGreaterThan(0)
    for (const proof of move.proofs) expect(proven).not.toContain(proof.phase)
    proven = [...proven, ...move.proofs.map(proof => proof.phase)]
  }
  throw new Error('it proves for ever')
}

const kinds = fc.constantFrom(...KINDS)
const evidence = (from: readonly string[]) =>
  fc.array(fc.constantFrom(...from), {maxLength: 12}).map(list => list.map((kind, index) => seen(index + 1, kind)))
const effects = fc
  .array(
    fc.record({
      phase: fc.constantFrom(...(Object.keys(PHASES) as Phase[])),
      finished: fc.boolean(),
      tries: fc.integer({min: 1, max: 4}),
      outcome: fc.constantFrom<Record<string, unknown> | null>(
        null,
        {ok: true},
        {ok: false, code: 'X', detail: 'd'},
        {waits: true},
      ),
    }),
    {maxLength: 8},
  )
  .map(rows => [...new Map(rows.map(row => [row.phase, row])).values()]) satisfies fc.Arbitrary<EffectSeen[]>

describe('progress', () => {
  it('F6 proves the same phases whatever order evidence comes in and however often', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, fc.infiniteStream(fc.nat()), (kind, rows, done, chance) => {
        const straight = provenOf(jobOf(kind, {evidence: rows, effects: done}))
        const doubled = [...rows, ...rows]
        const order = chance[Symbol.iterator]()
        const shuffled = doubled
          .map(row => ({row, at: order.next().value as number}))
          .sort((a, b) => a.at - b.at)
          .map(({row}, index) => ({...row, id: index + 1}))
        const mixed = provenOf(jobOf(kind, {evidence: shuffled, effects: done}))
        expect(mixed.proven).toEqual(straight.proven)
        expect(mixed.last.do).toBe(straight.last.do)
      }),
    )
  })

  it('takes evidence one by one to where it gets with all at once', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, (kind, rows, done) => {
        let proven: string[] = []
        for (let count = 0; count <= rows.length; count++) {
          proven = provenOf(jobOf(kind, {proven, evidence: rows.slice(0, count), effects: done})).proven
        }
        expect(proven).toEqual(provenOf(jobOf(kind, {evidence: rows, effects: done})).proven)
      }),
    )
  })

  it('enters phases in the order of the plan and never jumps over one that is not implied', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, (kind, rows, done) => {
        const {proven} = provenOf(jobOf(kind, {evidence: rows, effects: done}))
        expect(proven).toEqual(PLANS[kind].slice(0, proven.length))
        for (const phase of proven as Phase[]) {
          const row = PHASES[phase]
          const own = rows.some(one => row.provenBy.includes(one.kind))
          const effect = done.some(one => one.phase === phase && one.finished && one.outcome?.ok === true)
          expect(own || effect || row.implied, phase).toBe(true)
        }
      }),
    )
  })

  it('finishes only when every phase is proven', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, fc.boolean(), (kind, rows, done, late) => {
        const {proven, last} = provenOf(jobOf(kind, {evidence: rows, effects: done, deadline: late ? new Date(0) : LATER}))
        expect(last.do === 'finish').toBe(proven.length === PLANS[kind].length)
      }),
    )
  })

  it('ends an attempt at what ends it, whatever came before or after', () => {
    fc.assert(
      fc.property(
        kinds,
        evidence(PROVING),
        evidence(PROVING),
        fc.constantFrom(...ENDING),
        effects,
        (kind, before, after, end, done) => {
          const rows = [...before, seen(100, end), ...after.map(row => ({...row, id: row.id + 100}))]
          expect(nextMove(jobOf(kind, {evidence: rows, effects: done})).do).toBe('fail')
        },
      ),
    )
  })

  it('cancels before anything else', () => {
    fc.assert(
      fc.property(kinds, evidence([...PROVING, ...ENDING]), effects, (kind, rows, done) => {
        const move = nextMove(jobOf(kind, {evidence: rows, effects: done, cancelRequested: true}))
        expect(move).toMatchObject({do: 'fail', cancelled: true, retry: false, cause: {code: 'CANCELLED'}})
      }),
    )
  })

  it('never waits past its deadline', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, (kind, rows, done) => {
        const {last} = provenOf(jobOf(kind, {evidence: rows, effects: done, deadline: new Date(NOW.getTime() - 1)}))
        expect(['fail', 'finish']).toContain(last.do)
      }),
    )
  })

  it('holds before the step it was told to, and never acts for it', () => {
    fc.assert(
      fc.property(kinds, evidence(PROVING), effects, fc.nat(), (kind, rows, done, pick) => {
        const steps = PLANS[kind].filter(phase => PHASES[phase].step)
        const holdAt = steps[pick % steps.length]!
        const {proven, last} = provenOf(jobOf(kind, {evidence: rows, effects: done, holdAt}))
        if (last.do === 'act') expect(last.phase).not.toBe(holdAt)
        if (PLANS[kind][proven.length] === holdAt) expect(last).toEqual({do: 'hold', phase: holdAt})
      }),
    )
  })

  it('rests while it is held, whatever arrives, until the holding is over', () => {
    fc.assert(
      fc.property(kinds, evidence([...PROVING, ...ENDING]), effects, (kind, rows, done) => {
        const held = jobOf(kind, {evidence: rows, effects: done, held: true})
        expect(nextMove(held).do).toBe('wait')
        const late = {...held, deadline: new Date(NOW.getTime() - 1)}
        expect(nextMove(late)).toMatchObject({do: 'fail', cause: {code: 'HOLD_EXPIRED'}, retry: false})
      }),
    )
  })

  it('gives a failed step three tries, a final one none, and a patient one until the deadline', () => {
    const failing = (outcome: Record<string, unknown>, tries: number, late = false) =>
      nextMove(
        jobOf('provision', {
          proven: ['planned', 'network_ready'],
          effects: [{phase: 'power_cycled', finished: true, tries, outcome: {ok: false, code: 'C', detail: 'd', ...outcome}}],
          deadline: late ? new Date(NOW.getTime() - 1) : LATER,
        }),
      )
    expect(failing({}, STEP_TRIES - 1)).toMatchObject({do: 'act'})
    expect(failing({}, STEP_TRIES)).toMatchObject({do: 'fail', cause: {code: 'C'}, retry: true})
    expect(failing({retry: false}, 1)).toMatchObject({do: 'fail', cause: {code: 'C'}, retry: false})
    expect(failing({patient: true}, 50)).toMatchObject({do: 'act'})
    expect(failing({patient: true}, 50, true)).toMatchObject({do: 'fail', cause: {code: 'C', detail: 'd'}})
  })

  it('begins no second attempt for a machine whose disk is done', () => {
    const proven = PLANS.provision.slice(0, -1)
    const late = new Date(NOW.getTime() - 1)
    expect(
      nextMove(
        jobOf('provision', {
          proven,
          effects: [{phase: 'handed_off', finished: true, tries: 1, outcome: {waits: true}}],
          deadline: late,
        }),
      ),
    ).toMatchObject({
      do: 'fail',
      retry: false,
    })
    expect(nextMove(jobOf('clean', {proven: PLANS.clean.slice(0, -1), deadline: late}))).toMatchObject({do: 'fail', retry: false})
  })
})
