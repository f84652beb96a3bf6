/** Which file a client is sent to, by its stage and architecture. It never depends on what the machine is to do: the URL is constant. Pure. */
import type {Ipv4} from '../../lib/addresses.ts'
import {type Architecture, LOADERS} from './architectures.ts'
import type {Client} from './client.ts'
import {type DhcpHost, type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** `script` and `http` carry a URL, `tftp` a name on `nextServer`; a URL never goes to a TFTP client nor a name to an HTTP one. */
export type BootFile =
  | {readonly by: 'script' | 'http' | 'tftp'; readonly file: string; readonly nextServer: Ipv4; readonly told?: string}
  | {readonly by: 'none'; readonly because: string}

/** The key of a loader for clients that speak BOOTP, which name no architecture. */
export const BOOTP_LOADER = 'bootp'

export function chooseBootFile(
  client: Client,
  prefix: DhcpPrefix,
  host: DhcpHost | null,
  snapshot: DhcpSnapshot,
  server: Ipv4,
): BootFile {
  if (client.stage === 'os') return {by: 'none', because: 'an operating system needs no boot file'}
  // TFTP runs beside the boot service.
  const nextServer = indexSnapshot(snapshot).bootServers.get(prefix.id) ?? server
  if (client.stage === 'ipxe') return {by: 'script', file: `${prefix.boot_url}/boot.ipxe`, nextServer}
  const {architecture} = client
  if (architecture === null) return {by: 'none', because: 'the client names no architecture (93) that is known'}
  const set = findLoader(prefix, host, [String(architecture.code), architecture.loader ?? ''])
  const name = set?.name ?? usualLoader(architecture, snapshot)
  if (name === undefined) return {by: 'none', because: `there is no loader for ${architecture.name}`}
  const told = set === undefined ? {} : {told: `set for ${set.scope}`}
  return client.stage === 'http'
    ? {by: 'http', file: `${prefix.boot_url}/loaders/${name}`, nextServer, ...told}
    : {by: 'tftp', file: name, nextServer, ...told}
}

/** BOOTP tells no stage and no architecture: a file only where one was set for such clients. */
export function chooseBootpFile(prefix: DhcpPrefix, host: DhcpHost, snapshot: DhcpSnapshot, server: Ipv4): BootFile {
  const set = findLoader(prefix, host, [BOOTP_LOADER])
  if (set === undefined) return {by: 'none', because: 'no loader is set for BOOTP clients'}
  const nextServer = indexSnapshot(snapshot).bootServers.get(prefix.id) ?? server
  return {by: 'tftp', file: set.name, nextServer, told: `set for ${set.scope}`}
}

export function describeBootFile(boot: BootFile): string {
  return boot.by === 'none' ? boot.because : `${boot.file} by ${boot.by}${boot.told === undefined ? '' : `, ${boot.told}`}`
}

/** The narrowest scope that names one; in one scope an architecture's number is narrower than its kind. */
function findLoader(
  prefix: DhcpPrefix,
  host: DhcpHost | null,
  keys: readonly string[],
): {name: string; scope: string} | undefined {
  for (const scopes of [host?.scopes, prefix.scopes]) {
    for (const {loaders, name: scope} of scopes?.toReversed() ?? []) {
      const name = keys.map(key => (Object.hasOwn(loaders, key) ? loaders[key] : undefined)).find(found => found !== undefined)
      if (name !== undefined) return {name, scope}
    }
  }
  return undefined
}

function usualLoader({loader}: Architecture, snapshot: DhcpSnapshot): string | undefined {
  return loader === null ? undefined : (snapshot.loaders?.[loader] ?? LOADERS[loader])
}
