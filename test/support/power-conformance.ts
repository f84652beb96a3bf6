/**
 * What every power driver has to do, whatever it speaks: one suite, run over each driver of the registry on each ground it can be tried
 * on. A new driver brings a ground and passes it.
 */
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import type {Capability} from '../../services/power/drivers/driver.ts'
import {DRIVERS} from '../../services/power/drivers/registry.ts'
import {type BootDevice, createPower, type Power, type PowerTarget} from '../../services/power/index.ts'

/** One machine and the way to its power, with a view past its driver. */
export type Ground = {
  readonly target: PowerTarget
  /** As somebody who stands before the machine sees it; undefined where there is no such view. */
  isOn?(): Promise<boolean>
  pressButton?(on: boolean): Promise<void>
  /** The same machine with credentials that are wrong. */
  readonly wrongPassword?: PowerTarget
  readonly wrongUser?: PowerTarget
  /** A machine that nobody answers for. */
  readonly dead?: PowerTarget
  /** Boot devices that it cannot keep, whatever the driver does. */
  readonly cannotBoot?: readonly BootDevice[]
  stop(): Promise<void>
}

export type GroundRow = {
  readonly driver: PowerTarget['driver']
  readonly name: string
  /** Why it cannot be tried here; undefined where it can. */
  readonly skip?: string | undefined
  start(): Promise<Ground>
}

/** By capability, a verb that needs it and changes nothing that the next test minds. */
const VERBS: Record<Capability, (power: Power, target: PowerTarget) => Promise<{done?: string}>> = {
  status: async (power, target) => ({done: (await power.status(target)).state === 'unknown' ? 'by_hand' : 'seen'}),
  power: (power, target) => power.off(target),
  soft_off: (power, target) => power.softOff(target),
  boot_device: (power, target) => power.setBootDevice(target, 'disk', {firmware: 'bios', persistent: false}),
  identify: (power, target) => power.identify(target, 1),
  device: (power, target) => power.device(target),
  events: (power, target) => power.events(target),
  sensors: (power, target) => power.sensors(target),
  fru: (power, target) => power.fru(target),
}

export function describeDrivers(grounds: readonly GroundRow[]): void {
  test('every driver of the registry has a ground to be tried on', () => {
    expect([...new Set(grounds.map(({driver}) => driver))].toSorted()).toEqual(DRIVERS.map(({name}) => name).toSorted())
  })
  for (const row of grounds) {
    const words = row.skip === undefined ? '' : ` (skipped: ${row.skip})`
    describe.skipIf(row.skip !== undefined)(`driver ${row.driver} on ${row.name}${words}`, () => describeDriver(row))
  }
}

function describeDriver(row: GroundRow): void {
  const capabilities: readonly Capability[] = DRIVERS.find(({name}) => name === row.driver)?.capabilities ?? []
  const can = (needed: Capability) => capabilities.includes(needed)
  let ground: Ground
  let power: Power

  beforeAll(async () => {
    ground = await row.start()
    power = createPower({log: silentLog, clock: systemClock, restMs: 1, retransmitMs: [200, 300, 400, 500]})
  })
  afterAll(async () => {
    await power?.close()
    await ground?.stop()
  })

  /** What a driver cannot do is not tried; that a person is asked instead was seen above. */
  const needing = (needed: Capability): typeof test | (() => void) => (can(needed) ? test : () => undefined)

  for (const [capability, verb] of Object.entries(VERBS) as [Capability, (typeof VERBS)[Capability]][]) {
    const expected = can(capability) ? 'does it, and reads it back' : 'asks a person, naming the machine'
    test(`${capability}: ${expected}`, async () => {
      const outcome = await verb(power, ground.target)
      expect(outcome).toMatchObject({done: can(capability) ? 'seen' : 'by_hand'})
      if (outcome.done === 'by_hand' && 'please' in outcome) expect(outcome.please).toContain(ground.target.machineId)
    })
  }

  needing('power')('on, off and cycle end where they say, whatever it was before, and say whether it changed', async () => {
    const {target} = ground
    await power.off(target)
    expect(await power.on(target)).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await ground.isOn?.()).toBe(true)
    expect(await power.on(target)).toEqual({done: 'seen', state: 'on', changed: false})
    expect(await power.cycle(target)).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await power.off(target)).toEqual({done: 'seen', state: 'off', changed: true})
    expect(await ground.isOn?.()).toBe(false)
    expect(await power.off(target)).toEqual({done: 'seen', state: 'off', changed: false})
    expect(await power.cycle(target)).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await ground.isOn?.()).toBe(true)
  })

  needing('status')('status is what the machine is now, not what was last ordered', async () => {
    for (const on of [true, false, true]) {
      await ground.pressButton?.(on)
      expect((await power.status(ground.target)).state).toBe(on ? 'on' : 'off')
    }
  })

  needing('boot_device')('each boot device that is set is the one read back', async () => {
    for (const device of ['pxe', 'disk', 'cdrom', 'bios', 'none'] as const) {
      if (ground.cannotBoot?.includes(device)) continue
      const how = {firmware: 'bios', persistent: false} as const
      expect(await power.setBootDevice(ground.target, device, how)).toMatchObject({done: 'seen', device})
      expect(await power.bootDevice(ground.target)).toMatchObject({done: 'seen', device})
    }
  })

  needing('device')('the device says who it is', async () => {
    const outcome = await power.device(ground.target)
    if (outcome.done !== 'seen') return expect.unreachable(outcome.done)
    expect(outcome.device.manufacturer_id).toBeGreaterThan(0)
    expect(outcome.device.firmware).toMatch(/\S/)
  })

  needing('events')('the event log can be read, and is empty once it was cleared', async () => {
    const before = await power.events(ground.target)
    const cleared = await power.clearEvents(ground.target)
    const after = await power.events(ground.target)
    if (before.done !== 'seen' || after.done !== 'seen') return expect.unreachable('it was not seen')
    expect(before.entries.length).toBeGreaterThan(0)
    for (const entry of before.entries)
      expect(entry).toMatchObject({text: expect.stringMatching(/\S/), raw: expect.stringMatching(/^[0-9a-f]{32}$/)})
    expect(before.entries.map(({id}) => id)).toEqual(before.entries.map(({id}) => id).toSorted((left, right) => left - right))
    expect(cleared).toEqual({done: 'seen', cleared: before.total})
    expect(after.total).toBeLessThanOrEqual(1)
  })

  needing('sensors')('sensors have names and units, and a value or none, and all that can be read are read', async () => {
    const outcome = await power.sensors(ground.target)
    if (outcome.done !== 'seen') return expect.unreachable(outcome.done)
    expect(outcome.sensors.length).toBeGreaterThan(0)
    for (const {name, type, value, unit, status, thresholds} of outcome.sensors) {
      expect(name).toMatch(/\S/)
      expect(type).toMatch(/^[a-z0-9_]+$/)
      expect(['ok', 'warning', 'critical', 'unavailable']).toContain(status)
      if (value === null) expect(unit).toBeNull()
      else expect(Number.isFinite(value)).toBe(true)
      for (const limit of Object.values(thresholds)) expect(Number.isFinite(limit)).toBe(true)
    }
    expect(outcome.sensors.some(({value}) => value !== null)).toBe(true)
  })

  needing('fru')('the inventory names maker and serial number', async () => {
    const outcome = await power.fru(ground.target)
    if (outcome.done !== 'seen') return expect.unreachable(outcome.done)
    const texts = outcome.inventories.flatMap(({areas}) => Object.values(areas))
    expect(texts.some(area => 'manufacturer' in area && 'serial' in area)).toBe(true)
  })

  needing('power')('F7 what is withheld changes nothing', async () => {
    const {target} = ground
    await power.off(target)
    const lost = {mayAct: () => false}
    expect(await power.on(target, lost)).toEqual({done: 'withheld', sent: false})
    expect(await power.cycle(target, lost)).toEqual({done: 'withheld', sent: false})
    if (can('events')) expect(await power.clearEvents(target, lost)).toMatchObject({done: expect.stringMatching(/withheld|seen/)})
    expect((await power.status(target)).state).toBe('off')
    expect(await ground.isOn?.()).toBe(false)
  })

  needing('power')('verbs that come at once take turns and all end', async () => {
    const {target} = ground
    const verbs = [power.on(target), power.status(target), power.cycle(target), power.identify(target, 0), power.off(target)]
    for (const outcome of await Promise.all(verbs)) expect(outcome).toMatchObject('done' in outcome ? {done: 'seen'} : {})
    expect((await power.status(target)).state).toBe('off')
  })

  needing('status')('an abort rejects with its reason', async () => {
    const reason = new Error('cancelled')
    await expect(power.status(ground.target, {signal: AbortSignal.abort(reason)})).rejects.toBe(reason)
  })

  needing('status')('wrong credentials and nobody there are told apart, without the password', async () => {
    const told = async (target: PowerTarget | undefined) => {
      if (!target) return []
      const error = await power.status(target).then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      if (!(error instanceof IngotError)) throw error ?? new Error('it was answered')
      expect(`${error.message} ${error.stack} ${JSON.stringify(error)}`).not.toContain(target.password?.reveal())
      return [error.code]
    }
    const {wrongPassword, wrongUser, dead} = ground
    for (const code of [...(await told(wrongPassword)), ...(await told(wrongUser))]) expect(code).toBe('POWER_AUTH')
    for (const code of await told(dead)) expect(code).toBe('POWER_UNREACHABLE')
  })
}
