/** Every reason for saying nothing: a closed set, each a counter, a log field and a line in `ingot explain`. Pure. */

export const IGNORED = {
  too_short: 'the datagram is shorter than a DHCP message',
  bad_op: 'op is neither request nor reply',
  not_a_request: 'it is a reply, not a request',
  bootp: 'it has no message type: BOOTP, which this prefix does not serve, or not to this client',
  unknown_message_type: 'its message type is not one a client sends',
  hardware_type: 'its hardware address is not Ethernet',
  bad_mac: 'its hardware address is all zero or a group address',
  unlisted_relay: 'its relay is on no prefix’s allow list',
  unserved_link: 'no prefix is served on its link',
  no_server_address: 'this server has no address on that interface',
  unknown_mac: 'nobody declared this MAC, and no enrolment window is open on its link',
  other_prefix: 'the machine’s address belongs to another link, and no enrolment window is open here',
  other_server: 'the client chose another DHCP server',
  proxied: 'another server gives the addresses on its link (prefix with DHCP mode proxy)',
  no_loader: 'no loader is known for its architecture, and an offer beside another server is that alone',
  not_netboot: 'port 4011 is for netboot clients: PXEClient or HTTPClient with a REQUEST, past any relay',
  malformed_request: 'the request names no address',
  unknown_lease: 'the client speaks of a lease that nobody granted',
  lease_ended: 'the lease ended, and no enrolment window is open',
  range_full: 'the dynamic ranges of the prefix have no free address',
  database_away: 'nothing can be committed now, and no committed lease has time left',
  busy: 'too many packets wait for the database',
  fault: 'dhcpd failed on it; the log has the error',
} as const satisfies Record<string, string>

export type IgnoredReason = keyof typeof IGNORED
