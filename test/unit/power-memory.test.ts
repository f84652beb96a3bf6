/** What is learned of BMCs and their models, and what it changes. */
import {afterEach, describe, expect, test} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createPower, type MemoryStore, type PowerTarget} from '../../services/power/index.ts'
import {createMemory, type KnownBmc, type ModelQuirk} from '../../services/power/memory.ts'
import {type BmcOptions, type SimulatedBmc, startBmc} from '../../sim/bmc/index.ts'
import {createVirtualTime} from '../../sim/virtual-time.ts'

const cleanUps: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

/** A store as a database would be one, and how often it was written. */
function createStore() {
  const bmcs = new Map<string, KnownBmc>()
  const quirks = new Map<string, ModelQuirk>()
  let failing = false
  const store: MemoryStore = {
    async load() {
      if (failing) throw new Error('away')
      return {bmcs, quirks: [...quirks.values()]}
    },
    async save(changed, seen) {
      if (failing) throw new Error('away')
      for (const [key, known] of changed) bmcs.set(key, known)
      for (const quirk of seen) {
        const id = `${quirk.model} ${quirk.quirk}`
        quirks.set(id, {...quirk, times: (quirks.get(id)?.times ?? 0) + quirk.times})
      }
    },
  }
  return {
    store,
    bmcs,
    quirks,
    fail: (how: boolean) => {
      failing = how
    },
  }
}

const time = createVirtualTime()

async function start(options: BmcOptions = {}): Promise<{bmc: SimulatedBmc; target: PowerTarget}> {
  const bmc = await startBmc({...options, clock: time.clock, timers: time.timers})
  cleanUps.push(() => bmc.stop())
  const login = {username: 'ingot', password: new Secret('correct horse')}
  return {bmc, target: {machineId: 'm1', driver: 'ipmi', address: '127.0.0.1', port: bmc.port, ...login}}
}

function power(store?: MemoryStore) {
  const made = createPower({log: silentLog, clock: time.clock, timers: time.timers, ...(store ? {store} : {})})
  cleanUps.push(() => made.close())
  return made
}

const PXE = ['pxe', {firmware: 'uefi', persistent: true}] as const

describe('quirks', () => {
  test('boot parameters that a model refuses are left out the next time, for another BMC of that model too', async () => {
    const options = {chassis: {refusedParameters: [0, 3, 4], keptBootFlags: 0x80}}
    const {bmc, target} = await start(options)
    const {bmc: twin, target: twinTarget} = await start(options)
    const {bmc: stranger, target: strangerTarget} = await start({...options, firmware: [3, 0x78]})
    const asked = power()
    const count = (heard: readonly string[]) => heard.filter(name => name === 'setBootOptions').length
    expect(await time.during(asked.setBootDevice(target, ...PXE))).toMatchObject({notKept: ['persistent', 'firmware']})
    // The second parameter 3 is left out already.
    expect(count(bmc.heard)).toBe(4)
    await time.during(asked.setBootDevice(twinTarget, ...PXE))
    expect(count(twin.heard)).toBe(1)
    await time.during(asked.setBootDevice(strangerTarget, ...PXE))
    expect(count(stranger.heard)).toBe(4)
    const outcome = await time.during(asked.device(target))
    const quirks = outcome.done === 'seen' ? outcome.quirks : []
    expect(quirks.map(({quirk, times}) => `${quirk} ${times}`).toSorted()).toEqual([
      'boot_efi_dropped 2',
      'boot_option_0_refused 1',
      'boot_option_3_refused 1',
      'boot_option_4_refused 1',
      'boot_persistent_dropped 2',
    ])
    expect(quirks[0]).toMatchObject({means: expect.stringMatching(/\S/), first_seen: expect.any(Date)})
  })

  test('a machine that takes long to follow is waited for longer the next time', async () => {
    const {bmc, target} = await start({chassis: {slowMs: 18_000}})
    const asked = power()
    await expect(time.during(asked.on(target))).rejects.toMatchObject({code: 'POWER_UNCONFIRMED'})
    await time.pass(60_000)
    expect(bmc.power).toBe(1)
    // It was there after 18 s; a slower model is one that was seen to be slow.
    const {target: quicker} = await start({chassis: {slowMs: 9000}})
    expect(await time.during(asked.on(quicker))).toMatchObject({changed: true})
    expect(await time.during(asked.off(target))).toMatchObject({state: 'off', changed: true})
  })

  test('a suite that is ignored is not asked for again, also by a later process, until a week has passed', async () => {
    const {store, bmcs, quirks} = createStore()
    const {bmc, target} = await start({suites: [3], otherSuites: 'ignore'})
    const first = power(store)
    await time.during(first.status(target))
    await time.during(first.device(target))
    await first.close()
    expect(bmcs.get(`127.0.0.1:${bmc.port}`)).toMatchObject({suite: 3, device: {manufacturer: 'Supermicro'}})
    expect([...quirks.keys()]).toEqual(['10876/2404 3.77 suite_17_ignored'])
    const before = bmc.asked.length
    const second = power(store)
    await time.during(second.status(target))
    expect(bmc.asked.slice(before)).toEqual(['1/1/1'])
    await time.pass(8 * 86_400_000)
    await time.during(second.status(target))
    expect(bmc.asked.slice(before + 1)).toContain('3/4/1')
  })
})

describe('memory', () => {
  const device = {
    manufacturer_id: 1,
    manufacturer: null,
    product_id: 2,
    firmware: '1.00',
    device_id: 0,
    device_revision: 0,
    ipmi: '2.0',
  }
  const parts = {log: silentLog, clock: time.clock, timers: time.timers}

  test('what happened before a BMC said who it is counts for its model afterwards', () => {
    const memory = createMemory(parts)
    memory.learn('a:623', 'suite_17_refused', 'no')
    expect(memory.quirks('a:623')).toEqual([])
    memory.remember('a:623', {device})
    expect(memory.has('a:623', 'suite_17_refused')).toBe(true)
    memory.remember('b:623', {device})
    expect(memory.has('b:623', 'suite_17_refused')).toBe(true)
  })

  test('a database that is away loses nothing that was learned, and counts it once', async () => {
    const {store, bmcs, quirks, fail} = createStore()
    const memory = createMemory({...parts, store})
    fail(true)
    await memory.ready()
    memory.remember('a:623', {device, suite: 17})
    memory.learn('a:623', 'slow_power', 'one')
    await memory.flush()
    memory.learn('a:623', 'slow_power', 'two')
    await memory.flush()
    expect(bmcs.size).toBe(0)
    fail(false)
    await memory.flush()
    await memory.flush()
    expect(bmcs.get('a:623')).toMatchObject({suite: 17, device})
    expect([...quirks.values()]).toMatchObject([{quirk: 'slow_power', times: 2, detail: 'two'}])
  })

  test('it is written soon after it was learned, without being asked', async () => {
    const {store, bmcs} = createStore()
    const memory = createMemory({...parts, store})
    memory.remember('a:623', {suite: 3})
    await time.pass(10_000)
    expect(bmcs.get('a:623')).toMatchObject({suite: 3})
  })
})
