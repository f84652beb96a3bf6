import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {nextStart} from '../../services/lifecycle/groups/next-start.ts'
import {parseSelector, type Selectable, selects} from '../../services/lifecycle/groups/selector.ts'

const MACHINE: Selectable = {
  name: 'node-7',
  state: 'available',
  profile: 'web',
  model: 'Acme R1',
  maintenance: false,
  quarantined: true,
  attributes: {rack: 'r1', 'rack.row': 'b'},
  facts: {memory_bytes: 64e9, cpu: {threads: 8}, dmi: {product: 'R1'}, disks: [{name: 'sda'}]},
}

function chosen(text: string, machine = MACHINE): boolean {
  const parsed = parseSelector(text)
  if ('wrong' in parsed) throw new Error(parsed.wrong)
  return selects(parsed.terms, machine)
}

describe('a selector', () => {
  it.each([
    ['state=available', true],
    ['state=available|active profile=web', true],
    ['state=active,profile=web', false],
    ['name=node-*', true],
    ['name=*-7', true],
    ['name=n*d*7', true],
    ['name=node-7*7', false],
    ['name=node', false],
    ['attribute.rack=r1 attribute.rack.row=b', true],
    ['attribute.row=b', false],
    ['attribute.row!=b', true],
    ['attribute.toString=*', false],
    ['fact.memory_bytes>=64000000000 fact.cpu.threads>4', true],
    ['fact.cpu.threads<8', false],
    ['fact.cpu.threads<=8', true],
    ['fact.dmi.product=R1', true],
    ['fact.dmi>1', false],
    ['fact.disks=*', false],
    ['fact.none>=0', false],
    ['quarantined=true maintenance!=true', true],
    ['model=Acme*', true],
  ])('%s is %s of the machine', (text, is) => {
    expect(chosen(text)).toBe(is)
  })

  it.each([
    '',
    '  ',
    ',',
    'available',
    'state',
    'state=',
    '=x',
    'colour=red',
    'fact=1',
    'attribute.=1',
    'fact.cpu.threads>many',
    'State=x',
  ])('is refused as `%s`, with what is wrong', text => {
    expect(parseSelector(text)).toHaveProperty('wrong')
  })

  it('never selects by no term, and never takes longer than its text', () => {
    expect(selects([], MACHINE)).toBe(false)
    fc.assert(
      fc.property(fc.string({maxLength: 200}), text => {
        const parsed = parseSelector(text)
        if ('terms' in parsed) {
          expect(parsed.terms.length).toBeGreaterThan(0)
          expect(typeof selects(parsed.terms, MACHINE)).toBe('boolean')
        }
      }),
    )
    const stars = `name=${'*a'.repeat(500)}`
    expect(chosen(stars, {...MACHINE, name: 'a'.repeat(499)})).toBe(false)
  })

  it('takes a glob as what it would be between anchors', () => {
    const text = fc.string({unit: fc.constantFrom('a', 'b', '*'), minLength: 1, maxLength: 8})
    fc.assert(
      fc.property(text, fc.string({unit: fc.constantFrom('a', 'b'), maxLength: 10}), (pattern, name) => {
        const wanted = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name)
        expect(chosen(`name=${pattern}`, {...MACHINE, name})).toBe(wanted)
      }),
    )
  })
})

describe('a group', () => {
  const settings = {
    canary: fc.nat({max: 5}),
    batch: fc.integer({min: 1, max: 20}),
    stopShare: fc.constantFrom(0, 0.1, 0.2, 0.5, 1),
  }

  /** Runs it to its end: jobs end in any order, and fail as told. */
  function walk(given: {canary: number; batch: number; stopShare: number}, outcomes: readonly boolean[], cancelAt = -1) {
    const seen = {
      ...given,
      cancelRequested: false,
      stopping: false,
      started: 0,
      succeeded: 0,
      failed: 0,
      pending: outcomes.length,
    }
    let next = 0
    let most = 0
    for (let turn = 0; turn < 10_000; turn++) {
      if (turn === cancelAt) seen.cancelRequested = true
      const move = nextStart(seen)
      if (move.do === 'finish') return {seen, most, state: move.state}
      if (move.do === 'start') {
        expect(move.count).toBeLessThanOrEqual(seen.pending)
        // Nobody goes before the canaries have ended.
        if (seen.succeeded + seen.failed < given.canary) expect(seen.started + move.count).toBeLessThanOrEqual(given.canary)
        seen.pending -= move.count
        seen.started += move.count
      } else if (move.do === 'stop') {
        seen.stopping = true
        seen.pending = 0
      } else {
        expect(seen.started, 'it waits for nothing').toBeGreaterThan(0)
        seen.started--
        if (outcomes[next++]) seen.succeeded++
        else seen.failed++
      }
      most = Math.max(most, seen.started)
    }
    throw new Error('it never ended')
  }

  it('always ends, and has never more under way than a batch or its canaries', () => {
    fc.assert(
      fc.property(
        fc.record(settings),
        fc.array(fc.boolean(), {maxLength: 60}),
        fc.integer({min: -1, max: 40}),
        (given, outcomes, at) => {
          const {most, seen} = walk(given, outcomes, at)
          expect(most).toBeLessThanOrEqual(Math.max(given.batch, given.canary))
          expect(seen.started).toBe(0)
        },
      ),
    )
  })

  it('succeeds when everybody does, stops at the canary that failed, and bears the share that it was told to', () => {
    const given = {canary: 2, batch: 10, stopShare: 0.2}
    expect(walk(given, Array(40).fill(true))).toMatchObject({state: 'succeeded', seen: {succeeded: 40}})
    expect(walk(given, [false, ...Array(39).fill(true)])).toMatchObject({state: 'stopped', seen: {succeeded: 1, failed: 1}})
    expect(walk({...given, canary: 1}, [false, ...Array(39).fill(true)])).toMatchObject({state: 'stopped', seen: {failed: 1}})
    const few = [true, true, ...Array(38).fill(true)]
    few[7] = false
    few[20] = false
    expect(walk(given, few)).toMatchObject({state: 'succeeded', seen: {failed: 2}})
    const many = Array.from({length: 40}, (_, index) => index < 2 || index % 2 === 0)
    const stopped = walk(given, many)
    expect(stopped.state).toBe('stopped')
    expect(stopped.seen.succeeded + stopped.seen.failed).toBeLessThan(25)
  })

  it('starts nobody after it was cancelled', () => {
    expect(walk({canary: 0, batch: 2, stopShare: 1}, Array(30).fill(true), 5)).toMatchObject({state: 'cancelled'})
  })
})
