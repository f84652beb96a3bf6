import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {CAUSES} from '../../services/lifecycle/causes.ts'
import {actionsOf, besideActionsOf, next, type Standing} from '../../services/lifecycle/next.ts'
import {MAX_ATTEMPTS, PHASES, type Phase, PLANS} from '../../services/lifecycle/phases.ts'
import {simplePlan} from '../../services/lifecycle/requests.ts'
import {ALL_STATES, STATES, type State, UNSTABLE_STATES} from '../../services/lifecycle/states.ts'
import {
  type JobKind,
  REQUEST_EVENTS,
  type RequestEvent,
  TRANSITIONS,
  type Transition,
} from '../../services/lifecycle/transitions.ts'

const ROWS = TRANSITIONS as readonly Transition[]
const OUTCOME: Record<JobKind, string | undefined> = {
  inspect: 'inspected',
  test: 'tested',
  clean: 'cleaned',
  provision: 'provisioned',
  deprovision: 'cleaned',
  service: 'serviced',
  rescue: 'rescued',
  power: undefined,
}

/** Where the jobs that lead into a state find their machines. */
const originsOf = (state: State) => ROWS.filter(row => row.by === 'request' && row.to === state).flatMap(row => row.from)

const standings = fc.record({
  state: fc.constantFrom(...ALL_STATES),
  failedFrom: fc.option(fc.constantFrom(...UNSTABLE_STATES)),
  maintenance: fc.boolean(),
  quarantined: fc.option(fc.constantFrom('disk_not_empty: vda holds gpt', 'facts_mismatch: serial')),
  dirty: fc.boolean(),
  openJob: fc.option(fc.constant({id: 'j1', kind: 'clean'})),
}) satisfies fc.Arbitrary<Standing>

describe('the transition table', () => {
  it('enters every unstable state by a job, whose every phase has a deadline, a cause and a mend', () => {
    for (const row of ROWS) {
      if (row.to === 'failed_from' || row.to === 'origin' || STATES[row.to].stable) continue
      expect(row.by, row.event).toBe('request')
      expect(row.job, row.event).toBeDefined()
      for (const phase of PLANS[row.job!]) {
        expect(PHASES[phase].deadline_s, phase).toBeGreaterThan(0)
        expect(CAUSES[PHASES[phase].overdue].mend, phase).not.toBe('')
      }
    }
  })

  it('leaves every unstable state both by success and by failing', () => {
    for (const state of UNSTABLE_STATES) {
      const outs = ROWS.filter(row => row.from.includes(state))
      expect(outs.map(row => row.event)).toContain('fail')
      expect(
        outs.some(row => row.event !== 'fail' && row.by === 'outcome'),
        state,
      ).toBe(true)
    }
  })

  it('lets each job end where its outcome is a row of the state that it entered', () => {
    for (const row of ROWS) {
      if (row.by !== 'request' || !row.job) continue
      const outcome = OUTCOME[row.job]
      expect(
        ROWS.some(out => out.event === outcome && out.from.includes(row.to as State)),
        `${row.job} in ${row.to}`,
      ).toBe(true)
      expect(MAX_ATTEMPTS[row.job]).toBeGreaterThan(0)
    }
  })

  it('leaves no state without a way out but retired, and reaches retired from each', () => {
    const reachable = (from: State): Set<State> => {
      const seen = new Set<State>([from])
      for (const state of seen) {
        for (const row of ROWS.filter(row => row.from.includes(state))) {
          if (row.to === 'failed_from') for (const back of UNSTABLE_STATES) seen.add(back)
          else if (row.to === 'origin') for (const back of originsOf(state)) seen.add(back)
          else seen.add(row.to)
        }
      }
      return seen
    }
    for (const state of ALL_STATES) expect(reachable(state).has('retired'), state).toBe(true)
    expect(reachable('retired')).toEqual(new Set(['retired']))
  })

  it('gives every pair of state and event at most one row', () => {
    for (const state of ALL_STATES) {
      for (const event of new Set(ROWS.map(row => row.event))) {
        expect(ROWS.filter(row => row.event === event && row.from.includes(state)).length, `${state} ${event}`).toBeLessThan(2)
      }
    }
  })

  it('enters available only by a proven wipe', () => {
    const events = ROWS.filter(row => row.to === 'available').map(row => row.event)
    expect(events).toEqual(['cleaned', 'unreserve', 'reservation_expired'])
    // What is reserved was available, so that giving it back adds nothing; and a test only goes back.
    expect(ROWS.filter(row => row.to === 'reserved').flatMap(row => row.from)).toEqual(['available'])
    for (const row of ROWS.filter(row => row.event === 'unreserve' || row.event === 'reservation_expired'))
      expect(row.from).toEqual(['reserved'])
    for (const kind of ['clean', 'deprovision'] as const) expect(PLANS[kind]).toContain('wiped')
    expect(PHASES.wiped.implied).toBe(false)
  })
})

describe('what may happen next', () => {
  it('neither reserves nor provisions a machine whose disks are not proven wiped', () => {
    fc.assert(
      fc.property(standings, fc.constantFrom('provision' as const, 'reserve' as const), (standing, event) => {
        expect(next({...standing, dirty: true}, event)).toHaveProperty('refused')
      }),
    )
  })

  it('brings a machine that was only looked at back to where its job found it, and nowhere without one', () => {
    for (const row of ROWS.filter(row => row.to === 'origin')) {
      for (const state of row.from) {
        const standing = {state, failedFrom: null, maintenance: false, quarantined: null, dirty: true, openJob: null}
        for (const origin of originsOf(state)) {
          expect(next({...standing, dirty: false, origin}, row.event as 'tested')).toMatchObject({to: origin})
          expect(next({...standing, origin}, row.event as 'tested')).not.toMatchObject({to: 'available'})
        }
        expect(next(standing, row.event as 'tested')).toHaveProperty('refused')
      }
    }
  })

  it('lets people work on a machine in maintenance, and nobody else', () => {
    fc.assert(
      fc.property(standings, fc.constantFrom(...REQUEST_EVENTS), (standing, event) => {
        const result = next({...standing, maintenance: true, openJob: null}, event)
        if ('to' in result) expect(['retire', 'service', 'rescue', 'unreserve']).toContain(event)
      }),
    )
  })

  it('says of what is beside the table too whether it is possible, and why not', () => {
    fc.assert(
      fc.property(standings, fc.constantFrom('ipmi' as const, 'manual' as const), (standing, power) => {
        for (const row of besideActionsOf(standing, power)) {
          expect(row.why).not.toBe('')
          if (row.action.startsWith('power_')) expect(row.allowed).toBe(power === 'ipmi' && !standing.openJob)
        }
      }),
    )
  })

  it('refuses every request while a job is open, and names it', () => {
    fc.assert(
      fc.property(standings, fc.constantFrom(...REQUEST_EVENTS), (standing, event) => {
        const result = next({...standing, openJob: {id: 'the-job', kind: 'inspect'}}, event)
        expect(
          'refused' in result && (result.refused.includes('the-job') || result.refused.includes(`'${standing.state}'`)),
        ).toBe(true)
      }),
    )
  })

  it('agrees with the list of actions, each with its reason', () => {
    fc.assert(
      fc.property(standings, standing => {
        const actions = actionsOf(standing)
        expect(actions.map(row => row.action)).toEqual([...REQUEST_EVENTS])
        for (const row of actions) {
          const result = next(standing, row.action as RequestEvent)
          expect(row.allowed).toBe(!('refused' in result))
          expect(row.why).not.toBe('')
          if (!('refused' in result)) expect(row.to).toBe(result.to)
        }
      }),
    )
  })

  it('does nothing that wipes or installs in quarantine, but for a clean at a person’s word', () => {
    fc.assert(
      fc.property(
        standings,
        fc.constantFrom('clean', 'provision', 'reinstall', 'reserve', 'adopt', 'test', 'deprovision', 'retry' as const),
        (standing, event) => {
          const quarantined = 'facts_mismatch: serial'
          expect(next({...standing, quarantined}, event as 'clean')).toHaveProperty('refused')
        },
      ),
    )
  })

  it('goes only to a state of the table', () => {
    fc.assert(
      fc.property(standings, fc.constantFrom(...ROWS.map(row => row.event)), (standing, event) => {
        const result = next(standing, event as 'clean')
        if ('to' in result) expect(ALL_STATES).toContain(result.to)
      }),
    )
  })
})

describe('the plans', () => {
  it('name each phase once, begin planned, and claim before anything is written', () => {
    for (const phases of Object.values(PLANS)) {
      expect(new Set(phases).size).toBe(phases.length)
      expect(phases[0]).toBe('planned')
      for (const destructive of ['wiped', 'disk_written'] as const) {
        const at = (phases as readonly Phase[]).indexOf(destructive)
        if (at >= 0) expect(phases.slice(0, at)).toContain('claimed')
      }
    }
  })

  it('free no address of a machine switched by hand before its disks are wiped: nothing proves it off', () => {
    const {phases} = simplePlan('deprovision', {power: 'manual', bootUrl: null})
    expect(phases).not.toContain('addresses_freed')
    expect(phases).toContain('wiped')
    const driven = simplePlan('deprovision', {power: 'ipmi', bootUrl: null}).phases
    expect(driven.indexOf('stopped')).toBeLessThan(driven.indexOf('addresses_freed'))
    expect(driven).toContain('stopped')
  })
})
