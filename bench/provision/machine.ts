/** The machine as it left the factory, for every run anew: what an earlier run left on its disk or in its firmware decides nothing. */
import {runCommand} from '../../lab/commands.ts'
import {type LabMachine, resetFirmware} from '../../lab/machine.ts'

/** The machine must be off. */
export async function renew(machine: LabMachine): Promise<void> {
  if (machine.isPowered()) throw new Error('the machine is on: it cannot be renewed')
  for (const {path, format, size_bytes} of machine.disks) {
    await runCommand(['qemu-img', 'create', '-q', '-f', format, path, String(size_bytes)])
  }
  resetFirmware(machine.firmware, machine.dir)
}

/** When the chassis was last switched on, by the host's clock. */
export function poweredOnMs(machine: LabMachine): number {
  const on = machine.powerEvents().findLast(({event}) => event.startsWith('on '))
  if (!on) throw new Error('the machine was never switched on')
  return on.at_ms
}
