/** Which file a client is sent to, by its stage and architecture. It never depends on what the machine is to do: the URL is constant. Pure. */
import type {Ipv4} from '../../lib/addresses.ts'
import {LOADERS} from './architectures.ts'
import type {Client} from './client.ts'
import {type DhcpPrefix, type DhcpSnapshot, indexSnapshot} from './snapshot.ts'

/** `script` and `http` carry a URL, `tftp` a name on `nextServer`; a URL never goes to a TFTP client nor a name to an HTTP one. */
export type BootFile =
  | {readonly by: 'script' | 'http' | 'tftp'; readonly file: string; readonly nextServer: Ipv4}
  | {readonly by: 'none'; readonly because: string}

export function chooseBootFile(client: Client, prefix: DhcpPrefix, snapshot: DhcpSnapshot, server: Ipv4): BootFile {
  if (client.stage === 'os') return {by: 'none', because: 'an operating system needs no boot file'}
  // TFTP runs beside the boot service.
  const nextServer = indexSnapshot(snapshot).bootServers.get(prefix.id) ?? server
  if (client.stage === 'ipxe') return {by: 'script', file: `${prefix.boot_url}/boot.ipxe`, nextServer}
  const {architecture} = client
  if (architecture === null) return {by: 'none', because: 'the client names no architecture (93) that is known'}
  if (architecture.loader === null) return {by: 'none', because: `there is no loader for ${architecture.name}`}
  const name = snapshot.loaders?.[architecture.loader] ?? LOADERS[architecture.loader]
  return client.stage === 'http'
    ? {by: 'http', file: `${prefix.boot_url}/loaders/${name}`, nextServer}
    : {by: 'tftp', file: name, nextServer}
}
