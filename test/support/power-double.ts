/** Power without BMCs: it keeps each machine's state, writes down every order, and can be told to fail or to be slow. */
import type {Power, VerbOptions} from '../../services/power/index.ts'

/** What a BMC knows of itself, for doubles that know nothing. */
export const noBmcDetails = (() => {
  const byHand = async () => ({done: 'by_hand' as const, please: 'Look at it.'})
  return {bootDevice: byHand, device: byHand, events: byHand, clearEvents: byHand, sensors: byHand, fru: byHand}
})()

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
    ...noBmcDetails,
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
