/**
 * What a power driver is: a way to reach one machine's power, in primitive acts. Reading back, waiting, idempotence, queueing and
 * circuit breaking are the façade's, the same for every driver.
 */
import type {Clock} from '../../../lib/clock.ts'
import type {Log} from '../../../lib/log.ts'
import type {Secret} from '../../../lib/secret.ts'
import type {Guard} from '../guard.ts'
import type {PowerMemory} from '../memory.ts'
import type {Timers} from '../timers.ts'

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

/** Which controller it is, by its own word. */
export type BmcDevice = {
  readonly manufacturer_id: number
  readonly manufacturer: string | null
  readonly product_id: number
  readonly firmware: string
  readonly device_id: number
  readonly device_revision: number
  readonly ipmi: string
}

/** A line of the BMC's own event log. `at` and `since_start_s` are both null where the BMC knew no time. */
export type LogEntry = {
  readonly id: number
  readonly at: Date | null
  readonly since_start_s: number | null
  readonly sensor: string | null
  readonly sensor_type: string
  readonly text: string
  readonly asserted: boolean | null
  /** The record itself, for who knows more. */
  readonly raw: string
}

export type EventLog = {
  /** Oldest first; the newest `limit` of them. */
  readonly entries: readonly LogEntry[]
  readonly total: number
  readonly free_bytes: number
  /** Events were lost because the log was full. */
  readonly overflow: boolean
}

export type SensorReading = {
  readonly name: string
  readonly number: number
  readonly type: string
  readonly value: number | null
  readonly unit: string | null
  readonly status: 'ok' | 'warning' | 'critical' | 'unavailable'
  readonly states: readonly string[]
  readonly thresholds: Readonly<
    Partial<
      Record<
        | 'lower_non_critical'
        | 'lower_critical'
        | 'lower_non_recoverable'
        | 'upper_non_critical'
        | 'upper_critical'
        | 'upper_non_recoverable',
        number
      >
    >
  >
}

export type FruArea = 'chassis' | 'board' | 'product'
export type FruInventory = {
  readonly id: number
  readonly name: string
  readonly areas: Readonly<Partial<Record<FruArea, Readonly<Record<string, string>>>>>
  /** Areas whose checksum is wrong: nothing of them is shown. */
  readonly broken: readonly FruArea[]
}

export type BootReading = {readonly device: BootDevice | undefined; readonly valid: boolean} & Omit<BootChoice, 'device'>

/** What a driver can do by itself; what is missing is for a person. */
export type Capability = 'status' | 'power' | 'soft_off' | 'boot_device' | 'identify' | 'device' | 'events' | 'sensors' | 'fru'

/** One conversation with one BMC. Every call may throw a `PowerFault`, or the reason of the signal it was opened with. */
export type PowerConnection = {
  status(): Promise<Reading>
  /** @returns `not_now` when the BMC says that its state forbids it; only the state read afterwards tells what that means */
  order(order: PowerOrder, guard: Guard): Promise<'taken' | 'not_now'>
  /** Writes the choice and reads it back. Another device than the one asked for is a fault. */
  setBootDevice(choice: BootChoice, guard: Guard): Promise<{readonly notKept: readonly NotKept[]}>
  bootDevice(): Promise<BootReading>
  /** @param seconds 0 switches the light off */
  identify(seconds: number, guard: Guard): Promise<void>
  device(): Promise<BmcDevice>
  events(limit: number): Promise<EventLog>
  /** Empties the log and reads back that it is empty. @returns how many entries went */
  clearEvents(guard: Guard): Promise<number>
  sensors(): Promise<readonly SensorReading[]>
  fru(): Promise<readonly FruInventory[]>
  /** Never throws, and works after the signal has aborted. */
  close(): Promise<void>
}

export type DriverParts = {
  readonly log: Log
  readonly clock: Clock
  readonly timers: Timers
  readonly memory: PowerMemory
  readonly retransmitMs: readonly number[]
}

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
