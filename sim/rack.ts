/** Many simulated machines with their BMCs, all in this process, each at addresses of its own. */
import {type Ipv4, intToIpv4, ipv4ToInt, type Mac} from '../lib/addresses.ts'
import type {Chance} from './chance.ts'
import type {FaultMix} from './faults.ts'
import {createMachine, type Machine, type Make, QUICK, type Times} from './machine.ts'
import {BMC_PASSWORD, BMC_USER, type MachineBmc, startMachineBmc} from './machine-bmc.ts'
import {type Dice, openRelay, type Relay} from './wire.ts'

export type RackOptions = {
  readonly count: number
  readonly random: Chance
  /** Asked at every throw of the dice, so that a mix may change while they live. */
  readonly mix: () => FaultMix
  readonly times?: Times
  /** Names and addresses begin here, so that several racks fit beside each other. */
  readonly first?: number
  readonly relay: Ipv4
  /** Where the relay sends requests to. */
  readonly servers: readonly Ipv4[]
  /** The first address of their BMCs; one each from there on. */
  readonly bmcs: Ipv4
}

export type Unit = {readonly machine: Machine; readonly bmc: MachineBmc}

export type Rack = {
  readonly units: readonly Unit[]
  readonly relay: Relay
  /** What declares a unit to Ingot. */
  declaration(unit: Unit, prefix: string): Record<string, unknown>
  /** Everything off, sockets closed. */
  close(): Promise<void>
}

export async function createRack(options: RackOptions): Promise<Rack> {
  const {count, random, mix, first = 0, times = QUICK} = options
  const relay = await openRelay(options.relay, options.servers)
  const units: Unit[] = []
  for (let index = first; index < first + count; index++) {
    const own = random.fork('machine', index)
    const address = intToIpv4(ipv4ToInt(options.bmcs) + index - first)
    const make = makeOf(index, own, address, times)
    const dice = diceOf(own, mix)
    const machine = createMachine(make, dice, relay.wire(`eth${index}`))
    units.push({machine, bmc: await startMachineBmc(machine, address, diceOf(own.fork('bmc'), mix))})
  }
  return {
    units,
    relay,
    declaration: ({machine: {make}}, prefix) => ({
      name: make.name,
      macs: [make.mac],
      serial: make.serial,
      dmi_uuid: make.uuid,
      firmware: make.firmware,
      prefix,
      bmc: {driver: 'ipmi', address: make.bmc?.address, username: BMC_USER, password: BMC_PASSWORD},
    }),
    async close() {
      await Promise.all(units.map(({machine}) => machine.stop()))
      await Promise.all(units.map(({bmc}) => bmc.stop()))
      await relay.close()
    },
  }
}

function diceOf(random: Chance, mix: () => FaultMix): Dice {
  return {
    random,
    get mix() {
      return mix()
    },
  }
}

function makeOf(index: number, random: Chance, bmc: Ipv4, times: Times): Make {
  const hex = index.toString(16).padStart(8, '0')
  const pairs = hex.match(/../g) ?? []
  return {
    name: `sim-${String(index).padStart(5, '0')}`,
    mac: `52:54:${pairs.join(':')}` as Mac,
    serial: `SIM${hex.toUpperCase()}`,
    uuid: `1a60711a-0000-4000-8000-0000${hex}`,
    firmware: random.chance(0.5) ? 'uefi' : 'bios',
    rom: random.chance(0.5) ? 'pxe' : 'ipxe',
    bmc: {address: bmc, mac: `02:54:${pairs.join(':')}` as Mac},
    times,
  }
}
