/** What dhcpd and tftpd count, as /metrics shows it: one row a metric; docs/metrics.md is generated from it. */

import type {DhcpCounter} from '../dhcpd/index.ts'

export type WireMetric = {readonly label: string | null; readonly help: string}

const DHCP_METRICS: Readonly<Record<`dhcp_${DhcpCounter}`, WireMetric>> = {
  dhcp_received: {label: null, help: 'DHCP datagrams received'},
  dhcp_sent: {label: 'type', help: 'DHCP replies sent, by message type'},
  dhcp_ignored: {label: 'reason', help: 'DHCP datagrams that were not answered, by reason'},
  dhcp_bind: {label: 'result', help: 'leases to be committed before an ACK, by what came of it'},
  dhcp_lease_port_failed: {label: 'call', help: 'calls for leases that failed, the database being away or worse'},
  dhcp_send_failed: {label: 'error', help: 'datagrams that could not be sent, by error code'},
  dhcp_option_left_out: {label: 'option', help: 'options that found no room in a reply, by code'},
  dhcp_sighting_dropped: {label: null, help: 'sightings of unknown MACs that were left out in a flood'},
  dhcp_router_advertisement: {label: 'interface', help: 'router advertisements sent for iPXE'},
  dhcp_alert: {label: 'kind', help: 'worrying things seen, each time; the events are folded'},
  dhcp_alert_dropped: {label: 'kind', help: 'worrying things that made no event, there being too many of their kind'},
}

/** By the name under which it is published; in /metrics it is `ingot_<name>_total`. */
export const WIRE_METRICS: Readonly<Record<string, WireMetric>> = {
  ...DHCP_METRICS,
  tftp: {label: 'what', help: 'TFTP requests, transfers by how they ended, and packets that were refused'},
}
