/** What goes wrong between an address and a running system: files, scripts, loaders. Each finder is pure. */
import {cidrContains, type Ipv4, intToIpv4, ipv4ToInt, parseCidr, parseIpv4} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'
import {readOption} from '../dhcpd/index.ts'
import {requestedName} from '../tftpd/index.ts'
import type {Finding} from './causes.ts'
import {found, hasRouter} from './find-dhcp.ts'
import type {DhcpMessage, Transfer} from './messages.ts'
import {type Exchange, fileOf, type Story, serverOf} from './story.ts'

const PATIENCE_US = 3_000_000

export function findChainLoop(story: Story): Finding[] {
  const again = story.exchanges.flatMap(exchange => {
    if (exchange.stage !== 'ipxe') return []
    const reply = exchange.acks.at(-1) ?? exchange.offers.at(-1)
    const fetched = nextTransfer(story, exchange)
    const name = reply ? nameOf(fileOf(reply)) : fetched ? nameOf(fetched.request.name) : ''
    return OWN_LOADERS.test(name) ? [{exchange, reply, fetched, name}] : []
  })
  const [first] = again
  if (!first) return []
  const times = again.length === 1 ? 'once' : `${again.length} times`
  const server = first.reply ? ` by ${serverOf(first.reply)}` : ''
  const packets = again.flatMap(({exchange, reply, fetched}) => [
    {number: reply?.number ?? exchange.began},
    ...(fetched?.requests.slice(0, 1) ?? []).map(number => ({number})),
  ])
  return [found(story, 'CHAIN_LOOP', `'${printable(first.name)}' was given to iPXE${server}, ${times}`, packets)]
}

/** What iPXE calls itself when it is a loader. */
const OWN_LOADERS = /(^|\/)(undionly|ipxe|snponly|snp|intelx?|realtek)[\w.-]*\.(kpxe|kkpxe|kkkpxe|pxe|efi|0)$/i

/** What it fetched right after it got its lease, before anything else began. */
function nextTransfer(story: Story, exchange: Exchange): Transfer | undefined {
  const until = story.exchanges.find(other => other.began > exchange.began)?.began ?? Number.POSITIVE_INFINITY
  const scripted = story.requests.find(request => request.number > exchange.began)?.number ?? Number.POSITIVE_INFINITY
  return story.transfers.find(({requests: [number = 0]}) => number > exchange.began && number < Math.min(until, scripted))
}

export function findSilentTftp(story: Story): Finding[] {
  return story.transfers.flatMap((transfer): Finding[] => {
    if (isAnswered(transfer)) return []
    if (story.transfers.some(other => other.request.name === transfer.request.name && isAnswered(other))) return []
    const began_us = atOf(story, transfer.requests[0])
    if (transfer.requests.length < 2 && story.ends_us - began_us < PATIENCE_US) return []
    const detail = `'${printable(transfer.request.name)}' at ${transfer.server}, asked ${transfer.requests.length} times`
    return [found(story, 'TFTP_NO_ANSWER', detail, numbered(transfer.requests))]
  })
}

export function findMissingFile(story: Story): Finding[] {
  return story.transfers.flatMap((transfer): Finding[] => {
    const {error, request} = transfer
    // shim and GRUB ask for much that need not be there: only the file that the boot depends on counts.
    if (!error?.fromServer || error.code !== 1 || !isBootFile(story, transfer)) return []
    const detail = `'${printable(request.name)}' at ${transfer.server}: ${printable(error.message)}`
    return [found(story, 'TFTP_FILE_MISSING', detail, numbered([...transfer.requests, error.number]))]
  })
}

const REPEATS = 3

export function findStoppedTransfer(story: Story): Finding[] {
  return story.transfers.flatMap((transfer): Finding[] => {
    const [block, packets = []] = [...transfer.waiting].find(([, numbers]) => numbers.length >= REPEATS) ?? []
    if (block === undefined || transfer.error?.fromServer === false) return []
    const {blockBytes, octets, acknowledged, request} = transfer
    const isFull = blockBytes > SMALL_BLOCK_BYTES && octets === blockBytes
    const before = acknowledged === null ? 'nothing' : `block ${acknowledged}`
    const detail = `'${printable(request.name)}': block ${block} of ${blockBytes} bytes was sent ${packets.length} times, ${before} acknowledged`
    const cause = isFull && (acknowledged ?? 0) === 0 ? 'TFTP_MTU' : 'TFTP_STOPS'
    const split = transfer.fragmented ? '; it travelled in IP fragments, which firmware rarely puts together' : ''
    return [found(story, cause, detail + split, numbered(packets))]
  })
}

/** Passes where anything passes (RFC 791 §3.1: 576 octets). */
const SMALL_BLOCK_BYTES = 512

/** Longer after it was fetched, a new walk of the firmware is a reboot rather than the next boot option. */
const NEXT_OPTION_US = 60_000_000

export function findRefusedLoader(story: Story): Finding[] {
  return story.exchanges.flatMap((exchange, index): Finding[] => {
    if (exchange.stage !== 'rom' && exchange.stage !== 'http') return []
    const fetch = fetchOf(story, exchange)
    const after = story.exchanges[index + 1]
    const fallback = story.messages.find(
      message =>
        message.number > (fetch?.last ?? Number.POSITIVE_INFINITY) &&
        (message.number === after?.began || (message.kind === 'ipv6' && message.what === 'dhcpv6')),
    )
    if (!fetch || !fallback || fallback.at_us - atOf(story, fetch.last) > NEXT_OPTION_US) return []
    const wentOn = fallback.kind === 'ipv6' ? 'PXE over IPv6' : after?.stage === 'http' ? 'HTTP boot' : 'PXE'
    if (fallback.kind !== 'ipv6' && after?.stage !== 'rom' && after?.stage !== 'http') return []
    const isUefi = exchange.client.architecture?.firmware === 'uefi'
    const cause = isUefi && /\.efi$/i.test(fetch.name) ? 'SECURE_BOOT_REFUSED' : 'LOADER_REFUSED'
    const architecture = exchange.client.architecture?.name ?? 'an unknown architecture'
    const detail = `'${printable(fetch.name)}' was fetched by ${architecture}, which then tried ${wentOn}`
    return [found(story, cause, detail, numbered([fetch.first, fallback.number]))]
  })
}

/** The loader that this walk of the firmware fetched, unless it ran and fetched more. */
function fetchOf(story: Story, {began}: Exchange): {name: string; first: number; last: number} | undefined {
  const until = story.exchanges.find(other => other.began > began)?.began ?? Number.POSITIVE_INFINITY
  const within = (number: number | undefined) => number !== undefined && number > began && number < until
  const transfers = story.transfers.filter(transfer => within(transfer.requests[0]))
  const [named] = transfers
  const requests = story.requests.filter(request => within(request.number))
  const numbers = story.messages.filter(({number}) => within(number)).map(({number}) => number)
  const last = numbers.at(-1) ?? began
  if (named) {
    const ran = transfers.some(transfer => transfer.request.name !== named.request.name) || requests.length > 0
    const isFetched = transfers.some(({octets, acknowledged}) => octets !== null && acknowledged !== null && acknowledged > 0)
    const stopped = transfers.some(({waiting}) => [...waiting.values()].some(sent => sent.length >= REPEATS))
    return ran || !isFetched || stopped ? undefined : {name: nameOf(named.request.name), first: named.requests[0] ?? began, last}
  }
  const [got] = requests.filter(({method}) => method === 'GET')
  const isOk = story.answers.some(({to_request, status}) => to_request === got && status < 300)
  if (!got || !isOk || requests.some(({target}) => target !== got.target)) return undefined
  return {name: nameOf(got.target), first: got.number, last}
}

export function findUnfetchedScript(story: Story): Finding[] {
  // A capture of DHCP alone cannot show that something else did not happen.
  if (story.messages.every(({kind}) => kind === 'dhcp')) return []
  return story.exchanges.flatMap((exchange, index): Finding[] => {
    const ack = exchange.acks.at(-1)
    const url = ack && fileOf(ack)
    if (exchange.stage !== 'ipxe' || !ack || !url || !/^https?:\/\//.test(url)) return []
    const next = story.exchanges[index + 1]
    const until = next?.began ?? Number.POSITIVE_INFINITY
    const within = (number: number) => number > ack.number && number < until
    if (story.requests.some(request => within(request.number)) || next?.stage === 'os') return []
    if (!next && story.ends_us - ack.at_us < PATIENCE_US) return []
    const host = parseIpv4(URL.parse(url)?.hostname ?? '')
    const syns = story.connections.filter(({syns: [first = 0]}) => within(first))
    const refused = syns.find(connection => connection.reset || !connection.answered)
    if (refused) {
      const how = refused.reset ? 'was refused' : `was never answered (${refused.syns.length} SYNs)`
      const detail = `the connection to ${refused.server}:${refused.port} ${how}; the script is ${url}`
      return [found(story, 'BOOT_SERVER_SILENT', detail, numbered(refused.syns))]
    }
    if (host && isOutOfReach(ack, host)) {
      const detail = `${url}, while it is ${ack.packet.yiaddr} with mask ${readOption(ack.packet.options, 'subnet_mask')} and no router`
      return [found(story, 'BOOT_URL_OUT_OF_REACH', detail, [ack])]
    }
    return [found(story, 'SCRIPT_NEVER_FETCHED', `${url}${unansweredArp(story, within)}`, [ack])]
  })
}

/** Who was asked for by ARP and never answered: where the way to the boot server ends. */
function unansweredArp({messages, arpsOf}: Story, within: (number: number) => boolean): string {
  const asked = messages.filter(message => message.kind === 'arp' && message.op === 'request' && within(message.number))
  const silent = asked.find(arp => arp.kind === 'arp' && arp.target !== arp.sender && arpsOf(arp.target).length === 0)
  return silent?.kind === 'arp' ? `; nobody answers ARP for ${silent.target}` : ''
}

function isOutOfReach(ack: DhcpMessage, host: Ipv4): boolean {
  if (hasRouter(ack)) return false
  const {packet} = ack
  const mask = readOption(packet.options, 'subnet_mask')
  if (mask === undefined) return false
  const bits = ipv4ToInt(mask)
  const network = intToIpv4((ipv4ToInt(packet.yiaddr) & bits) >>> 0)
  const cidr = parseCidr(`${network}/${bits.toString(2).replace(/0+$/, '').length}`)
  return cidr !== undefined && !cidrContains(cidr, host)
}

export function findRefusedRequest(story: Story): Finding[] {
  return story.answers.flatMap((answer): Finding[] => {
    // A script that tries one name after the other gets many refusals, and is none the worse for it.
    if (answer.status < 400 || story.answers.some(({number, status}) => number > answer.number && status < 400)) return []
    const request = answer.to_request
    const what = request ? `${request.method} ${printable(request.target)}` : 'a request that is not in the capture'
    return [found(story, 'HTTP_REFUSED', `${what} → ${answer.status}`, [...(request ? [request] : []), answer])]
  })
}

const SLOW_US = 5_000_000
const SOLICITATIONS = 3

export function findMissingAdvertisement(story: Story): Finding[] {
  const asked = story.messages.filter(message => message.kind === 'ipv6' && message.what === 'router_solicitation')
  if (story.advertised || asked.length < SOLICITATIONS) return []
  return story.exchanges.slice(0, LAST_EXCHANGE).flatMap((exchange): Finding[] => {
    const ack = exchange.acks.at(-1)
    if (exchange.stage !== 'ipxe' || !ack) return []
    const next = story.messages.find(
      ({kind, number}) => number > ack.number && (kind === 'connect' || kind === 'http_request' || kind === 'tftp'),
    )
    const waited_us = (next?.at_us ?? story.ends_us) - ack.at_us
    if (waited_us < SLOW_US) return []
    const detail = `${asked.length} router solicitations without an answer, ${(waited_us / 1e6).toFixed(1)} s after its ACK until it went on`
    return [found(story, 'NO_ROUTER_ADVERTISEMENT', detail, asked)]
  })
}

/** One walk is enough to show it. */
const LAST_EXCHANGE = 1

export function findOnlyDhcpv6(story: Story): Finding[] {
  const asked = story.messages.filter(message => message.kind === 'ipv6' && message.what === 'dhcpv6')
  if (asked.length < 2 || story.exchanges.length > 0) return []
  return [found(story, 'ONLY_DHCPV6', `${asked.length} DHCPv6 packets, no DHCP for IPv4`, asked)]
}

function isAnswered(transfer: Transfer): boolean {
  return transfer.oack || transfer.octets !== null || transfer.error !== null
}

/** The file that DHCP named, or, where no reply was captured, the first that it asked for. */
function isBootFile(story: Story, transfer: Transfer): boolean {
  const named = story.exchanges.flatMap(({offers, acks}) => [...offers, ...acks].map(reply => nameOf(fileOf(reply))))
  const name = nameOf(transfer.request.name)
  return named.some(file => file !== '') ? named.includes(name) : story.transfers[0] === transfer
}

/** `tftp://host/x`, `/x` and `x` are one file. */
function nameOf(file: string): string {
  return requestedName(file.replace(/^[a-z]+:\/\/[^/]+/i, ''))
}

function atOf({messages}: Story, number: number | undefined): number {
  return messages.find(message => message.number === number)?.at_us ?? 0
}

function numbered(numbers: readonly number[]): readonly {readonly number: number}[] {
  return numbers.map(number => ({number}))
}
