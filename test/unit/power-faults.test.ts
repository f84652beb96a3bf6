/** BMCs that lie, stall, are slow or lose replies, in virtual time: what each of them costs, and what it does not do to the others. */
import {afterEach, describe, expect, test} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createPower, faultKind, type PowerTarget} from '../../services/power/index.ts'
import {type BmcOptions, type SimulatedBmc, startBmc} from '../../sim/bmc/index.ts'
import {createVirtualTime, type VirtualTime} from '../../sim/virtual-time.ts'

const cleanUps: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function begin() {
  const time = createVirtualTime()
  const power = createPower({log: silentLog, clock: time.clock, timers: time.timers})
  cleanUps.push(() => power.close())
  return {time, power}
}

async function start(time: VirtualTime, options: BmcOptions = {}): Promise<{bmc: SimulatedBmc; target: PowerTarget}> {
  const bmc = await startBmc({...options, clock: time.clock, timers: time.timers})
  cleanUps.push(() => bmc.stop())
  const login = {username: 'ingot', password: new Secret('correct horse')}
  return {bmc, target: {machineId: `m${bmc.port}`, driver: 'ipmi', address: '127.0.0.1', port: bmc.port, ...login}}
}

/** A verb's end, and how long it took in virtual time. */
async function timed<T>(time: VirtualTime, work: Promise<T>): Promise<{ended: T | string | undefined; tookMs: number}> {
  const begunMs = time.passedMs
  const ended = await time.during(work.then(value => value, faultKind))
  return {ended, tookMs: time.passedMs - begunMs}
}

describe('lies', () => {
  test('F8 an order that is taken and not followed is told, not believed; a step never waits longer than it may', async () => {
    const {time, power} = begin()
    const {bmc, target} = await start(time, {chassis: {manners: 'deaf'}})
    for (let tries = 0; tries < 3; tries++) {
      const {ended, tookMs} = await timed(time, power.on(target))
      expect(ended).toBe('not_seen')
      expect(tookMs).toBeLessThan(25_000)
    }
    expect(bmc.orders).toEqual([1, 1, 1])
    // It answers, so no breaker keeps anybody from it, and once it obeys it is on.
    bmc.manners = 'obeys'
    expect((await timed(time, power.on(target))).ended).toMatchObject({state: 'on', changed: true})
  })

  test('F8 a BMC that says on while the machine is off is taken at its word here: only evidence can find that', async () => {
    const {time, power} = begin()
    const {bmc, target} = await start(time, {chassis: {manners: 'lies'}})
    expect((await timed(time, power.on(target))).ended).toMatchObject({state: 'on'})
    expect(bmc.power).toBe(0)
    // An off is read before it is believed, so the lie is not repeated: off, then on again.
    bmc.manners = 'obeys'
    expect((await timed(time, power.cycle(target))).ended).toMatchObject({state: 'on'})
    expect(bmc.power).toBe(1)
  })
})

describe('silence and slowness', () => {
  test('F9 a BMC that takes 30 s for each answer fails within its bounds, is left alone, and costs the others nothing', async () => {
    const {time, power} = begin()
    const slow = await start(time)
    const others = await Promise.all(Array.from({length: 20}, () => start(time)))
    slow.bmc.slow(30_000)
    const failing = (async () => {
      const kinds: unknown[] = []
      for (let tries = 0; tries < 4; tries++) kinds.push(await power.on(slow.target).then(() => 'done', faultKind))
      return kinds
    })()
    for (const {target} of others) {
      const {ended, tookMs} = await timed(time, power.on(target))
      expect(ended).toMatchObject({state: 'on'})
      expect(tookMs).toBeLessThan(10_000)
    }
    const begunMs = time.passedMs
    expect(await time.during(failing)).toEqual(['no_answer', 'no_answer', 'no_answer', 'no_answer'])
    // The fourth was not asked.
    expect(time.passedMs - begunMs).toBeLessThan(3 * 25_000)
    expect(slow.bmc.orders).toEqual([])
    expect(slow.bmc.power).toBe(0)
    slow.bmc.slow(0)
    await time.pass(60_000)
    expect((await timed(time, power.on(slow.target))).ended).toMatchObject({state: 'on', changed: true})
    expect(slow.bmc.orders).toEqual([1])
  })

  test('F9 a BMC that takes 3 s for each answer is waited for, and each order is carried out once', async () => {
    const {time, power} = begin()
    const {bmc, target} = await start(time)
    bmc.slow(3000)
    expect((await timed(time, power.on(target))).ended).toMatchObject({state: 'on', changed: true})
    expect(bmc.orders).toEqual([1])
  })

  test('F9 a BMC that stalls in the midst of a verb is unreachable, and is on when it comes back and is asked again', async () => {
    const {time, power} = begin()
    const {bmc, target} = await start(time)
    bmc.answer = ({netFn, command}) => {
      if (netFn === 0 && command === 2) bmc.stalled = true
      return undefined
    }
    expect((await timed(time, power.on(target))).ended).toBe('no_answer')
    bmc.stalled = false
    bmc.answer = undefined
    expect((await timed(time, power.on(target))).ended).toMatchObject({state: 'on'})
    // It had been carried out the first time, only nobody heard of it.
    expect(bmc.orders).toEqual([1])
  })

  test('F9 a BMC that restarts loses its sessions, and is asked again under a new one', async () => {
    const {time, power} = begin()
    const {bmc, target} = await start(time)
    bmc.answer = ({netFn, command}) => {
      if (netFn !== 0 || command !== 2) return undefined
      bmc.answer = undefined
      bmc.reset()
      return 'silence'
    }
    expect((await timed(time, power.on(target))).ended).toBe('no_answer')
    expect((await timed(time, power.on(target))).ended).toMatchObject({state: 'on'})
  })
})

describe('a bad network', () => {
  test.each([1, 2, 3])(
    'F9 F12 losses, delays, repeats and corruption from seed %i end nowhere but where the verbs say',
    async seed => {
      const {time, power} = begin()
      const line = {loss: 0.05, corruption: 0.05, repeat: 0.1, delayMs: 400}
      const rack = await Promise.all(
        Array.from({length: 60}, (_, number) =>
          start(time, {...line, seed: seed * 1000 + number, suites: number % 2 ? [3] : [17]}),
        ),
      )
      const ended = await time.during(
        Promise.all(rack.map(({target}) => power.cycle(target).then(outcome => outcome.done, faultKind))),
      )
      for (const [index, end] of ended.entries()) if (end === 'seen') expect(rack[index]?.bmc.power).toBe(1)
      // A corrupted handshake may look like a wrong password; what is not done is said, and is done the next time or the one after.
      expect(ended.filter(end => end === 'seen').length).toBeGreaterThan(50)
      expect(ended.every(end => typeof end === 'string')).toBe(true)
      for (let round = 0; round < 3; round++) {
        await time.pass(400_000)
        await time.during(Promise.all(rack.map(({target}) => power.on(target).catch(faultKind))))
      }
      expect(rack.filter(({bmc}) => bmc.power === 1).length).toBe(60)
      for (const {bmc} of rack) expect(bmc.orders.filter(order => order !== 1)).toEqual([])
    },
  )
})
