/** The demo's timeline: what happened, when, and why it is believed, one line each, for a person who never saw this before. */
import type {Event} from '../cli/shapes.ts'

const PHASES: Readonly<Record<string, string>> = {
  planned: 'the plan is frozen',
  network_ready: 'its addresses are held',
  power_cycled: 'the BMC switched it off and on, and both were read back',
  dhcp_seen: 'a netboot packet of this machine was seen on the wire',
  loader_fetched: 'it fetched its boot script',
  ramdisk_up: 'the ramdisk reports',
  claimed: 'the ramdisk was granted its one permission to write',
  wiped: 'every disk was wiped and read back',
  disk_written: 'the image is on the disk, partition table last',
  local_boot_set: 'from here on every netboot leads to its own disk',
  first_boot: 'the installed system phoned home',
  facts_recorded: 'its facts are recorded',
  power_proven: 'its BMC, found by inspection, obeys',
  powered_off: 'it was seen off',
  stopped: 'it was seen off before its addresses are freed',
  addresses_freed: 'its host addresses are freed',
  handed_off: 'configuration management has done its part',
}

/** @returns undefined for events that tell nothing new */
export function timelineText(event: Event): {readonly mark: string; readonly text: string; readonly why: string} | undefined {
  const {detail} = event
  switch (event.kind) {
    case 'machine_discovered':
      return {mark: '●', text: `${event.subject} is discovered`, why: `unknown MAC ${String(detail.mac)} inside an open window`}
    case 'state_changed':
      return {mark: '▶', text: `${String(detail.from)} → ${String(detail.to)}`, why: String(detail.because)}
    case 'phase_entered':
      return {mark: '✓', text: String(detail.phase), why: whyOf(String(detail.phase), detail.evidence as Record<string, unknown>)}
    case 'attempt_failed':
    case 'step_failed':
    case 'job_failed':
    case 'quarantined':
      return {mark: '✗', text: event.kind.replace('_', ' '), why: JSON.stringify(detail)}
    default:
      return undefined
  }
}

function whyOf(phase: string, evidence: Record<string, unknown>): string {
  const base = PHASES[phase] ?? phase
  // Not seen by itself: the text of a proof would claim too much.
  if (evidence.implied_by) return `it must have been so: ${String(evidence.implied_by)} was seen`
  const shown = ['stage', 'address', 'method', 'disk', 'bytes', 'bmc', 'state', 'skipped'].flatMap(key =>
    evidence[key] === undefined ? [] : [`${key} ${String(evidence[key])}`],
  )
  return shown.length === 0 ? base : `${base} (${shown.join(', ')})`
}

export function timelineLine(sinceMs: number, mark: string, text: string, why: string): string {
  return `${`${(sinceMs / 1000).toFixed(1)} s`.padStart(9)}  ${mark} ${text.padEnd(28)} ${why}`
}
