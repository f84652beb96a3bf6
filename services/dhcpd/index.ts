/** The façade of dhcpd: a server on given sockets, and an explanation of what it would answer. */

export {ARCHITECTURES, type Architecture, type Firmware, LOADERS, type LoaderKind} from './architectures.ts'
export type {Block, Blocks, KnownLease} from './blocks.ts'
export {type Client as DhcpClient, clientIdText, type DhcpStage, identifyClient} from './client.ts'
export {type DeclaredKey, indexClientKeys} from './client-keys.ts'
export type {AskingStage} from './compose-request.ts'
export type {DhcpCounter, DhcpMetrics} from './counters.ts'
export {type Endpoint, PROXY_PORT} from './destination.ts'
export {
  type ExplainedPacket,
  type ExplainedReply,
  type ExplainedStage,
  type ExplainPlace,
  type ExplainQuestion,
  explainDhcp,
  explainPacket,
  prefixOfQuestion,
} from './explain.ts'
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
export {changeLoaders, LOADER_KEYS} from './loader-keys.ts'
export type {DhcpEvidence, Sighting} from './observations.ts'
export {
  changeOptions,
  compileOptions,
  type DhcpScope,
  listOptionTypes,
} from './option-values.ts'
export {describeOptions, IPXE_NO_PROXY, MESSAGE_TYPES, type MessageType, type Route, readOption} from './options.ts'
export {BOOTREPLY, BOOTREQUEST, decodePacket, NO_ADDRESS, type Packet as DhcpPacket} from './packet.ts'
export {createDhcpServer, type DhcpServer, type DhcpServerDeps, type DhcpSocket} from './server.ts'
export type {AddressRange, DhcpHost, DhcpPrefix, DhcpSnapshot} from './snapshot.ts'
export {ALERTS, type Alert, type AlertKind} from './watch.ts'
