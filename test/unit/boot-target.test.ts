import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {type BootFacts, decideTarget} from '../../services/boot/target.ts'
import {ALL_STATES} from '../../services/lifecycle/states.ts'

const facts = fc.record({
  mac: fc.constant('52:54:00:00:00:01'),
  databaseAway: fc.boolean(),
  machine: fc.option(fc.record({id: fc.constant('m'), name: fc.constant('n'), state: fc.constantFrom(...ALL_STATES)})),
  job: fc.option(
    fc.record({
      id: fc.constant('j'),
      kind: fc.constantFrom('inspect', 'test', 'clean', 'provision', 'deprovision', 'service', 'rescue', 'power'),
      fence: fc.nat(),
      cancelRequested: fc.boolean(),
      powered: fc.boolean(),
      served: fc.boolean(),
      claimed: fc.boolean(),
      leaving: fc.boolean(),
    }),
  ),
  window: fc.option(fc.record({id: fc.constant('w')})),
}) as fc.Arbitrary<BootFacts>

const runs = {numRuns: 2_000}

describe('the boot target', () => {
  it('I4 is never a stage that may write without an open job that powered the machine, was not served and is not cancelled', () => {
    fc.assert(
      fc.property(facts, given => {
        const {answer} = decideTarget(given)
        if (answer.kind !== 'ramdisk' || (answer.stage !== 'clean' && answer.stage !== 'install')) return
        expect(given.databaseAway).toBe(false)
        expect(given.machine).not.toBeNull()
        expect(given.job).toMatchObject({powered: true, served: false, cancelRequested: false})
        expect(answer.stage).toBe(given.job!.kind === 'provision' ? 'install' : 'clean')
        expect(['provision', 'clean', 'deprovision']).toContain(given.job!.kind)
        expect(answer.via.fence).toBe(given.job!.fence)
      }),
      runs,
    )
  })

  it('is the local disk once a stay in the ramdisk is being left, and the ramdisk as often as it asks before', () => {
    fc.assert(
      fc.property(facts, fc.constantFrom('service' as const, 'rescue' as const), (given, kind) => {
        if (!given.machine || !given.job) return
        const job = {...given.job, kind, cancelRequested: false}
        const calm = {...given, databaseAway: false}
        expect(decideTarget({...calm, job: {...job, leaving: true}}).answer).toEqual({kind: 'local'})
        expect(decideTarget({...calm, job: {...job, leaving: false, served: true}}).answer).toMatchObject({stage: kind})
      }),
      runs,
    )
  })

  it('is the local disk whenever the database is away', () => {
    fc.assert(
      fc.property(facts, given => {
        expect(decideTarget({...given, databaseAway: true}).answer).toEqual({kind: 'local'})
      }),
      runs,
    )
  })

  it('is the local disk for a known machine without an open job, but for one that was never inspected in an open window', () => {
    fc.assert(
      fc.property(facts, given => {
        if (!given.machine || given.databaseAway) return
        const {answer} = decideTarget({...given, job: null})
        if (given.machine.state === 'discovered' && given.window)
          expect(answer).toMatchObject({kind: 'ramdisk', stage: 'inspect'})
        else expect(answer).toEqual({kind: 'local'})
      }),
      runs,
    )
  })

  it('is nothing for an unknown MAC, and inspection only inside a window', () => {
    fc.assert(
      fc.property(facts, given => {
        const {answer} = decideTarget({...given, machine: null, databaseAway: false})
        if (given.window) expect(answer).toEqual({kind: 'ramdisk', stage: 'inspect', via: {window: 'w'}, jobId: null})
        else expect(answer).toEqual({kind: 'none'})
      }),
      runs,
    )
  })

  it('always says why', () => {
    fc.assert(
      fc.property(facts, given => {
        const {reasons} = decideTarget(given)
        expect(reasons.length).toBeGreaterThan(0)
        for (const reason of reasons) expect(reason.because).not.toBe('')
      }),
    )
  })
})
