/** The addresses of a prefix that its own settings take: gateway, DNS servers, boot service, relays, and what people excluded. Pure. */
import type {Cidr} from '../../lib/addresses.ts'
import {type IpAddress, spanContains, wholeSpan} from './integers.ts'
import {bootAddressOf, type CheckedSettings} from './prefix-input.ts'

/** Names of holders that only ipam itself gives; `excluded` and `declined` may be freed by people. */
export const OWN_HOLDERS = ['gateway', 'dns', 'boot', 'relay', 'excluded', 'declined'] as const
/** Those that follow the prefix's settings. */
export const SETTING_HOLDERS: readonly string[] = [
  'gateway',
  'dns',
  'boot',
  'relay',
] satisfies readonly (typeof OWN_HOLDERS)[number][]

export type Hold = {readonly address: IpAddress; readonly holder: string; readonly reason: string}

type Held = Pick<CheckedSettings, 'gateway' | 'dns' | 'boot_url' | 'relays'> & {
  readonly cidr: Cidr
  readonly exclude?: readonly IpAddress[]
}

/** One hold an address. Who excluded it keeps it: that lasts when settings change. */
export function settingHolds(prefix: Held): readonly Hold[] {
  const boot = bootAddressOf(prefix.boot_url)
  const wanted: Hold[] = [
    ...(prefix.exclude ?? []).map(address => ({address, holder: 'excluded', reason: 'excluded from the prefix'})),
    ...(prefix.gateway ? [{address: prefix.gateway, holder: 'gateway', reason: 'gateway'}] : []),
    ...(boot ? [{address: boot, holder: 'boot', reason: 'boot service'}] : []),
    ...prefix.dns.map(address => ({address, holder: 'dns', reason: 'DNS server'})),
    ...prefix.relays.map(address => ({address, holder: 'relay', reason: 'DHCP relay'})),
  ]
  const span = wholeSpan(prefix.cidr)
  const grouped = Map.groupBy(
    wanted.filter(hold => spanContains(span, hold.address)),
    hold => hold.address,
  )
  return [...grouped].map(([address, holds]) => ({
    address,
    holder: holds[0]?.holder ?? 'excluded',
    reason: holds.map(hold => hold.reason).join(', '),
  }))
}
