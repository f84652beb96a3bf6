/** Options and loaders as they are stored, made ready for dhcpd's snapshot. Pure. */
import {compileOptions, type DhcpScope} from '../dhcpd/index.ts'
import type {DhcpScopeRow} from '../inventory/index.ts'

export type ScopeRow = Pick<DhcpScopeRow, 'prefix_id' | 'machine_id' | 'options' | 'loaders'> & {readonly profile: string | null}

export type CompiledScopes = {
  /** Those of the site and of the prefix; undefined where none is set. */
  ofPrefix(prefixId: string, cidr: string): readonly DhcpScope[] | undefined
  /** Those of the machine's profile and its own. Machines of one profile without their own share one array. */
  ofMachine(machineId: string, name: string): readonly DhcpScope[] | undefined
}

/** @param profiles the profile's name by machine */
export function compileScopes(rows: readonly ScopeRow[], profiles: ReadonlyMap<string, string>): CompiledScopes {
  const used = rows.filter(row => Object.keys(row.options).length > 0 || Object.keys(row.loaders).length > 0)
  const ofProfile = new Map<string, readonly DhcpScope[]>()
  const byPrefix = new Map<string, ScopeRow>()
  const byMachine = new Map<string, ScopeRow>()
  let site: readonly DhcpScope[] = []
  for (const row of used) {
    if (row.prefix_id !== null) byPrefix.set(row.prefix_id, row)
    else if (row.machine_id !== null) byMachine.set(row.machine_id, row)
    else if (row.profile !== null) ofProfile.set(row.profile, [compile(row, 'profile', `profile ${row.profile}`)])
    else site = [compile(row, 'site', 'the site')]
  }
  return {
    ofPrefix(prefixId, cidr) {
      const own = byPrefix.get(prefixId)
      if (own === undefined) return site.length === 0 ? undefined : site
      return [...site, compile(own, 'prefix', `prefix ${cidr}`)]
    },
    ofMachine(machineId, name) {
      const profile = ofProfile.get(profiles.get(machineId) ?? '')
      const own = byMachine.get(machineId)
      return own === undefined ? profile : [...(profile ?? []), compile(own, 'machine', `machine ${name}`)]
    },
  }
}

/** What this version cannot encode any more is left out: the API shows it, and a packet is better without it than not sent. */
function compile({options, loaders}: ScopeRow, kind: DhcpScope['kind'], name: string): DhcpScope {
  return {kind, name, options: compileOptions(options).options, loaders}
}
