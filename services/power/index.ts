/**
 * Power: status, on, off, soft off, cycle, boot device and identify for any machine, by whatever driver reaches it.
 *
 * An outcome that a caller has to expect is returned: `seen` (done, and read back), `by_hand` (no driver can; a person must, and evidence
 * tells), `withheld` (`mayAct` said no before an order left, or before it was sent again). A failure is thrown: an `IngotError` with a
 * POWER_* code whose detail names the cause, told apart by `faultKind`. An abort rejects with the signal's reason.
 */
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import type {BootChoice, BootDevice, NotKept, PowerTarget} from './drivers/driver.ts'
import {type ByHand, createOperations, type Verb, type WithheldOutcome} from './operation.ts'
import {askSoftOff, cycle, type Switched, switchOff, switchOn} from './verbs.ts'

export type {BootChoice, BootDevice, DriverName, NotKept, PowerTarget, Privilege} from './drivers/driver.ts'
export {type FaultKind, faultKind} from './fault.ts'
export type {ByHand, WithheldOutcome} from './operation.ts'

export type VerbOptions = {
  /** Asked immediately before each datagram that changes the machine; false withholds it. */
  readonly mayAct?: (() => boolean) | undefined
  readonly signal?: AbortSignal | undefined
}

export type PowerStatus = {readonly state: 'on' | 'off' | 'unknown'; readonly faults: readonly string[]; readonly at: Date}
export type Outcome<Seen> = ({readonly done: 'seen'} & Seen) | ByHand | WithheldOutcome
/** `changed`: it was in another state before. */
export type SwitchOutcome = Outcome<Switched>
/** `notKept`: what the BMC dropped of the choice, read back; the device itself was kept. */
export type BootOutcome = Outcome<{readonly device: BootDevice; readonly notKept: readonly NotKept[]}>
export type IdentifyOutcome = Outcome<{readonly seconds: number}>

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
  /** @param seconds how long the light blinks; 0 switches it off */
  identify(target: PowerTarget, seconds?: number, options?: VerbOptions): Promise<IdentifyOutcome>
  /** Ends what runs, closing its sessions, and gives the sockets back. */
  close(): Promise<void>
}

export type PowerParts = {
  readonly log: Log
  readonly clock: Clock
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
const REST_MS = 1000
const RETRANSMIT_MS = [500, 1000, 1500, 2000, 2500, 2500]
const IDENTIFY_S = 15

export function createPower(parts: PowerParts): Power {
  const {log, clock, confirmMs = CONFIRM_MS, restMs = REST_MS} = parts
  const operations = createOperations({
    log,
    clock,
    maxConcurrent: parts.maxConcurrent ?? MAX_CONCURRENT,
    retransmitMs: parts.retransmitMs ?? RETRANSMIT_MS,
  })

  function switching(name: string, needs: 'power' | 'soft_off', words: string, act: typeof switchOn) {
    return async (target: PowerTarget, options: VerbOptions = {}): Promise<SwitchOutcome> => {
      const verb: Verb = {name, needs, please: `${words} machine ${target.machineId} by hand.`}
      const outcome = await operations.perform(verb, target, options, (connection, guard, signal) =>
        act({connection, guard, signal, clock, confirmMs, restMs}),
      )
      if (outcome.done !== 'seen') return outcome
      if (outcome.seen.changed) log.info({machine: target.machineId, verb: name, state: outcome.seen.state}, 'power was switched')
      return {done: 'seen', ...outcome.seen}
    }
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

    async identify(target, seconds = IDENTIFY_S, options = {}) {
      const verb: Verb = {name: 'identify', needs: 'identify', please: `Find machine ${target.machineId} by its label.`}
      const outcome = await operations.perform(verb, target, options, (connection, guard) => connection.identify(seconds, guard))
      return outcome.done === 'seen' ? {done: 'seen', seconds} : outcome
    },

    close: () => operations.close(),
  }
}
