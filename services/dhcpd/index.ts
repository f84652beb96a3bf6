/** The façade of dhcpd: a server on given sockets, and an explanation of what it would answer. */

export {ARCHITECTURES, type Architecture, type Firmware, LOADERS, type LoaderKind} from './architectures.ts'
export type {DhcpStage} from './client.ts'
export type {DhcpCounter, DhcpMetrics} from './counters.ts'
export {type ExplainedReply, type ExplainedStage, type ExplainQuestion, explainDhcp} from './explain.ts'
export {IGNORED, type IgnoredReason} from './ignored.ts'
export {
  type BindRequest,
  type BindResult,
  INFINITE_LEASE_S,
  type LeaseKind,
  type Leases,
  type OfferRequest,
  type ReleaseRequest,
  type StoredLease,
} from './leases.ts'
export type {DhcpEvidence, Sighting} from './observations.ts'
export type {Route} from './options.ts'
export {createDhcpServer, type DhcpServer, type DhcpServerDeps, type DhcpSocket} from './server.ts'
export type {AddressRange, DhcpHost, DhcpPrefix, DhcpSnapshot} from './snapshot.ts'
