/** Power without BMCs: it keeps each machine's state, writes down every order, and can be told to fail or to be slow. */
import type {Power, VerbOptions} from '../../services/power/index.ts'

type BmcDetails = Pick<Power, 'bootDevice' | 'device' | 'events' | 'clearEvents' | 'sensors' | 'fru'>

/** What a BMC knows of itself, for doubles that know nothing. */
export const noBmcDetails: BmcDetails = (() => {
  const byHand = async () => ({done: 'by_hand' as const, please: 'Look at it.'})
  return {bootDevice: byHand, device: byHand, events: byHand, clearEvents: byHand, sensors: byHand, fru: byHand}
})()

const someBmcDetails: BmcDetails = {
  bootDevice: async () => ({done: 'seen', device: 'pxe', valid: true, firmware: 'bios', persistent: false}),
  device: async () => ({
    done: 'seen',
    device: {
      manufacturer_id: 343,
      manufacturer: 'Intel',
      product_id: 1,
      firmware: '1.10',
      device_id: 32,
      device_revision: 1,
      ipmi: '2.0',
    },
    quirks: [],
  }),
  events: async () => ({done: 'seen', entries: [], total: 0, free_bytes: 4096, overflow: false}),
  clearEvents: async () => ({done: 'seen', cleared: 0}),
  sensors: async () => ({
    done: 'seen',
    sensors: [
      {
        name: 'Inlet',
        number: 1,
        type: 'Temperature',
        value: 21,
        unit: '°C',
        status: 'ok',
        states: [],
        thresholds: {upper_critical: 45},
      },
    ],
  }),
  fru: async () => ({done: 'seen', inventories: [{id: 0, name: 'Board', areas: {board: {serial: 'B1'}}, broken: []}]}),
}

export function createPowerDouble(onOn: (machineId: string) => void, onOff: (machineId: string) => void) {
  const states = new Map<string, 'on' | 'off'>()
  const calls: string[] = []
  let failure: Error | undefined
  let delay: ((name: string, machineId: string) => Promise<unknown>) | undefined
  const ask = async (name: string, machineId: string) => {
    await delay?.(name, machineId)
    calls.push(`${name} ${machineId}`)
    if (failure) throw failure
  }
  /** As the real one does, it asks right before the order leaves. @returns whether it left */
  const order = async (name: string, machineId: string, options: VerbOptions | undefined) => {
    await delay?.(name, machineId)
    if (options?.mayAct && !options.mayAct()) {
      calls.push(`withheld ${name} ${machineId}`)
      return false
    }
    calls.push(`${name} ${machineId}`)
    if (failure) throw failure
    return true
  }
  const power: Power = {
    async status(target) {
      await ask('status', target.machineId)
      return {state: states.get(target.machineId) ?? 'off', faults: [], at: new Date()}
    },
    async on(target, options) {
      if (!(await order('on', target.machineId, options))) return {done: 'withheld', sent: false}
      const changed = states.get(target.machineId) !== 'on'
      states.set(target.machineId, 'on')
      onOn(target.machineId)
      return {done: 'seen', state: 'on', changed}
    },
    async off(target, options) {
      if (!(await order('off', target.machineId, options))) return {done: 'withheld', sent: false}
      const changed = states.get(target.machineId) === 'on'
      states.set(target.machineId, 'off')
      onOff(target.machineId)
      return {done: 'seen', state: 'off', changed}
    },
    softOff: (target, options) => power.off(target, options),
    async cycle(target, options) {
      await power.off(target, options)
      return power.on(target, options)
    },
    async setBootDevice(target, device, _how, options) {
      if (!(await order(`boot ${device}`, target.machineId, options))) return {done: 'withheld', sent: false}
      return {done: 'seen', device, notKept: []}
    },
    async identify(target, seconds = 15) {
      await ask('identify', target.machineId)
      return {done: 'seen', seconds}
    },
    ...someBmcDetails,
    async close() {
      states.clear()
    },
  }
  return {
    power,
    calls,
    observe: (machineId: string, state: 'on' | 'off') => states.set(machineId, state),
    fail(error: Error | undefined) {
      failure = error
    },
    /** Makes every verb wait before it does anything. */
    delay(wait: typeof delay) {
      delay = wait
    },
  }
}
