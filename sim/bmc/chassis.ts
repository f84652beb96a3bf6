/**
 * The machine behind a BMC: its power, its boot flags, and what becomes of orders.
 *
 * `obeys` does what it is told; `deaf` takes orders and does nothing; `lies` takes them, does nothing, and then says that it did.
 */

export type ChassisManners = 'obeys' | 'deaf' | 'lies'

export type ChassisOptions = {
  readonly manners?: ChassisManners | undefined
  /** How many status readings an order takes to have its effect. */
  readonly slowPolls?: number | undefined
  /** How long an order takes to have its effect. */
  readonly slowMs?: number | undefined
  /** Flags of data byte 1 of the boot flags that it keeps. */
  readonly keptBootFlags?: number | undefined
  /** Boot parameters other than 5 that it refuses. */
  readonly refusedParameters?: readonly number[] | undefined
}

export type Chassis = ReturnType<typeof createChassis>

type Timers = {after(ms: number, run: () => void): () => void}

const NOT_IN_THIS_STATE = 0xd5
const NOT_A_PARAMETER = 0x80
const INVALID_FIELD = 0xcc

export function createChassis(options: ChassisOptions, timers: Timers, onPower: (power: 0 | 1) => void) {
  const boot = Buffer.alloc(5)
  const orders: number[] = []
  let power: 0 | 1 = 0
  let said: 0 | 1 | undefined
  let pending: {power: 0 | 1; polls: number} | undefined
  let cancelSlow: (() => void) | undefined
  let manners = options.manners ?? 'obeys'
  let identify_s = 0

  function setPower(next: 0 | 1): void {
    if (power === next) return
    power = next
    onPower(next)
  }

  function carryOut(next: 0 | 1): void {
    if (manners === 'deaf') return
    if (manners === 'lies') {
      said = next
      return
    }
    if (options.slowMs) {
      cancelSlow?.()
      cancelSlow = timers.after(options.slowMs, () => setPower(next))
      return
    }
    pending = {power: next, polls: options.slowPolls ?? 0}
    if (pending.polls === 0) statusByte()
  }

  function statusByte(): number {
    if (pending && pending.polls-- <= 0) {
      setPower(pending.power)
      pending = undefined
    }
    return said ?? power
  }

  return {
    boot,
    orders,
    get power() {
      return power
    },
    /** As a person presses the button. */
    set power(next: 0 | 1) {
      said = undefined
      setPower(next)
    },
    get manners() {
      return manners
    },
    set manners(next: ChassisManners) {
      manners = next
      said = undefined
    },
    get identify_s() {
      return identify_s
    },
    /** Get Chassis Status. */
    status: () => Buffer.from([0, statusByte(), 0, 0x40]),
    /** Chassis Control: 0 off, 1 on, 2 cycle, 3 reset, 5 soft off. */
    control(order: number): Buffer {
      orders.push(order)
      if (order > 5 || order === 4) return Buffer.from([INVALID_FIELD])
      if ((order === 2 || order === 3) && power === 0) return Buffer.from([NOT_IN_THIS_STATE])
      if (order === 2 || order === 3) return Buffer.from([0])
      carryOut(order === 1 ? 1 : 0)
      return Buffer.from([0])
    },
    identify(data: Buffer): Buffer {
      identify_s = data[1] === 1 ? Number.POSITIVE_INFINITY : (data[0] ?? 15)
      return Buffer.from([0])
    },
    setBootOption(data: Buffer): Buffer {
      const parameter = (data[0] ?? 0) & 0x7f
      if (options.refusedParameters?.includes(parameter)) return Buffer.from([NOT_A_PARAMETER])
      if (parameter === 5) {
        data.copy(boot, 0, 1, 6)
        boot[0] = (boot[0] ?? 0) & (options.keptBootFlags ?? 0xff)
      }
      return Buffer.from([0])
    },
    bootOption: (parameter: number) => Buffer.from(parameter === 5 ? [0, 1, 5, ...boot] : [0, 1, parameter, 0, 0]),
    /** What the firmware does at power-on: takes the override, and forgets it unless it is to stay. */
    takeBootDevice(): number {
      const [flags = 0, selector = 0] = boot
      const device = flags & 0x80 ? (selector >> 2) & 0x0f : 0
      if ((flags & 0x40) === 0) boot.fill(0)
      return device
    },
    stop: () => cancelSlow?.(),
  }
}
