/** Machines without a BMC: a person switches them, and evidence (a DHCP packet, a callback) says that it was done. */
import {PowerFault} from '../fault.ts'
import type {PowerDriver} from './driver.ts'

export const manualDriver = {
  name: 'manual',
  capabilities: [],
  start: () => ({
    key: target => `manual:${target.machineId}`,
    async connect() {
      throw new PowerFault('cannot', 'a machine that is driven by hand has nothing to connect to')
    },
    close: () => Promise.resolve(),
  }),
} as const satisfies PowerDriver
