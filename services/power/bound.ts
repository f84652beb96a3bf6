/** Puts a boundary around every order that changes a machine, so that tests can let a process die before or after any of them. */
import type {Boundary} from '../../lib/boundary.ts'
import type {Power} from './index.ts'

export function boundPower(power: Power, boundary: Boundary | undefined): Power {
  if (!boundary) return power
  return {
    ...power,
    on: (...order) => boundary('power on', () => power.on(...order)),
    off: (...order) => boundary('power off', () => power.off(...order)),
    softOff: (...order) => boundary('power soft off', () => power.softOff(...order)),
    cycle: (...order) => boundary('power cycle', () => power.cycle(...order)),
    setBootDevice: (...order) => boundary('power boot device', () => power.setBootDevice(...order)),
  }
}
