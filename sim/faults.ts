/**
 * What goes wrong with a simulated machine, drawn from its seed: a mix says how often, a draw says what happens in one boot. Pure.
 * Shares are of packets, requests or boots, as named.
 */
import type {Chance} from './chance.ts'

export type FaultMix = {
  /** of DHCP packets, each way */
  readonly packet_lost: number
  /** of HTTP requests that never arrive, and of answers that never come back: the machine asks again */
  readonly request_lost: number
  readonly answer_lost: number
  /** of callbacks that are sent twice at once */
  readonly doubled: number
  /** of callbacks that are sent again, much later, perhaps in another attempt */
  readonly replayed: number
  /** of boots that hang somewhere until power is cycled */
  readonly hangs: number
  /** of boots that reset in the ramdisk and ask for their script again */
  readonly resets: number
  /** of ramdisk boots that report a failure of their hardware */
  readonly breaks: number
  /** of datagrams of a BMC, each way */
  readonly bmc_lost: number
  /** of orders that a BMC acknowledges and does not carry out */
  readonly bmc_lies: number
  /** of commands that a BMC leaves without an answer */
  readonly bmc_stalls: number
}

const NOTHING: FaultMix = {
  packet_lost: 0,
  request_lost: 0,
  answer_lost: 0,
  doubled: 0,
  replayed: 0,
  hangs: 0,
  resets: 0,
  breaks: 0,
  bmc_lost: 0,
  bmc_lies: 0,
  bmc_stalls: 0,
}

/** By name, as they are published. `rack` is what a bad day in a rack looks like; `storm` is what no rack looks like. */
export const MIXES = {
  none: NOTHING,
  wire: {...NOTHING, packet_lost: 0.05, request_lost: 0.03, answer_lost: 0.03, doubled: 0.05, replayed: 0.05, bmc_lost: 0.03},
  rack: {
    packet_lost: 0.02,
    request_lost: 0.01,
    answer_lost: 0.01,
    doubled: 0.01,
    replayed: 0.01,
    hangs: 0.005,
    resets: 0.005,
    breaks: 0.005,
    bmc_lost: 0.01,
    bmc_lies: 0.002,
    bmc_stalls: 0.005,
  },
  storm: {
    packet_lost: 0.1,
    request_lost: 0.05,
    answer_lost: 0.05,
    doubled: 0.1,
    replayed: 0.1,
    hangs: 0.05,
    resets: 0.05,
    breaks: 0.05,
    bmc_lost: 0.05,
    bmc_lies: 0.03,
    bmc_stalls: 0.03,
  },
} as const satisfies Record<string, FaultMix>

export type MixName = keyof typeof MIXES

export const STAGES = ['firmware', 'loader', 'ramdisk', 'working', 'system'] as const
export type Stage = (typeof STAGES)[number]

/** What happens in one boot. */
export type BootFaults = {
  /** the stage at whose beginning it stops for good */
  readonly hangsIn: Stage | null
  /** resets once in the ramdisk, before it claims */
  readonly resets: boolean
  /** what the ramdisk reports instead of finishing */
  readonly breaks: {readonly cause: string; readonly detail: string} | null
}

const BREAKS = [
  {cause: 'DISK_NOT_FOUND', detail: 'no disk matches the rule'},
  {cause: 'WRITE_FAILED', detail: 'input/output error at sector 4711'},
  {cause: 'IMAGE_DIGEST', detail: 'chunk 3 has another digest than the manifest'},
  {cause: 'WIPE_FAILED', detail: 'a sector reads back as it was'},
] as const

/** Every boot draws the same number of times, so that one mix differs from another only in what it asks for. */
export function drawBoot(mix: FaultMix, random: Chance): BootFaults {
  const hangs = random.chance(mix.hangs)
  const stage = random.pick(STAGES)
  const resets = random.chance(mix.resets)
  const breaks = random.chance(mix.breaks)
  const what = random.pick(BREAKS)
  return {hangsIn: hangs ? stage : null, resets, breaks: breaks ? what : null}
}
