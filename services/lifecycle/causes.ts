/**
 * Every cause that a job can end with, as one table: what it means, what to do about it, and whether another attempt by itself can help.
 * A cause is a code; its detail says what happened here, and names the evidence. docs/causes.md is generated from this. Pure.
 */
import type {JobCause} from '../../lib/schema.ts'

export type CauseRow = {
  readonly meaning: string
  readonly mend: string
  /** whether the next attempt, begun without anybody having done anything, may well succeed */
  readonly again: boolean
}

const LOOK = 'Look at `ingot events` for this machine, then retry.'

export const CAUSES = {
  // The machine on the network.
  NO_DHCP: {
    meaning: 'it was powered on but no netboot packet of it was seen',
    mend: 'Check that it boots from the network first, its cabling, and that no port waits for STP or LACP.',
    again: true,
  },
  BOOT_ORDER_DISK: {
    meaning: 'it was to boot from the network but booted its disk: the system on it asked for an address',
    mend: 'Put the network first in its boot order, or mend the BMC’s boot device order; then retry.',
    again: true,
  },
  DHCP_OTHER_SERVER: {
    meaning: 'it took the answer of another DHCP server',
    mend: 'Find that server by its address and keep it off this network; then retry.',
    again: false,
  },
  NO_SCRIPT: {
    meaning: 'it asked for an address but never fetched its boot script',
    mend: '`ingot explain <machine>` shows what it was offered; look for another DHCP server, and at the boot URL.',
    again: true,
  },
  LOADER_LOOP: {
    meaning: 'it fetched its installer a second time without having written its disk',
    mend: 'Look at its console: the ramdisk crashed or was reset. The disk was not touched by the second boot.',
    again: true,
  },
  RAMDISK_SILENT: {
    meaning: 'it fetched its boot script but the ramdisk did not report',
    mend: 'Look at its console; a driver for its network card may be missing from the ramdisk.',
    again: true,
  },
  NO_PHONE_HOME: {
    meaning: 'the disk was written but the installed system did not phone home',
    mend: 'Look at its console; check its address and gateway, and that firmware boots the disk.',
    again: true,
  },
  // The claim.
  NO_CLAIM: {
    meaning: 'the ramdisk came up but did not claim the job',
    mend: 'Look at its console, then retry.',
    again: true,
  },
  SECOND_CLAIM: {
    meaning: 'the job was claimed a second time',
    mend: 'Somebody on the boot network may forge this machine. Find out who, then retry.',
    again: false,
  },
  // Disks and images, as the ramdisk reports them.
  RAMDISK_FAILED: {
    meaning: 'the ramdisk reported a failure that it has no code for',
    mend: 'Read the ramdisk’s log in `ingot events`, mend the hardware it names, then retry.',
    again: true,
  },
  DISK_NOT_FOUND: {
    meaning: 'there is no such disk in it, or none at all',
    mend: 'Compare the rule with the disks in its facts (`ingot machines show <machine>`); check cabling and RAID mode.',
    again: false,
  },
  DISK_TOO_SMALL: {
    meaning: 'the image does not fit onto the disk',
    mend: 'Name another disk, or use a smaller image.',
    again: false,
  },
  DISK_SECTOR_SIZE: {
    meaning: 'the disk’s sectors have another size than the image was made for',
    mend: 'Name another disk, or format it to 512-byte sectors.',
    again: false,
  },
  WIPE_FAILED: {
    meaning: 'a disk could not be zeroed, or did not read back as zero',
    mend: 'Replace the disk that is named; its contents are not proven gone.',
    again: false,
  },
  WIPE_OVERDUE: {
    meaning: 'the wipe did not end',
    mend: 'Look at the disks; a failing disk can take days.',
    again: true,
  },
  WRITE_FAILED: {
    meaning: 'the image could not be written, or not be read back',
    mend: 'Replace the disk that is named, or name another; then retry.',
    again: true,
  },
  WRITE_OVERDUE: {
    meaning: 'the image was not written in time',
    mend: 'Look at the progress events and the disk.',
    again: true,
  },
  IMAGE_CHECKSUM: {
    meaning: 'bytes of the image do not have the digest that its manifest names',
    mend: '`ingot images list` checks what is stored here; look for a network that changes bytes.',
    again: true,
  },
  IMAGE_INVALID: {
    meaning: 'the image’s manifest or data cannot be read',
    mend: 'Build the image again with `ingot images build`.',
    again: false,
  },
  IMAGE_UNAVAILABLE: {
    meaning: 'the boot service does not have the image’s bytes',
    mend: '`ingot images list` on each host that serves boots; copy the image there.',
    again: false,
  },
  IMAGE_UNREACHABLE: {
    meaning: 'the image’s bytes could not be fetched',
    mend: 'Look at the network between machine and boot service, then retry.',
    again: true,
  },
  CONFIG_FAILED: {
    meaning: 'this machine’s own files could not be put into the written image',
    mend: 'Look at the ramdisk’s log; the image may have no ext4 root file system.',
    again: false,
  },
  LOCAL_BOOT_UNSET: {
    meaning: 'booting from disk was not set',
    mend: 'Look at the ramdisk’s log, then retry.',
    again: true,
  },
  // Burn-in and stays.
  TEST_MEMORY: {meaning: 'memory gave back other bytes than were written', mend: 'Replace the memory.', again: false},
  TEST_CPU: {meaning: 'a processor computed one thing twice and got two results', mend: 'Replace the processor.', again: false},
  TEST_DISK: {meaning: 'a disk could not be read', mend: 'Replace the disk that is named.', again: false},
  TEST_TOO_SLOW: {
    meaning: 'it did not reach a speed that was asked for',
    mend: 'Compare it with machines of its model (`ingot machines show <machine>`); look for throttling and failing disks.',
    again: false,
  },
  TEST_FAILED: {meaning: 'the burn-in ended without a result', mend: 'Look at its console and the ramdisk’s log.', again: false},
  TEST_OVERDUE: {
    meaning: 'the burn-in did not end',
    mend: 'Look at its console: it may have hung under load.',
    again: false,
  },
  RESULTS_STUCK: {meaning: 'the results could not be recorded', mend: LOOK, again: false},
  RAMDISK_NOT_READY: {
    meaning: 'the ramdisk came up but did not say that it stays',
    mend: 'Look at its console, then retry.',
    again: true,
  },
  TOOLS_DIGEST: {meaning: 'the SSH server came with another digest', mend: 'Run `ingot images build` again.', again: true},
  TOOLS_BROKEN: {meaning: 'the SSH server could not be unpacked', mend: 'Run `ingot images build` again.', again: false},
  SSH_FAILED: {
    meaning: 'the SSH server did not start',
    mend: 'Ask again without keys and use the console; report the ramdisk’s log.',
    again: false,
  },
  STAY_OVERDUE: {
    meaning: 'nobody ended the stay in the ramdisk',
    mend: 'Retry, and `ingot leave <machine>` when the work is done.',
    again: false,
  },
  NOT_LEFT: {meaning: 'it did not leave the ramdisk', mend: 'Boot it from its disk by hand, then retry.', again: false},
  // Power.
  BMC_LIES: {
    meaning: 'the BMC took the order again and again, and its effect was never seen',
    mend: 'Reset the BMC (`mc reset cold`), look at the machine, then retry; [firmware quirks](firmware-quirks.md) has known ones.',
    again: true,
  },
  POWER_FAILED: {
    meaning: 'the power order was not carried out in time',
    mend: 'See `ingot power status <machine>`; check the BMC.',
    again: true,
  },
  POWER_OFF_UNPROVEN: {meaning: 'it was not seen off', mend: 'Switch it off by hand, then retry.', again: true},
  POWER_UNPROVEN: {meaning: 'power control could not be proven', mend: LOOK, again: true},
  POWER_UNREACHABLE: {
    meaning: 'the BMC did not answer until the phase’s deadline',
    mend: 'Check its address, cabling and the power network; `ingot power status <machine>` tries again.',
    again: true,
  },
  POWER_AUTH: {
    meaning: 'the BMC refused the credentials',
    mend: 'Set the right ones with `ingot machines set-bmc`, then retry.',
    again: false,
  },
  POWER_UNSUPPORTED: {meaning: 'the power driver cannot do this', mend: 'Use another driver, or do it by hand.', again: false},
  // Ingot itself, and people.
  PLAN_STUCK: {meaning: 'the plan was never taken up', mend: 'Check that a worker runs (`--services`), then retry.', again: true},
  NETWORK_STUCK: {meaning: 'its addresses could not be confirmed', mend: LOOK, again: true},
  ADDRESS_LOST: {
    meaning: 'an address of the plan is no longer held by this machine',
    mend: 'Clean it and provision it again: that makes a new plan.',
    again: false,
  },
  FREE_STUCK: {meaning: 'its addresses could not be freed', mend: LOOK, again: true},
  NO_FACTS: {meaning: 'no facts arrived', mend: 'Look at its console and the ramdisk’s log, then retry.', again: true},
  HANDOFF_OVERDUE: {meaning: 'the handoff did not end', mend: 'Look at the handoff’s output, then retry.', again: false},
  WITHDRAW_OVERDUE: {meaning: 'whoever it was handed over to could not be told in time', mend: LOOK, again: true},
  STEP_TIMEOUT: {meaning: 'a step of Ingot’s own was not done in its time', mend: LOOK, again: true},
  STEP_WITHHELD: {
    meaning: 'a step was withheld, again and again: the worker ran out of time, or lost the job',
    mend: 'Look at the load of the workers and at PostgreSQL, then retry.',
    again: true,
  },
  STEP_FAILED: {
    meaning: 'a step of Ingot’s own failed',
    mend: 'Look for the job in the log and report it; then retry.',
    again: true,
  },
  INTERNAL: {meaning: 'Ingot itself failed', mend: 'Look for the job in the log and report it; then retry.', again: false},
  CANCELLED: {meaning: 'somebody cancelled it', mend: 'Retry, clean or inspect the machine.', again: false},
  HOLD_EXPIRED: {
    meaning: 'it was held for longer than was said',
    mend: 'Retry; hold it again if that is what you want.',
    again: false,
  },
  SAME_MACHINE: {
    meaning: 'it is another interface of a machine that was inspected',
    mend: 'Nothing is to be done.',
    again: false,
  },
} as const satisfies Record<string, CauseRow>

export type CauseCode = keyof typeof CAUSES

/** What a fault of a service is called once it has ended an attempt. */
const AS_CAUSE: Readonly<Record<string, CauseCode>> = {POWER_UNCONFIRMED: 'BMC_LIES', IMAGE_DIGEST: 'IMAGE_CHECKSUM'}

/** @param evidence ids of what shows it */
export function cause(code: CauseCode, detail: string = CAUSES[code].meaning, evidence: readonly number[] = []): JobCause {
  return {code, detail, mend: CAUSES[code].mend, ...(evidence.length > 0 ? {evidence} : {})}
}

/** A cause out of what a step, a ramdisk or a handoff said. One that is not in the table keeps its own words. */
export function causeSaid(
  said: {readonly code?: unknown; readonly detail?: unknown; readonly mend?: unknown},
  fallback: CauseCode,
  evidence: readonly number[] = [],
): JobCause {
  const given = textOf(said.code) ?? fallback
  const code = AS_CAUSE[given] ?? given
  const row = rowOf(code)
  const mend = row?.mend ?? textOf(said.mend) ?? CAUSES[fallback].mend
  const detail = textOf(said.detail) ?? row?.meaning ?? CAUSES[fallback].meaning
  return {code, detail, mend, ...(evidence.length > 0 ? {evidence} : {})}
}

/** Whether an attempt that ended so may be followed by another. What nobody knows may. */
export function canHelp(code: string): boolean {
  return rowOf(code)?.again ?? true
}

function rowOf(code: string): CauseRow | undefined {
  return Object.hasOwn(CAUSES, code) ? CAUSES[code as CauseCode] : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
