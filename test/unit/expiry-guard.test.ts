/** A clock that was set ends no leases. */
import {describe, expect, it} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {createExpiryGuard} from '../../services/supervisor/expiry-guard.ts'
import {choresOf} from '../../services/supervisor/housekeeping.ts'

const HOUR_S = 3600
const YEAR_S = 365 * 24 * HOUR_S

function world() {
  let [wallS, passedS] = [0, 0]
  const clock = {now: () => new Date(wallS * 1000), monotonicMs: () => passedS * 1000}
  const guard = createExpiryGuard(async () => HOUR_S, clock, silentLog)
  return {
    look: () => guard.mayExpire(clock.now()),
    pass: (seconds: number) => {
      wallS += seconds
      passedS += seconds
    },
    set: (seconds: number) => {
      wallS += seconds
    },
  }
}

describe('F5 the clock of the database', () => {
  it('that runs as time does lets leases end', async () => {
    const {look, pass} = world()
    expect(await look()).toBe(true)
    pass(7200)
    expect(await look()).toBe(true)
  })

  it.each([HOUR_S, -HOUR_S, 10 * YEAR_S, -10 * YEAR_S, 61])('set by %i s ends none until the longest lease is over', async by => {
    const {look, pass, set} = world()
    await look()
    pass(10)
    set(by)
    expect(await look()).toBe(false)
    pass(HOUR_S - 1)
    expect(await look()).toBe(false)
    pass(1)
    expect(await look()).toBe(true)
  })

  it('is asked before any chore ends a lease', async () => {
    let ended = 0
    // Only what the chores of leases touch; another chore that ends leases would find it, too.
    const parts = {ipam: {expireLeases: async () => ended++}} as unknown as Parameters<typeof choresOf>[0]
    const doAll = async (mayExpire: boolean) => {
      const chores = choresOf(parts, {mayExpire: async () => mayExpire}, AbortSignal.abort())
      expect(new Set(chores.map(([name]) => name)).size).toBe(chores.length)
      await Promise.allSettled(chores.map(async ([, , work]) => work(new Date(0))))
    }
    await doAll(false)
    expect(ended).toBe(0)
    await doAll(true)
    expect(ended).toBe(1)
  })

  it('that NTP moves a little is believed', async () => {
    const {look, pass, set} = world()
    await look()
    pass(10)
    set(59)
    expect(await look()).toBe(true)
  })
})
