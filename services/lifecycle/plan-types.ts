/** The frozen answer to "what will this machine fetch and get", as it is stored with a job. Types only. */
import type {Phase} from './phases.ts'

export type PlanFile = {readonly path: string; readonly mode: number; readonly body: string}

/** What an install writes, all of it fixed when the job was accepted. */
export type InstallPlan = {
  readonly profile: string | null
  readonly template: string
  readonly image: string
  /** SHA-256 of the image's manifest, by which the ramdisk fetches it */
  readonly image_digest: string
  readonly image_lines_digest: string
  readonly disk: string
  readonly hostname: string
  readonly addresses: readonly {readonly address: string; readonly prefix: string; readonly purpose: 'boot' | 'host'}[]
  /** rendered; the first-boot token stands as a placeholder until a claimed session fetches them */
  readonly files: readonly PlanFile[]
  readonly parameters: Readonly<Record<string, unknown>>
  readonly handoff: {readonly kind: string} & Readonly<Record<string, unknown>>
  /** allocations of the install before this one, freed when it has succeeded */
  readonly frees: readonly string[]
  /** networks of that install, given back then; plans of before have none */
  readonly gives_back?: readonly string[]
}

/** What a burn-in does, and what the machine must reach. */
export type TestPlan = {
  /** for each of memory, processors and disks */
  readonly seconds: number
  /** of its free memory */
  readonly memory_percent: number
  readonly min_memory_mb_s: number
  readonly min_cpu_mb_s: number
  readonly min_disk_mb_s: number
}

/** What an install does to disks before it writes: all of them wiped, or those that it does not write to left as they are. */
export type WipePolicy = 'full' | 'fast' | 'preserve'

export type PowerVerb = 'on' | 'off' | 'cycle'

export type JobPlan = {
  readonly phases: readonly Phase[]
  readonly power: 'ipmi' | 'manual'
  /** what the ramdisk is told when it has done its work */
  readonly end: 'poweroff' | 'reboot'
  readonly boot_url: string | null
  readonly window_id: string | null
  readonly install: InstallPlan | null
  readonly wipe: WipePolicy | null
  readonly verb: PowerVerb | null
  /** absent in plans of an earlier version, from here on */
  readonly origin?: {readonly state: string; readonly failed_from: string | null} | null
  readonly test?: TestPlan | null
  /** maker and product, as inspection read them: whose deadlines are learned together */
  readonly model?: string | null
  /** who may log in to a ramdisk that stays */
  readonly ssh_keys?: readonly string[]
}
