/**
 * What a power driver is: a way to reach one machine's power, in primitive acts. Reading back, waiting, idempotence, queueing and
 * circuit breaking are the façade's, the same for every driver.
 */
import type {Clock} from '../../../lib/clock.ts'
import type {Log} from '../../../lib/log.ts'
import type {Secret} from '../../../lib/secret.ts'
import type {Guard} from '../guard.ts'

export type DriverName = 'ipmi' | 'manual'
export type Privilege = 'user' | 'operator' | 'administrator'

/** How to reach the power of one machine. */
export type PowerTarget = {
  readonly machineId: string
  readonly driver: DriverName
  /** Literal IPv4 or IPv6 address of the BMC. */
  readonly address?: string | undefined
  readonly port?: number | undefined
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  /** The role to ask for; `administrator` where none is given. */
  readonly privilege?: Privilege | undefined
}

export type PowerOrder = 'on' | 'off' | 'soft_off'
export type BootDevice = 'none' | 'pxe' | 'disk' | 'cdrom' | 'bios'
export type BootChoice = {readonly device: BootDevice; readonly firmware: 'bios' | 'uefi'; readonly persistent: boolean}

/** A setting that the BMC took but did not keep, seen when it was read back. */
export type NotKept = 'valid' | 'persistent' | 'firmware'

export type Reading = {readonly state: 'on' | 'off'; readonly faults: readonly string[]}

/** What a driver can do by itself; what is missing is for a person. */
export type Capability = 'status' | 'power' | 'soft_off' | 'boot_device' | 'identify'

/** One conversation with one BMC. Every call may throw a `PowerFault`, or the reason of the signal it was opened with. */
export type PowerConnection = {
  status(): Promise<Reading>
  /** @returns `not_now` when the BMC says that its state forbids it; only the state read afterwards tells what that means */
  order(order: PowerOrder, guard: Guard): Promise<'taken' | 'not_now'>
  /** Writes the choice and reads it back. Another device than the one asked for is a fault. */
  setBootDevice(choice: BootChoice, guard: Guard): Promise<{readonly notKept: readonly NotKept[]}>
  /** @param seconds 0 switches the light off */
  identify(seconds: number, guard: Guard): Promise<void>
  /** Never throws, and works after the signal has aborted. */
  close(): Promise<void>
}

export type DriverParts = {readonly log: Log; readonly clock: Clock; readonly retransmitMs: readonly number[]}

export type RunningDriver = {
  /** Two targets with the same key share a BMC: they take turns. @throws PowerFault `bad_target` */
  key(target: PowerTarget): string
  connect(target: PowerTarget, signal: AbortSignal): Promise<PowerConnection>
  close(): Promise<void>
}

export type PowerDriver = {
  readonly name: DriverName
  readonly capabilities: readonly Capability[]
  start(parts: DriverParts): RunningDriver
}
