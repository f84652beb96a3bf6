/** The acts of a power driver, as IPMI commands over one session. */
import type {PowerConnection} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Bmc} from './bmc.ts'
import {readBootDevice, setBootDevice} from './boot-device.ts'
import {CHASSIS_CONTROL, COMMANDS, COMPLETION, readChassisStatus} from './commands.ts'
import {type DeviceId, readDeviceId} from './device-id.ts'
import {clearEvents, readEvents} from './event-log.ts'
import {expectDone, expectReadable} from './expect.ts'
import {readFrus} from './fru.ts'
import {type Repository, readRepository, readSensors} from './sensors.ts'

export type ConnectionParts = {
  readonly bmc: Bmc
  /** Devices and repositories that this process has read already, by BMC. */
  readonly seen: {readonly devices: Map<string, DeviceId>; readonly repositories: Map<string, Repository>}
}

export function createConnection({bmc, seen}: ConnectionParts): PowerConnection {
  const {session, key, memory} = bmc

  /** Asked once a process and BMC, as firmware is updated now and then. A BMC that does not say who it is works all the same. */
  async function introduce(): Promise<DeviceId | undefined> {
    const known = seen.devices.get(key)
    if (known) return known
    const reply = await session.command(COMMANDS.getDeviceId, [])
    const device = reply.completion === 0 ? readDeviceId(reply.data) : undefined
    if (!device) return undefined
    seen.devices.set(key, device)
    const {support: _support, ...said} = device
    memory.remember(key, {device: said})
    return device
  }

  async function repository(): Promise<Repository> {
    const known = seen.repositories.get(key)
    const read = await readRepository(bmc, await introduce(), known)
    seen.repositories.set(key, read)
    return read
  }

  /** A log can be read without its sensors' names; what fell silent stays a fault. */
  async function sensorNames(): Promise<ReadonlyMap<number, string>> {
    try {
      const {records} = await repository()
      return new Map(records.flatMap(record => (record.kind === 'sensor' ? [[record.number, record.name] as const] : [])))
    } catch (error) {
      if (error instanceof PowerFault && (error.kind === 'cannot' || error.kind === 'refused')) return new Map()
      throw error
    }
  }

  return {
    async status() {
      const data = expectDone(COMMANDS.getChassisStatus, await session.command(COMMANDS.getChassisStatus, []))
      const reading = expectReadable(COMMANDS.getChassisStatus, readChassisStatus(data))
      return {state: reading.on ? 'on' : 'off', faults: reading.faults}
    },

    async order(order, guard) {
      await introduce()
      const reply = await session.command(COMMANDS.chassisControl, [CHASSIS_CONTROL[order]], guard)
      if (reply.completion === COMPLETION.notInThisState) return 'not_now'
      expectDone(COMMANDS.chassisControl, reply)
      return 'taken'
    },

    async setBootDevice(choice, guard) {
      await introduce()
      return setBootDevice(bmc, choice, guard)
    },
    bootDevice: () => readBootDevice(bmc),

    async identify(seconds, guard) {
      const data = [Math.max(0, Math.min(255, Math.round(seconds)))]
      expectDone(COMMANDS.chassisIdentify, await session.command(COMMANDS.chassisIdentify, data, guard))
    },

    async device() {
      seen.devices.delete(key)
      const device = await introduce()
      if (!device) throw new PowerFault('cannot', 'the BMC does not say what it is')
      const {support: _support, ...said} = device
      return said
    },
    async events(limit) {
      const names = await sensorNames()
      return readEvents(bmc, limit, number => names.get(number))
    },
    clearEvents: guard => clearEvents(bmc, guard),
    sensors: async () => readSensors(bmc, await repository()),
    fru: async () => readFrus(bmc, await repositoryOrNone(repository)),

    close: () => session.close(),
  }
}

/** The built-in FRU is there without any record. */
async function repositoryOrNone(repository: () => Promise<Repository>): Promise<Repository> {
  try {
    return await repository()
  } catch (error) {
    if (error instanceof PowerFault && (error.kind === 'cannot' || error.kind === 'refused')) return {stamp: '', records: []}
    throw error
  }
}
