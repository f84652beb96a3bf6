/** Publishes what a wire process counts, every few seconds: /metrics belongs to control, and no operator's route to the boot network. */
import {hostname, networkInterfaces} from 'node:os'
import {type Clock, sleep} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {Evidence, WireCount} from '../evidence/index.ts'

const EVERY_MS = 5_000

export function publishCounts(parts: {
  readonly evidence: Pick<Evidence, 'publish'>
  readonly interfaces: readonly string[]
  readonly dhcp: () => ReadonlyMap<string, number>
  readonly tftp: () => Readonly<Partial<Record<string, number>>>
  readonly clock: Clock
  readonly log: Log
}): {stop(): Promise<void>} {
  const stopping = new AbortController()
  const source = [hostname(), ...parts.interfaces].join(' ')
  const loop = publishUntilStopped()

  async function publishUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await publish()
      await sleep(EVERY_MS, stopping.signal)
    }
  }

  async function publish(): Promise<void> {
    try {
      await parts.evidence.publish(source, countsOf(parts.dhcp(), parts.tftp()), addressesOn(parts.interfaces), parts.clock.now())
    } catch (error) {
      parts.log.debug({reason: messageOf(error)}, 'counters could not be published; they are next time')
    }
  }

  return {
    async stop() {
      stopping.abort()
      await loop
    },
  }
}

/** By which DHCP clients know this process. */
function addressesOn(interfaces: readonly string[]): readonly string[] {
  const known = networkInterfaces()
  return interfaces.flatMap(name => (known[name] ?? []).flatMap(({family, address}) => (family === 'IPv4' ? [address] : [])))
}

/** `ignored.unknown_mac` → name `dhcp_ignored`, label `unknown_mac`. */
export function countsOf(
  dhcp: ReadonlyMap<string, number>,
  tftp: Readonly<Partial<Record<string, number>>>,
): readonly WireCount[] {
  const ofDhcp = [...dhcp].map(([key, value]) => {
    const dot = key.indexOf('.')
    return {name: `dhcp_${dot < 0 ? key : key.slice(0, dot)}`, label: dot < 0 ? '' : key.slice(dot + 1), value}
  })
  const ofTftp = Object.entries(tftp).map(([label, value = 0]) => ({name: 'tftp', label, value}))
  return [...ofDhcp, ...ofTftp]
}
