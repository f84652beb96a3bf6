/** Tells of dynamic ranges before they are full: dhcpd itself only sees the client that went without. */
import type {Evidence} from '../evidence/index.ts'
import type {Ipam, PrefixWithUse} from '../ipam/index.ts'

const NEARLY_FULL = 0.9
/** Said again this often while it stays so. */
const QUIET_MS = 6 * 3_600_000

export type NearlyFull = {
  readonly cidr: string
  readonly size: number
  readonly held: number
  readonly cooling: number
  readonly free: number
}

/** Addresses that cool down are no more to be had than those that are held. */
export function nearlyFull(prefixes: readonly Pick<PrefixWithUse, 'cidr' | 'utilisation'>[]): readonly NearlyFull[] {
  return prefixes.flatMap(({cidr, utilisation: {dynamic}}): NearlyFull[] => {
    const {size, held, cooling} = dynamic
    const used = held + cooling
    return size > 0 && used >= size * NEARLY_FULL ? [{cidr, size, held, cooling, free: Math.max(size - used, 0)}] : []
  })
}

export async function watchRanges(
  parts: {readonly ipam: Pick<Ipam, 'listPrefixes'>; readonly evidence: Pick<Evidence, 'alert'>},
  now: Date,
): Promise<void> {
  for (const {cidr, ...use} of nearlyFull(await parts.ipam.listPrefixes())) {
    const detail = {because: 'the dynamic range is nearly full: widen it, shorten leases, or close the window', ...use}
    await parts.evidence.alert({at: now, actor: 'ipam', kind: 'range_nearly_full', subject: cidr, detail}, QUIET_MS)
  }
}
