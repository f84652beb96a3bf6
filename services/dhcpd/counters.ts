/** Counts by name and label, kept in the process and passed on to whatever metrics the root injects. */

/** `option_left_out` is labelled with the code that found no room (82 included), `ignored` with a reason, `sent` with the type. */
export type DhcpCounter =
  | 'received'
  | 'ignored'
  | 'sent'
  | 'send_failed'
  | 'option_left_out'
  | 'bind'
  | 'lease_port_failed'
  | 'sighting_dropped'
  | 'router_advertisement'
  /** By kind: every time, and those whose alert was left out as there were too many of its kind. */
  | 'alert'
  | 'alert_dropped'

export type DhcpMetrics = {count(counter: DhcpCounter, label: string): void}

export type Counters = {
  add(counter: DhcpCounter, label?: string): void
  /** `ignored.unknown_mac` → 17 */
  read(): ReadonlyMap<string, number>
}

export function createCounters(metrics?: DhcpMetrics): Counters {
  const counts = new Map<string, number>()
  return {
    add(counter, label = '') {
      const name = label === '' ? counter : `${counter}.${label}`
      counts.set(name, (counts.get(name) ?? 0) + 1)
      metrics?.count(counter, label)
    },
    read: () => counts,
  }
}
