/** The boot device: chosen by boot options 3, 0, 3, 4, 5, 0, and read back (IPMI 2.0 §28.12–28.13). */
import type {BootChoice, BootReading, NotKept} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Guard} from '../guard.ts'
import type {Quirk} from '../quirks.ts'
import type {Bmc} from './bmc.ts'
import {BOOT_PARAMETER, bootFlags, COMMANDS, completionText, readBootFlags} from './commands.ts'
import {expectDone, expectReadable} from './expect.ts'

/** Parameters that a BMC may lack without harm, with the quirk that says so. */
const OPTIONAL: Readonly<Record<number, Quirk>> = {
  [BOOT_PARAMETER.setInProgress]: 'boot_option_0_refused',
  [BOOT_PARAMETER.clearing]: 'boot_option_3_refused',
  [BOOT_PARAMETER.acknowledge]: 'boot_option_4_refused',
}

const DROPPED = {
  valid: 'boot_valid_dropped',
  persistent: 'boot_persistent_dropped',
  firmware: 'boot_efi_dropped',
} as const satisfies Record<NotKept, Quirk>

/**
 * Parameter 3 = 08 first, outside of the transaction, as the BMC would otherwise drop the choice 60 s after it was made (Table 28-14:
 * "don't clear the valid bit on the command's time-out"); then parameters 0, 3, 4, 5, 0 as a transaction.
 */
export async function setBootDevice(bmc: Bmc, choice: BootChoice, guard: Guard): Promise<{notKept: readonly NotKept[]}> {
  await offer(bmc, [BOOT_PARAMETER.clearing, 0x08], guard)
  await offer(bmc, [BOOT_PARAMETER.setInProgress, 1], guard)
  await offer(bmc, [BOOT_PARAMETER.clearing, 0x08], guard)
  await offer(bmc, [BOOT_PARAMETER.acknowledge, 0x01, 0x01], guard)
  const reply = await bmc.session.command(COMMANDS.setBootOptions, [BOOT_PARAMETER.flags, ...bootFlags(choice)], guard)
  await offer(bmc, [BOOT_PARAMETER.setInProgress, 0], guard)
  expectDone(COMMANDS.setBootOptions, reply)
  return {notKept: await compare(bmc, choice)}
}

export async function readBootDevice({session}: Bmc): Promise<BootReading> {
  const reply = await session.command(COMMANDS.getBootOptions, [BOOT_PARAMETER.flags, 0, 0])
  return expectReadable(COMMANDS.getBootOptions, readBootFlags(expectDone(COMMANDS.getBootOptions, reply)))
}

async function offer(bmc: Bmc, data: readonly [parameter: number, ...rest: number[]], guard: Guard): Promise<void> {
  const quirk = OPTIONAL[data[0]]
  if (quirk && bmc.has(quirk)) return
  const {completion} = await bmc.session.command(COMMANDS.setBootOptions, data, guard)
  if (completion !== 0 && quirk) bmc.learn(quirk, `completion code ${completionText(completion)}`)
}

/** A completion code is no proof: some BMCs take PXE and then ignore it. */
async function compare(bmc: Bmc, choice: BootChoice): Promise<readonly NotKept[]> {
  const reading = await readBootDevice(bmc)
  if (reading.device !== choice.device) {
    const detail = `boot device ${choice.device} was taken, but reads back as ${reading.device ?? 'another'}`
    bmc.learn('boot_device_ignored', detail)
    throw new PowerFault('not_seen', detail)
  }
  const notKept: NotKept[] = []
  if (!reading.valid) notKept.push('valid')
  if (reading.persistent !== choice.persistent) notKept.push('persistent')
  if (reading.firmware !== choice.firmware) notKept.push('firmware')
  for (const part of notKept) {
    const asked = `${choice.device}, ${choice.firmware}, ${choice.persistent ? 'always' : 'once'}`
    bmc.learn(DROPPED[part], `asked for ${asked}`)
  }
  return notKept
}
