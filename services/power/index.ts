/**
 * Power: status, on, off, soft off, cycle, boot device and identify for any machine, and what its BMC knows: its own event log, sensors
 * and inventory; by whatever driver reaches it.
 *
 * An outcome that a caller has to expect is returned: `seen` (done, and read back), `by_hand` (no driver can; a person must, and evidence
 * tells), `withheld` (`mayAct` said no before an order left, or before it was sent again). A failure is thrown: an `IngotError` with a
 * POWER_* code whose detail names the cause, told apart by `faultKind`. An abort rejects with the signal's reason.
 */
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import type {
  BmcDevice,
  BootChoice,
  BootDevice,
  BootReading,
  Capability,
  EventLog,
  FruInventory,
  NotKept,
  PowerConnection,
  PowerTarget,
  SensorReading,
} from './drivers/driver.ts'
import type {Guard} from './guard.ts'
import {createMemory, type MemoryStore} from './memory.ts'
import {type ByHand, createOperations, type Verb, type WithheldOutcome} from './operation.ts'
import {QUIRKS, type SeenQuirk} from './quirks.ts'
import {systemTimers, type Timers} from './timers.ts'
import {askSoftOff, cycle, type Switched, switchOff, switchOn} from './verbs.ts'

export {boundPower} from './bound.ts'
export type {
  BmcDevice,
  BootChoice,
  BootDevice,
  BootReading,
  DriverName,
  EventLog,
  FruInventory,
  LogEntry,
  NotKept,
  PowerTarget,
  Privilege,
  SensorReading,
} from './drivers/driver.ts'
export {type FaultKind, faultKind} from './fault.ts'
export type {MemoryStore} from './memory.ts'
export type {ByHand, WithheldOutcome} from './operation.ts'
export type {SeenQuirk} from './quirks.ts'
export {createMemoryStore} from './store.ts'

export type VerbOptions = {
  /** Asked immediately before each datagram that changes the machine; false withholds it. */
  readonly mayAct?: (() => boolean) | undefined
  readonly signal?: AbortSignal | undefined
  /** Nobody waits for it: that a BMC does not answer must not keep others from asking it. */
  readonly unasked?: boolean | undefined
}

export type PowerStatus = {readonly state: 'on' | 'off' | 'unknown'; readonly faults: readonly string[]; readonly at: Date}
export type Outcome<Seen> = ({readonly done: 'seen'} & Seen) | ByHand | WithheldOutcome
/** `changed`: it was in another state before. */
export type SwitchOutcome = Outcome<Switched>
/** `notKept`: what the BMC dropped of the choice, read back; the device itself was kept. */
export type BootOutcome = Outcome<{readonly device: BootDevice; readonly notKept: readonly NotKept[]}>
export type IdentifyOutcome = Outcome<{readonly seconds: number}>
/** What is known of the model beside what it says of itself. */
export type KnownQuirk = SeenQuirk & {readonly means: string; readonly handling: string | null}

export type Power = {
  status(target: PowerTarget, options?: VerbOptions): Promise<PowerStatus>
  on(target: PowerTarget, options?: VerbOptions): Promise<SwitchOutcome>
  /** Returns when the machine is seen off. */
  off(target: PowerTarget, options?: VerbOptions): Promise<SwitchOutcome>
  /** Asks the OS; `seen` with state `on` when it did not follow within the time. */
  softOff(target: PowerTarget, options?: VerbOptions): Promise<SwitchOutcome>
  /** Off, seen off, on. */
  cycle(target: PowerTarget, options?: VerbOptions): Promise<SwitchOutcome>
  setBootDevice(
    target: PowerTarget,
    device: BootDevice,
    how: Omit<BootChoice, 'device'>,
    options?: VerbOptions,
  ): Promise<BootOutcome>
  bootDevice(target: PowerTarget, options?: VerbOptions): Promise<Outcome<BootReading>>
  /** @param seconds how long the light blinks; 0 switches it off */
  identify(target: PowerTarget, seconds?: number, options?: VerbOptions): Promise<IdentifyOutcome>
  /** Who the BMC is, and what was learned of its model. */
  device(
    target: PowerTarget,
    options?: VerbOptions,
  ): Promise<Outcome<{readonly device: BmcDevice; readonly quirks: readonly KnownQuirk[]}>>
  /** @param limit how many of the newest entries */
  events(target: PowerTarget, limit?: number, options?: VerbOptions): Promise<Outcome<EventLog>>
  /** @returns how many entries went */
  clearEvents(target: PowerTarget, options?: VerbOptions): Promise<Outcome<{readonly cleared: number}>>
  sensors(target: PowerTarget, options?: VerbOptions): Promise<Outcome<{readonly sensors: readonly SensorReading[]}>>
  fru(target: PowerTarget, options?: VerbOptions): Promise<Outcome<{readonly inventories: readonly FruInventory[]}>>
  /** Ends what runs, closing its sessions, and gives the sockets back. */
  close(): Promise<void>
}

export type PowerParts = {
  readonly log: Log
  readonly clock: Clock
  readonly timers?: Timers
  /** Where what was learned of BMCs outlives the process. */
  readonly store?: MemoryStore
  /** Operations at once, over all BMCs. */
  readonly maxConcurrent?: number
  /** How long the effect of an order may take to be seen. */
  readonly confirmMs?: number
  /** Pause of a cycle between off and on. */
  readonly restMs?: number
  /** How long to wait after each datagram for its answer; as many datagrams as entries. */
  readonly retransmitMs?: readonly number[]
}

const MAX_CONCURRENT = 200
/** With the retransmissions below, a verb ends well within the 30 s that a task may last. */
const CONFIRM_MS = 15_000
/** For models known to be slow; a step of a job lasts 25 s at most. */
const PATIENCE = 1.4
const REST_MS = 1000
const RETRANSMIT_MS = [500, 1000, 1500, 2000, 2500, 2500]
const IDENTIFY_S = 15
const EVENTS = 500

export function createPower(parts: PowerParts): Power {
  const {log, clock, timers = systemTimers, confirmMs = CONFIRM_MS, restMs = REST_MS} = parts
  const memory = createMemory({log, clock, timers, store: parts.store})
  const operations = createOperations({
    log,
    clock,
    timers,
    memory,
    maxConcurrent: parts.maxConcurrent ?? MAX_CONCURRENT,
    retransmitMs: parts.retransmitMs ?? RETRANSMIT_MS,
  })

  function switching(name: string, needs: 'power' | 'soft_off', words: string, act: typeof switchOn) {
    return async (target: PowerTarget, options: VerbOptions = {}): Promise<SwitchOutcome> => {
      const verb: Verb = {name, needs, please: `${words} machine ${target.machineId} by hand.`}
      const outcome = await operations.perform(verb, target, options, (connection, guard, signal, bmc) => {
        const patience = memory.has(bmc, 'slow_power') ? PATIENCE : 1
        const learn = memory.learn.bind(undefined, bmc)
        return act({connection, guard, signal, clock, timers, confirmMs: confirmMs * patience, restMs, learn})
      })
      if (outcome.done !== 'seen') return outcome
      if (outcome.seen.changed) log.info({machine: target.machineId, verb: name, state: outcome.seen.state}, 'power was switched')
      return {done: 'seen', ...outcome.seen}
    }
  }

  /** A verb that asks its connection one thing, and gives back what it said. */
  async function ask<Seen extends object>(
    target: PowerTarget,
    options: VerbOptions,
    verb: {name: string; needs: Capability; please: string},
    work: (connection: PowerConnection, guard: Guard, bmc: string) => Promise<Seen>,
  ): Promise<Outcome<Seen>> {
    const outcome = await operations.perform(verb, target, options, (connection, guard, _signal, bmc) =>
      work(connection, guard, bmc),
    )
    return outcome.done === 'seen' ? {done: 'seen', ...outcome.seen} : outcome
  }

  return {
    async status(target, options = {}) {
      const verb: Verb = {name: 'status', needs: 'status', please: `Look at machine ${target.machineId}.`}
      const outcome = await operations.perform(verb, target, options, connection => connection.status())
      const reading = outcome.done === 'seen' ? outcome.seen : {state: 'unknown' as const, faults: []}
      return {...reading, at: clock.now()}
    },
    on: switching('on', 'power', 'Switch on', switchOn),
    off: switching('off', 'power', 'Switch off', switchOff),
    softOff: switching('soft off', 'soft_off', 'Shut down', askSoftOff),
    cycle: switching('cycle', 'power', 'Switch off and on', cycle),

    async setBootDevice(target, device, how, options = {}) {
      const please = `Let machine ${target.machineId} boot from ${device} (${how.firmware}, ${how.persistent ? 'always' : 'once'}).`
      const verb: Verb = {name: `set boot device ${device}`, needs: 'boot_device', please}
      const outcome = await operations.perform(verb, target, options, (connection, guard) =>
        connection.setBootDevice({device, ...how}, guard),
      )
      if (outcome.done !== 'seen') return outcome
      const {notKept} = outcome.seen
      if (notKept.length > 0) log.warn({machine: target.machineId, device, notKept}, 'the BMC dropped part of the boot setting')
      return {done: 'seen', device, notKept}
    },
    bootDevice(target, options = {}) {
      const please = `Look into the firmware setup of machine ${target.machineId}.`
      return ask(target, options, {name: 'boot device', needs: 'boot_device', please}, connection => connection.bootDevice())
    },

    async identify(target, seconds = IDENTIFY_S, options = {}) {
      const verb: Verb = {name: 'identify', needs: 'identify', please: `Find machine ${target.machineId} by its label.`}
      const outcome = await operations.perform(verb, target, options, (connection, guard) => connection.identify(seconds, guard))
      return outcome.done === 'seen' ? {done: 'seen', seconds} : outcome
    },

    device(target, options = {}) {
      const please = `Look at machine ${target.machineId}: nothing is known of its controller.`
      return ask(target, options, {name: 'device', needs: 'device', please}, async (connection, _guard, bmc) => {
        const device = await connection.device()
        return {device, quirks: memory.quirks(bmc).map(seen => ({...seen, ...QUIRKS[seen.quirk]}))}
      })
    },
    events(target, limit = EVENTS, options = {}) {
      const please = `Look at machine ${target.machineId}: it has no event log that can be read from here.`
      return ask(target, options, {name: 'event log', needs: 'events', please}, connection => connection.events(limit))
    },
    clearEvents(target, options = {}) {
      const please = `Clear the event log of machine ${target.machineId} in its firmware setup.`
      return ask(target, options, {name: 'clear event log', needs: 'events', please}, async (connection, guard) => ({
        cleared: await connection.clearEvents(guard),
      }))
    },
    sensors(target, options = {}) {
      const please = `Look at machine ${target.machineId}: it has no sensors that can be read from here.`
      return ask(target, options, {name: 'sensors', needs: 'sensors', please}, async connection => ({
        sensors: await connection.sensors(),
      }))
    },
    fru(target, options = {}) {
      const please = `Read the labels of machine ${target.machineId}.`
      return ask(target, options, {name: 'FRU', needs: 'fru', please}, async connection => ({
        inventories: await connection.fru(),
      }))
    },

    async close() {
      await operations.close()
      await memory.flush()
    },
  }
}
