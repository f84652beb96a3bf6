/**
 * Beside another DHCP server: that one gives the addresses, Ingot names the boot file (PXE 2.1 §2.2, "proxyDHCP"). Pure.
 *
 * A netboot client that says DISCOVER hears from both. Ours has no address; it carries the file itself, so most clients ask no further.
 * Those that do come to port 4011 with the address they got. A stranger hears nothing outside an enrolment window, as everywhere.
 */
import {chooseBootFile, describeBootFile} from './boot-file.ts'
import type {Case} from './decide.ts'
import type {DhcpAnswer} from './decision.ts'
import {serverAddressOn} from './link.ts'
import type {MessageType} from './options.ts'
import {NO_ADDRESS} from './packet.ts'
import type {DhcpHost, DhcpPrefix} from './snapshot.ts'

/** On port 67, to a DISCOVER. */
export function offerBeside(it: Case, prefix: DhcpPrefix, host: DhcpHost | null): DhcpAnswer {
  return it.client.stage === 'os' ? {ignored: 'proxied'} : nameBootFile(it, prefix, host, 'OFFER')
}

/** On port 4011. Its server identifier may be either server's, and is not asked about: the packet came to our address. */
export function replyOnProxyPort(
  it: Case,
  message: MessageType | null,
  prefix: DhcpPrefix | undefined,
  host: DhcpHost | null,
): DhcpAnswer {
  if (!/^(PXE|HTTP)Client/.test(it.client.vendorClass) || message !== 'REQUEST') return {ignored: 'not_netboot'}
  // A client asks here by unicast, so no relay has a part in it; and with one, the client's address would be checked against nothing.
  if (it.packet.giaddr !== NO_ADDRESS) return {ignored: 'not_netboot'}
  const from = it.packet.ciaddr === NO_ADDRESS ? it.arrival.proxyFrom?.address : it.packet.ciaddr
  if (from === undefined || from === NO_ADDRESS) return {ignored: 'malformed_request'}
  if (prefix === undefined) return {ignored: host === null ? 'unknown_mac' : 'other_prefix'}
  return nameBootFile(it, prefix, host, 'ACK')
}

function nameBootFile(it: Case, prefix: DhcpPrefix, host: DhcpHost | null, type: 'OFFER' | 'ACK'): DhcpAnswer {
  const {client} = it
  const server = serverAddressOn(prefix, it.link, it.arrival)
  if (server === undefined) return {ignored: 'no_server_address'}
  const boot = chooseBootFile(client, prefix, host, it.snapshot, server)
  it.because('boot file', () => describeBootFile(boot), 'architecture, loaders, boot_url')
  if (boot.by === 'none') return {ignored: 'no_loader'}
  it.because('proxy', () => `another server gives the addresses of ${prefix.cidr}: a boot file, no address`, 'prefix')
  return {proxy: {type, client, prefix, host, server, boot}}
}
