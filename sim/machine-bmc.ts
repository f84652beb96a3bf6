/** A machine's BMC: real IPMI 2.0 packets at an address of its own, that switch the simulated machine; with the faults of its mix. */
import type {Ipv4} from '../lib/addresses.ts'
import {sleep} from '../lib/clock.ts'
import {type SimulatedBmc, startBmc} from './bmc/index.ts'
import type {Machine} from './machine.ts'
import type {Dice} from './wire.ts'

export const BMC_USER = 'ingot'
/** A canary too: it may be found in no log, argument or environment. */
export const BMC_PASSWORD = 'canary-bmc-pw-4711'

export type Order = {readonly order: 'off' | 'on' | 'other'; readonly from: string; readonly atMs: number}

export type MachineBmc = {
  readonly bmc: SimulatedBmc
  /** Orders that change power, with the address of the host that sent each; retransmissions count once. */
  readonly orders: readonly Order[]
  /** Told of each order as it is carried out. */
  onOrder: ((order: Order) => void) | undefined
  stop(): Promise<void>
}

const CHASSIS = 0
const CONTROL = 2
const ORDERS = ['off', 'on'] as const
const FROM_NETWORK = 1
/** How long a BMC that stalls says nothing. */
const STALL_MS = {least: 2_000, most: 12_000} as const

export async function startMachineBmc(machine: Machine, address: Ipv4, dice: Dice): Promise<MachineBmc> {
  const {random} = dice
  const orders: Order[] = []
  const ended = new AbortController()
  let order: Order['order'] | undefined
  const bmc = await startBmc({
    address,
    port: 623,
    users: {[BMC_USER]: {password: BMC_PASSWORD}},
    // A process that was killed leaves its session open, and a real BMC forgets it after a minute.
    maxSessions: 1_000,
    quiet: true,
    serial: machine.make.serial,
    onPower(power) {
      if (power === 0) return machine.powerOff()
      if (bmc.takeBootDevice() === FROM_NETWORK) machine.bootFromNetwork()
      machine.powerOn()
    },
  })
  machine.onPoweredOff = () => {
    bmc.power = 0
  }

  const own: MachineBmc = {
    bmc,
    orders,
    onOrder: undefined,
    stop() {
      ended.abort()
      return bmc.stop()
    },
  }
  bmc.answer = ({netFn, command, data}) => {
    order = undefined
    if (random.chance(dice.mix.bmc_stalls)) {
      bmc.stalled = true
      void sleep(random.integer(STALL_MS.least, STALL_MS.most), ended.signal).then(() => {
        bmc.stalled = false
      })
      return 'silence'
    }
    if (netFn !== CHASSIS || command !== CONTROL) return undefined
    order = ORDERS[(data[0] ?? 0) & 15] ?? 'other'
    if (!random.chance(dice.mix.bmc_lies)) return undefined
    machine.note('bmc_lied', {order})
    return Buffer.from([0])
  }
  bmc.mangle = (datagram, to) => {
    // Only here is it told who asked: the answer to an order goes back to whoever sent it.
    if (order) {
      const given = {order, from: to.address, atMs: performance.now()}
      orders.push(given)
      own.onOrder?.(given)
    }
    order = undefined
    // Lost on its way here, or on its way back: for whoever asked it is the same.
    return random.chance(2 * dice.mix.bmc_lost) ? [] : [datagram]
  }
  return own
}
