/**
 * The walk of one datagram: decode → decide → (ask the leases port, decide again) → (bind) → build → address → encode → send.
 * No socket here: bytes come in with their arrival, and leave through `send`. Nothing is thrown at the caller.
 *
 * A known machine's OFFER leaves before `receive` returns. An ACK leaves only after its bind was committed.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {createBindQueue} from './bind-queue.ts'
import type {Blocks} from './blocks.ts'
import {clientIdText, readMac} from './client.ts'
import type {Counters} from './counters.ts'
import {decide, type LeaseView, uuidDiffers} from './decide.ts'
import {addReasons, type DhcpDecision, type Grant, type ProxyGrant} from './decision.ts'
import {type Destination, proxyDestination, replyDestination} from './destination.ts'
import type {IgnoredReason} from './ignored.ts'
import {createLeaseMemory} from './lease-memory.ts'
import type {BindRequest, BindResult, Leases, OfferRequest, ReleaseRequest} from './leases.ts'
import type {Arrival} from './link.ts'
import {createFold, type DhcpEvidence, describeClient, type EvidenceDetail, type Sighting} from './observations.ts'
import {createOffers} from './offers.ts'
import {readOption} from './options.ts'
import {decodePacket, encodePacket, NO_ADDRESS, type Packet, replyLimit} from './packet.ts'
import {buildBootpReply, buildNak, buildProxyReply, buildReply} from './reply.ts'
import {settle} from './settle.ts'
import type {DhcpSnapshot} from './snapshot.ts'
import {type Alert, createWatch} from './watch.ts'

export type ResponderDeps = {
  readonly snapshot: () => DhcpSnapshot
  readonly leases: Leases
  /** Without it each offer is asked for at the leases port. */
  readonly blocks?: Blocks | undefined
  readonly sightings: (sighting: Sighting) => void
  readonly evidence: (evidence: DhcpEvidence) => void
  /** What is worrying on the network, folded; nobody watches without it. */
  readonly alerts?: (alert: Alert) => void
  /** An iPXE client spoke on an interface whose prefix wants router advertisements. */
  readonly advertise: (onInterface: string) => void
  readonly log: Log
  readonly clock: Clock
  readonly counters: Counters
  /** How long a reservation is acknowledged for while nothing can be committed. */
  readonly offline_lease_s?: number
  /** 240 takes what clients really send; 300 is RFC 1542 §2.1 to the letter. */
  readonly leastRequestOctets?: number
}

export type Send = (bytes: Buffer, destination: Destination) => void

export type Responder = {
  receive(bytes: Uint8Array, arrival: Arrival, send: Send): void
  /** Learns what dynamic clients have. */
  start(): Promise<void>
  /** Resolves when no packet waits for the leases port; blocks are given back. */
  stop(): Promise<void>
  /** Resolves when no packet waits for the leases port. */
  idle(): Promise<void>
}

/** What a reply to it says, of which observers want to know. */
type Told = Grant | ProxyGrant
type Exchange = {readonly packet: Packet; readonly arrival: Arrival; readonly send: Send}
type ReplyType = 'OFFER' | 'ACK' | 'NAK' | 'BOOTP'

const OFFLINE_LEASE_S = 120
const MOST_WAITING = 16_384
const SIGHTING_EVERY_MS = 10_000
const MOST_SIGHTINGS = 4096
const OTHER_SERVER_EVERY_MS = 60_000
const MOST_OTHER_SERVERS = 4096
const FULL_EVERY_MS = 10_000

export function createResponder(deps: ResponderDeps): Responder {
  const {leases, log, clock, counters} = deps
  const offline_lease_s = deps.offline_lease_s ?? OFFLINE_LEASE_S
  const queue = createBindQueue(leases)
  const memory = createLeaseMemory(clock)
  const offers = deps.blocks && createOffers({blocks: deps.blocks, leases: {offerDynamic}, memory, clock, log})
  const sightingFold = createFold<Mac>(clock, SIGHTING_EVERY_MS, MOST_SIGHTINGS, () => counters.add('sighting_dropped'))
  const otherServerFold = createFold<string>(clock, OTHER_SERVER_EVERY_MS, MOST_OTHER_SERVERS, () => undefined)
  const fullFold = createFold<string>(clock, FULL_EVERY_MS, MOST_OTHER_SERVERS, () => undefined)
  const watch = deps.alerts === undefined ? undefined : createWatch({clock, counters, alert: deps.alerts})
  const waiting = new Set<Promise<void>>()

  function receive(bytes: Uint8Array, arrival: Arrival, send: Send): void {
    try {
      counters.add('received')
      const packet = decodePacket(bytes, deps.leastRequestOctets)
      if ('ignored' in packet) ignore(packet.ignored)
      else answer({packet, arrival, send}, {remembered: recall(packet)})
    } catch (error) {
      fault(error)
    }
  }

  function recall(packet: Packet): LeaseView['remembered'] {
    const mac = readMac(packet.chaddr)
    return mac === undefined ? undefined : memory.recall(mac)
  }

  function answer(exchange: Exchange, view: LeaseView): void {
    const {packet} = exchange
    const decision = decide(packet, exchange.arrival, deps.snapshot(), view, clock.now())
    const chosen = decision.answer
    if (watch !== undefined && !('ask' in chosen)) watch.see(packet, exchange.arrival, decision)
    if ('ignored' in chosen) stayQuiet(exchange, decision, chosen.ignored)
    else if ('ask' in chosen) ask(exchange, view, decision)
    else if ('offer' in chosen) {
      reply(exchange, decision, 'OFFER', chosen.offer, buildReply(packet, 'OFFER', chosen.offer))
      advertise(exchange, chosen.offer)
    } else if ('ack' in chosen) {
      advertise(exchange, chosen.ack)
      wait(() => acknowledge(exchange, decision, chosen.ack))
    } else if ('inform' in chosen) reply(exchange, decision, 'ACK', chosen.inform, buildReply(packet, 'INFORM', chosen.inform))
    else if ('nak' in chosen) reply(exchange, decision, 'NAK', null, buildNak(packet, chosen.nak))
    else if ('bootp' in chosen) reply(exchange, decision, 'BOOTP', chosen.bootp, buildBootpReply(packet, chosen.bootp))
    else if ('proxy' in chosen) {
      reply(exchange, decision, chosen.proxy.type, chosen.proxy, buildProxyReply(packet, chosen.proxy))
      advertise(exchange, chosen.proxy)
    } else if ('release' in chosen) {
      memory.end(chosen.release.mac)
      wait(() => leases.release(chosen.release).catch(error => portFailed('release', error)))
    } else takeDecline(exchange, decision, chosen.decline)
  }

  /** Runs in the background, bounded in number; its errors end here. */
  function wait(work: () => Promise<void>): void {
    if (waiting.size >= MOST_WAITING) {
      ignore('busy')
      return
    }
    const tracked: Promise<void> = work()
      .catch(fault)
      .finally(() => waiting.delete(tracked))
    waiting.add(tracked)
  }

  function ask(exchange: Exchange, view: LeaseView, {answer: chosen, client, message}: DhcpDecision): void {
    if (client === null || !('ask' in chosen)) return
    if (chosen.ask === 'lease') {
      wait(async () => {
        const found = await leases.find(client.mac).catch(error => portFailed('find', error))
        answer(exchange, {...view, found: found === undefined ? 'away' : found})
      })
      return
    }
    const {request} = chosen
    const offered = (message === 'REQUEST' ? offers?.confirm(request) : offers?.offer(request)) ?? offerDynamic(request)
    const go = (found: Ipv4 | 'full' | 'away') => {
      if (found !== 'full') return answer(exchange, {...view, offered: found})
      warnFull(request.prefixId)
      // The link may have another prefix.
      answer(exchange, {...view, full: [...(view.full ?? []), request.prefixId]})
    }
    if (typeof offered === 'string') go(offered)
    else wait(async () => go(await offered))
  }

  async function offerDynamic(request: OfferRequest): Promise<Ipv4 | 'full' | 'away'> {
    return (await leases.offerDynamic(request).catch(error => portFailed('offerDynamic', error))) ?? 'away'
  }

  function warnFull(prefix: string): void {
    const count = fullFold.due(prefix)
    if (count > 0) log.warn({prefix, unanswered: count}, 'the dynamic ranges of a prefix are full')
  }

  async function acknowledge(exchange: Exchange, decision: DhcpDecision, grant: Grant): Promise<void> {
    const offered = grant.kind === 'dynamic' ? offers?.offeredAs(grant.client.mac, grant.address) : undefined
    const outcome = await queue.submit(toBindRequest(grant, offered, clock.now())).catch(error => portFailed('bind', error))
    counters.add('bind', outcome === undefined ? 'away' : 'bound' in outcome ? 'bound' : outcome.refused)
    learn(grant, outcome)
    const known = memory.recall(grant.client.mac)
    const remaining_s = known?.address === grant.address ? known.remaining_s : 0
    const {answer: settled, reasons} = settle(grant, outcome ?? 'away', remaining_s, offline_lease_s)
    const whole = addReasons(decision, reasons)
    if ('ack' in settled) reply(exchange, whole, 'ACK', settled.ack, buildReply(exchange.packet, 'ACK', settled.ack))
    else if ('nak' in settled) reply(exchange, whole, 'NAK', null, buildNak(exchange.packet, settled.nak))
    else stayQuiet(exchange, whole, settled.ignored)
  }

  function takeDecline(exchange: Exchange, decision: DhcpDecision, decline: ReleaseRequest): void {
    const {mac, address} = decline
    memory.forget(mac)
    log.warn({mac, address}, 'a client saw its address in use by another')
    tell(exchange, decision, decline.prefixId, {kind: 'address_declined', address})
    wait(() => leases.decline(decline).catch(error => portFailed('decline', error)))
  }

  /** Reservations need no memory: the snapshot has them. */
  function learn(grant: Grant, outcome: BindResult | undefined): void {
    if (grant.kind === 'reserved' || outcome === undefined) return
    const {address, prefix, lease_s} = grant
    offers?.settled(grant.client.mac)
    if ('bound' in outcome) memory.remember(grant.client.mac, {address, prefixId: prefix.id, lease_s})
    else memory.forget(grant.client.mac)
  }

  function reply(exchange: Exchange, decision: DhcpDecision, type: ReplyType, grant: Told | null, packet: Packet): void {
    const mac = decision.client?.mac
    if (mac === undefined) return
    const {bytes, omitted} = encodePacket(packet, replyLimit(exchange.packet), type !== 'BOOTP')
    for (const code of omitted) counters.add('option_left_out', String(code))
    const {proxyFrom} = exchange.arrival
    const where =
      proxyFrom === undefined ? replyDestination(exchange.packet, packet, mac) : proxyDestination(exchange.packet, proxyFrom)
    exchange.send(bytes, where)
    counters.add('sent', type)
    if (log.isLevelEnabled('debug')) log.debug({mac, type, address: packet.yiaddr, reasons: decision.reasons}, 'answered')
    observe(exchange, decision, type, grant, null)
  }

  function stayQuiet(exchange: Exchange, decision: DhcpDecision, reason: IgnoredReason): void {
    ignore(reason, decision)
    if (reason === 'other_server') {
      if (decision.client !== null) offers?.withdraw(decision.client.mac)
      observeOtherServer(exchange, decision)
    }
    observe(exchange, decision, null, null, reason)
  }

  function observe(
    exchange: Exchange,
    decision: DhcpDecision,
    type: ReplyType | null,
    grant: Told | null,
    ignored: IgnoredReason | null,
  ): void {
    const {client, host, link} = decision
    if (client === null || link === null) return
    const prefixId = grant?.prefix.id ?? null
    if (host === null) {
      const count = sightingFold.due(client.mac)
      // A stranger's packets are folded all: who forges MACs inside a window must not fill the tables.
      if (count === 0) return
      deps.sightings({...describeClient(client, link, exchange.arrival.interface, prefixId, clock.now()), count})
    }
    if (host === null ? grant === null : !host.watched) return
    tell(exchange, decision, prefixId, {
      kind: 'dhcp_seen',
      reply: type,
      address: grant !== null && 'address' in grant ? grant.address : null,
      file: grant === null || grant.boot.by === 'none' ? null : grant.boot.file,
      ignored,
      uuid_differs: host !== null && uuidDiffers(host, client),
    })
  }

  function observeOtherServer(exchange: Exchange, decision: DhcpDecision): void {
    const server = readOption(exchange.packet.options, 'server_identifier')
    // Each machine's own: it is what its job has failed by.
    const mac = decision.client?.mac
    if (server === undefined || decision.host === null || otherServerFold.due(`${server} ${mac}`) === 0) return
    log.warn({server, interface: exchange.arrival.interface}, 'another DHCP server answers machines of ours')
    tell(exchange, decision, null, {kind: 'other_server_seen', server})
  }

  function tell(
    exchange: Exchange,
    {client, link, host, message}: DhcpDecision,
    prefixId: string | null,
    what: EvidenceDetail,
  ): void {
    if (client === null) return
    const seen = describeClient(client, link, exchange.arrival.interface, prefixId, clock.now())
    deps.evidence({...seen, machineId: host?.machineId ?? null, message, ...what})
  }

  /** Only on our own link: a relay does not carry it. */
  function advertise({packet, arrival}: Exchange, grant: Told): void {
    const isDirect = packet.giaddr === NO_ADDRESS
    if (isDirect && grant.client.stage === 'ipxe' && grant.prefix.routerAdvertisement) deps.advertise(arrival.interface)
  }

  function ignore(reason: IgnoredReason, decision?: DhcpDecision): void {
    counters.add('ignored', reason)
    if (log.isLevelEnabled('debug'))
      log.debug({ignored: reason, mac: decision?.client?.mac, reasons: decision?.reasons}, 'ignored')
  }

  /** Away is expected and has its own behaviour; anything else is also not committed, and is said aloud. */
  function portFailed(call: keyof Leases, error: unknown): undefined {
    counters.add('lease_port_failed', call)
    const isAway = error instanceof IngotError && error.code === 'DATABASE_AWAY'
    log[isAway ? 'debug' : 'error']({call, error: messageOf(error)}, 'the leases port failed')
    return undefined
  }

  function fault(error: unknown): void {
    counters.add('ignored', 'fault')
    log.error({error: messageOf(error), stack: error instanceof Error ? error.stack : undefined}, 'dhcpd failed on a packet')
  }

  async function idle(): Promise<void> {
    while (waiting.size > 0) await Promise.all(waiting)
  }

  return {
    receive,
    async start() {
      await offers?.start()
    },
    async stop() {
      await idle()
      await offers?.stop()
    },
    idle,
  }
}

function toBindRequest(grant: Grant, offered: BindRequest['offered'], now: Date): BindRequest {
  const {client, kind, machineId, prefix, address, lease_s} = grant
  const clientId = clientIdText(client.clientId)
  return {mac: client.mac, kind, machineId, prefixId: prefix.id, address, lease_s, clientId, ...(offered ? {offered} : {}), now}
}
