/** The parts of the power service around a driver: turns, the breaker, the verbs, machines driven by hand. */
import {describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createBreaker} from '../../services/power/breaker.ts'
import type {PowerConnection, PowerTarget} from '../../services/power/drivers/driver.ts'
import {DRIVERS} from '../../services/power/drivers/registry.ts'
import {PowerFault} from '../../services/power/fault.ts'
import {createGuard} from '../../services/power/guard.ts'
import {createPower} from '../../services/power/index.ts'
import {createLanes} from '../../services/power/lanes.ts'
import {systemTimers} from '../../services/power/timers.ts'
import {askSoftOff, cycle, switchOff, switchOn} from '../../services/power/verbs.ts'

const refuse = () => Promise.reject(new Error('not asked for here'))
const noDetails = {bootDevice: refuse, device: refuse, events: refuse, clearEvents: refuse, sensors: refuse, fru: refuse}
const never = new AbortController().signal
const turn = () => new Promise<void>(resolve => setImmediate(resolve))

describe('turns', () => {
  test('one operation runs at a time for one BMC, in the order they came, and so many at once in all', async () => {
    const lanes = createLanes(3)
    const running = new Map<string, number>()
    const order: string[] = []
    let most = 0
    let mostOfOne = 0
    const work = (key: string, name: string) => async () => {
      order.push(name)
      running.set(key, (running.get(key) ?? 0) + 1)
      most = Math.max(
        most,
        [...running.values()].reduce((sum, count) => sum + count, 0),
      )
      mostOfOne = Math.max(mostOfOne, running.get(key) ?? 0)
      await turn()
      running.set(key, (running.get(key) ?? 1) - 1)
    }
    const jobs = Array.from({length: 60}, (_, index) => {
      const key = `bmc${index % 10}`
      return lanes.run(key, never, work(key, `${key} #${index}`))
    })
    await Promise.all(jobs)
    expect(mostOfOne).toBe(1)
    expect(most).toBe(3)
    expect(order.filter(name => name.startsWith('bmc4 '))).toEqual([4, 14, 24, 34, 44, 54].map(index => `bmc4 #${index}`))
    expect(lanes.busy).toBe(0)
  })

  test('those who wait for a slow BMC hold no place among all', async () => {
    const lanes = createLanes(2)
    const {promise, resolve: release} = Promise.withResolvers<void>()
    const slow = lanes.run('slow', never, () => promise)
    const behind = [1, 2, 3].map(() => lanes.run('slow', never, turn))
    await lanes.run('quick', never, turn)
    release()
    await Promise.all([slow, ...behind])
    expect(lanes.busy).toBe(0)
  })

  test('a waiter leaves when its signal aborts, and a failure gives the turn on', async () => {
    const lanes = createLanes(1)
    const {promise, reject: fail} = Promise.withResolvers<void>()
    const first = lanes.run('a', never, () => promise)
    const stop = new AbortController()
    const second = lanes.run('a', stop.signal, turn)
    const third = lanes.run('b', stop.signal, turn)
    const fourth = lanes.run('b', never, async () => 'ran')
    stop.abort(new Error('left'))
    await expect(second).rejects.toThrow('left')
    await expect(third).rejects.toThrow('left')
    fail(new Error('broke'))
    await expect(first).rejects.toThrow('broke')
    expect(await fourth).toBe('ran')
    await expect(lanes.run('a', stop.signal, turn)).rejects.toThrow('left')
    expect(lanes.busy).toBe(0)
  })
})

describe('the breaker', () => {
  const target: PowerTarget = {machineId: 'm', driver: 'ipmi', username: 'a', password: new Secret('one')}
  const silent = new PowerFault('no_answer', 'nothing came')
  const create = () => {
    let nowMs = 0
    const breaker = createBreaker({now: () => new Date(0), monotonicMs: () => nowMs})
    return {breaker, pass: (ms: number) => (nowMs += ms)}
  }

  test('F9 leaves a BMC alone after three failures in a row, twice as long each time, and says when it asks again', () => {
    const {breaker, pass} = create()
    for (let failure = 0; failure < 3; failure++) {
      breaker.admit('x', target)
      breaker.failed('x', target, silent)
    }
    expect(() => breaker.admit('x', target)).toThrow('it is asked again in 15 s (the last: nothing came)')
    breaker.admit('another', target)
    pass(15_000)
    breaker.admit('x', target)
    breaker.failed('x', target, silent)
    pass(29_000)
    expect(() => breaker.admit('x', target)).toThrow('it is asked again in 1 s')
    pass(1000)
    breaker.admit('x', target)
    breaker.succeeded('x')
    breaker.failed('x', target, silent)
    breaker.admit('x', target)
  })

  test('rests for five minutes at most', () => {
    const {breaker} = create()
    for (let failure = 0; failure < 30; failure++) breaker.failed('x', target, silent)
    expect(() => breaker.admit('x', target)).toThrow('it is asked again in 300 s')
  })

  test('tries other credentials at once', () => {
    const {breaker} = create()
    const wrong = new PowerFault('wrong_password', 'no')
    for (let failure = 0; failure < 3; failure++) breaker.failed('x', target, wrong)
    expect(() => breaker.admit('x', target)).toThrow('not asked')
    breaker.admit('x', {...target, password: new Secret('two')})
    breaker.admit('x', {...target, username: 'b'})
  })

  test('does not count failures of a BMC that works', () => {
    const {breaker} = create()
    const wontSwitch = new PowerFault('not_seen', 'still off')
    for (let failure = 0; failure < 9; failure++) breaker.failed('x', target, wontSwitch)
    breaker.admit('x', target)
  })
})

describe('the verbs', () => {
  function chassis(state: 'on' | 'off', obeys: (order: string, polls: number) => boolean = () => true) {
    const orders: string[] = []
    let polls = 0
    const connection: PowerConnection = {
      async status() {
        polls += 1
        const last = orders.at(-1)
        if (last && obeys(last, polls)) state = last === 'on' ? 'on' : 'off'
        return {state, faults: ['power_fault']}
      },
      async order(order, guard) {
        guard.check()
        orders.push(order)
        polls = 0
        return 'taken'
      },
      setBootDevice: async () => ({notKept: []}),
      identify: () => Promise.resolve(),
      ...noDetails,
      close: () => Promise.resolve(),
    }
    const learned: string[] = []
    const learn = (quirk: string) => void learned.push(quirk)
    const bounds = {clock: systemClock, timers: systemTimers, confirmMs: 200, restMs: 1}
    const act = {connection, guard: createGuard(), signal: never, ...bounds, learn}
    return {act, orders, learned}
  }

  test('on and off send no order to a machine that is there already', async () => {
    const on = chassis('on')
    expect(await switchOn(on.act)).toEqual({state: 'on', changed: false})
    expect(on.orders).toEqual([])
    const off = chassis('off')
    expect(await switchOff(off.act)).toEqual({state: 'off', changed: false})
    expect(off.orders).toEqual([])
  })

  test('off returns when the machine is seen off, however many readings that takes', async () => {
    const slow = chassis('on', (_order, polls) => polls >= 3)
    expect(await switchOff(slow.act)).toEqual({state: 'off', changed: true})
    expect(slow.orders).toEqual(['off'])
  })

  test('cycle is off and on, and only on when it was off', async () => {
    const on = chassis('on')
    expect(await cycle(on.act)).toEqual({state: 'on', changed: true})
    expect(on.orders).toEqual(['off', 'on'])
    const off = chassis('off')
    expect(await cycle(off.act)).toEqual({state: 'on', changed: true})
    expect(off.orders).toEqual(['on'])
  })

  test('F8 an order without effect is a fault that tells what the BMC shows', async () => {
    const deaf = chassis('off', () => false)
    await expect(switchOn(deaf.act)).rejects.toThrow(/took the order, but the machine was still off .* power_fault/)
    expect(deaf.orders).toEqual(['on'])
    expect(deaf.learned).toEqual(['order_ignored'])
  })

  test('a soft off that the OS does not follow is no fault', async () => {
    const deaf = chassis('on', () => false)
    expect(await askSoftOff(deaf.act)).toEqual({state: 'on', changed: false})
    expect(deaf.orders).toEqual(['soft_off'])
    expect(deaf.learned).toEqual([])
  })
})

describe('machines driven by hand', () => {
  const target: PowerTarget = {machineId: 'rack1-7', driver: 'manual'}

  test('every act is a request to a person, and the state is unknown', async () => {
    const power = createPower({log: silentLog, clock: systemClock})
    expect(await power.status(target)).toMatchObject({state: 'unknown', faults: []})
    const asked = [
      await power.on(target),
      await power.off(target),
      await power.softOff(target),
      await power.cycle(target),
      await power.setBootDevice(target, 'pxe', {firmware: 'uefi', persistent: false}),
      await power.identify(target),
      await power.bootDevice(target),
      await power.device(target),
      await power.events(target),
      await power.clearEvents(target),
      await power.sensors(target),
      await power.fru(target),
    ]
    for (const outcome of asked) expect(outcome).toMatchObject({done: 'by_hand', please: expect.stringContaining('rack1-7')})
    await power.close()
  })

  test('every driver of the registry has a name of its own', () => {
    expect(DRIVERS.map(({name}) => name).toSorted()).toEqual(['ipmi', 'manual'])
  })
})
