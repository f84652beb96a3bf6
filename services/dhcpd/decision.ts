/** What can be decided about a packet, as types; and a decision whose reasons are put into words when they are read. Pure. */
import type {Ipv4} from '../../lib/addresses.ts'
import type {Decision, Reason} from '../../lib/decision.ts'
import type {BootFile} from './boot-file.ts'
import type {Client} from './client.ts'
import type {IgnoredReason} from './ignored.ts'
import type {LeaseKind, OfferRequest, ReleaseRequest} from './leases.ts'
import type {Link} from './link.ts'
import type {MessageType} from './options.ts'
import type {DhcpHost, DhcpPrefix} from './snapshot.ts'

/** Everything a positive reply is built from. */
export type Grant = {
  readonly client: Client
  readonly prefix: DhcpPrefix
  readonly host: DhcpHost | null
  readonly machineId: string | null
  readonly kind: LeaseKind
  readonly address: Ipv4
  readonly server: Ipv4
  readonly lease_s: number
  readonly boot: BootFile
}

/** What is told beside another server: a boot file, no address. */
export type ProxyGrant = {
  readonly type: 'OFFER' | 'ACK'
  readonly client: Client
  readonly prefix: DhcpPrefix
  readonly host: DhcpHost | null
  readonly server: Ipv4
  readonly boot: Exclude<BootFile, {readonly by: 'none'}>
}

export type Refusal = {readonly client: Client; readonly server: Ipv4; readonly message: string}

export type DhcpAnswer =
  | {readonly ignored: IgnoredReason}
  | {readonly ask: 'lease'}
  | {readonly ask: 'offer'; readonly request: OfferRequest}
  | {readonly offer: Grant}
  /** Bind first; `settle` says what then leaves. */
  | {readonly ack: Grant}
  /** An ACK that grants nothing (RFC 2131 §4.3.5). */
  | {readonly inform: Grant}
  /** BOOTP: the machine's address for good, without a lease; nothing is to be bound. */
  | {readonly bootp: Grant}
  | {readonly proxy: ProxyGrant}
  | {readonly nak: Refusal}
  | {readonly release: ReleaseRequest}
  | {readonly decline: ReleaseRequest}

/** Its reasons are put into words when they are read. */
export type DhcpDecision = Decision<DhcpAnswer> & {
  readonly message: MessageType | null
  readonly client: Client | null
  readonly link: Link | null
  readonly host: DhcpHost | null
}

/** A class, as a getter on its prototype costs nothing for each packet; on an object literal it costs more than the decision. */
export class TellingDecision implements DhcpDecision {
  readonly answer: DhcpAnswer
  readonly message: MessageType | null
  readonly client: Client | null
  readonly link: Link | null
  readonly host: DhcpHost | null
  readonly #tell: () => readonly Reason[]

  constructor(
    answer: DhcpAnswer,
    message: MessageType | null,
    client: Client | null,
    link: Link | null,
    host: DhcpHost | null,
    tell: () => readonly Reason[],
  ) {
    this.answer = answer
    this.message = message
    this.client = client
    this.link = link
    this.host = host
    this.#tell = tell
  }

  get reasons(): readonly Reason[] {
    return this.#tell()
  }
}

export function addReasons(decision: DhcpDecision, more: readonly Reason[]): DhcpDecision {
  const {answer, message, client, link, host} = decision
  return new TellingDecision(answer, message, client, link, host, () => [...decision.reasons, ...more])
}
