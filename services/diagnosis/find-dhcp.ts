/** What goes wrong between a machine and DHCP servers. Each finder is pure and names the packets that show it. */
import type {IgnoredReason} from '../dhcpd/index.ts'
import {describeOptions, IPXE_NO_PROXY, readOption} from '../dhcpd/index.ts'
import type {CauseCode, Finding} from './causes.ts'
import type {DhcpMessage} from './messages.ts'
import {type Exchange, fileOf, numbersOf, type Story, serverOf} from './story.ts'

/** A client that still looks for an answer after so long has none. */
const PATIENCE_US = 3_000_000

export function findUnanswered(story: Story): Finding[] {
  return story.exchanges.flatMap((exchange): Finding[] => {
    const {discovers, offers, requests} = exchange
    const [first] = discovers
    if (!first || offers.length > 0 || requests.length > 0 || wentOn(story, exchange)) return []
    const waited_us = story.ends_us - first.at_us
    if (discovers.length < 2 && waited_us < PATIENCE_US) return []
    const would = story.ingot(first.number)
    const times = discovers.length === 1 ? 'once' : `${discovers.length} times`
    const why = would?.ignored ? `; Ingot would be silent too (${would.ignored})` : would?.reply ? '; Ingot would answer' : ''
    const cause = (would?.ignored && SILENCES[would.ignored]) || 'NO_DHCP_ANSWER'
    const relay = first.packet.giaddr === '0.0.0.0' ? '' : ` through ${first.packet.giaddr}`
    return [found(story, cause, `DISCOVER ${times}${relay}, no OFFER${why}`, discovers)]
  })
}

/** Where Ingot itself would stay silent, that is the cause. */
const SILENCES: Partial<Readonly<Record<IgnoredReason, CauseCode>>> = {
  unlisted_relay: 'RELAY_NOT_LISTED',
  unknown_mac: 'UNKNOWN_MACHINE',
  unserved_link: 'LINK_NOT_SERVED',
}

/** Broadcast replies may be missing from a capture: what used an address had been given one. */
function wentOn({messages}: Story, {began}: Exchange): boolean {
  return messages.some(({kind, number}) => number > began && (kind === 'tftp' || kind === 'http_request' || kind === 'connect'))
}

export function findUnrequested(story: Story): Finding[] {
  return story.exchanges.flatMap((exchange): Finding[] => {
    const {discovers, offers, requests, stage} = exchange
    const last = offers.at(-1)
    if (!last || requests.length > 0 || wentOn(story, exchange)) return []
    if (discovers.length + offers.length < 3 && story.ends_us - last.at_us < PATIENCE_US) return []
    const lack = lackOf(last, stage)
    if (lack) return [found(story, lack.cause, `OFFER of ${last.packet.yiaddr} by ${serverOf(last)} ${lack.detail}`, offers)]
    const file = fileOf(last)
    const what = `${last.packet.yiaddr} by ${serverOf(last)}${file ? `, file ${file}` : ''}`
    return [found(story, 'OFFER_NEVER_REQUESTED', `${offers.length} OFFERs of ${what}, sent to ${last.destination}`, offers)]
  })
}

export function findLackingBoot(story: Story): Finding[] {
  return story.exchanges.flatMap(({acks, stage}): Finding[] => {
    const last = acks.at(-1)
    const lack = last && lackOf(last, stage)
    return last && lack ? [found(story, lack.cause, `the ACK of ${serverOf(last)} ${lack.detail}`, acks)] : []
  })
}

function lackOf(reply: DhcpMessage, stage: Exchange['stage']): {cause: CauseCode; detail: string} | undefined {
  const file = fileOf(reply)
  if (stage === 'http') {
    const says60 = readOption(reply.packet.options, 'vendor_class') === 'HTTPClient'
    if (/^https?:\/\//.test(file) && says60) return undefined
    const lacks = [...(says60 ? [] : ['option 60 HTTPClient']), ...(/^https?:/.test(file) ? [] : ['a URL'])]
    return {cause: 'HTTP_OFFER_INCOMPLETE', detail: `lacks ${lacks.join(' and ')}`}
  }
  if (stage !== 'rom' && stage !== 'ipxe') return undefined
  const hasMenu = reply.packet.options.has(43)
  return file === '' && !hasMenu ? {cause: 'NO_BOOT_FILE', detail: `names no file (stage ${stage})`} : undefined
}

export function findSeveralServers(story: Story): Finding[] {
  const offers = story.exchanges.flatMap(exchange => exchange.offers)
  // A proxyDHCP server offers a file and no address: that is two by intent.
  const givers = offers.filter(({packet}) => packet.yiaddr !== '0.0.0.0')
  const servers = [...new Set(givers.flatMap(offer => serverOf(offer) ?? []))]
  return servers.length < 2 ? [] : [found(story, 'TWO_DHCP_SERVERS', `offers by ${servers.join(' and ')}`, givers)]
}

export function findOtherServer(story: Story): Finding[] {
  const chose = story.exchanges.flatMap(({requests}) =>
    requests.filter(request => story.ingot(request.number)?.ignored === 'other_server'),
  )
  const servers = [...new Set(chose.flatMap(request => serverOf(request) ?? []))]
  return servers.length === 0 ? [] : [found(story, 'OTHER_SERVER_CHOSEN', `it asks ${servers.join(' and ')}`, chose)]
}

export function findRefused(story: Story): Finding[] {
  return story.exchanges.flatMap(({naks, acks, requests}): Finding[] => {
    const last = naks.at(-1)
    if (!last || acks.length > 0) return []
    const asked = requests.at(-1)
    const wanted = asked && (readOption(asked.packet.options, 'requested_address') ?? asked.packet.ciaddr)
    const message = readOption(last.packet.options, 'message')
    return [found(story, 'REQUEST_REFUSED', `${wanted ?? 'its address'}: ${message ?? 'no reason given'}`, naks)]
  })
}

export function findUnacknowledged(story: Story): Finding[] {
  return story.exchanges.flatMap((exchange): Finding[] => {
    const {offers, requests, acks, naks} = exchange
    const last = requests.at(-1)
    // Without an OFFER the replies are missing from the capture altogether.
    if (!last || offers.length === 0 || acks.length + naks.length > 0) return []
    if (wentOn(story, exchange) || story.exchanges.some(other => other.began > last.number && other.stage !== exchange.stage))
      return []
    if (requests.length < 2 && story.ends_us - last.at_us < PATIENCE_US) return []
    // Whoever chose another server gets its answer there, perhaps unseen.
    if (offers.every(offer => serverOf(offer) !== serverOf(last))) return []
    return [found(story, 'REQUEST_UNANSWERED', `REQUEST ${requests.length} times to ${serverOf(last)}`, requests)]
  })
}

const IP_AND_UDP_OCTETS = 28
const LEAST_MAXIMUM_OCTETS = 576

export function findTooLarge(story: Story): Finding[] {
  return story.exchanges.flatMap(({offers, acks, discovers, requests}): Finding[] => {
    const asked = discovers[0] ?? requests[0]
    const most = Math.max((asked && readOption(asked.packet.options, 'maximum_message_size')) ?? 0, LEAST_MAXIMUM_OCTETS)
    const large = [...offers, ...acks].filter(reply => reply.fragmented || reply.octets + IP_AND_UDP_OCTETS > most)
    const [first] = large
    if (!first) return []
    const what = first.fragmented
      ? 'it came in IP fragments'
      : `${first.octets + IP_AND_UDP_OCTETS} octets, and the client takes ${most}`
    return [found(story, 'OFFER_TOO_LARGE', `${first.type} by ${serverOf(first)}: ${what}`, large)]
  })
}

export function findWithoutDns(story: Story): Finding[] {
  return story.exchanges.flatMap(({acks, client}): Finding[] => {
    const last = acks.at(-1)
    if (!last || !INSTALLERS.some(name => client.vendorClass.toLowerCase().startsWith(name))) return []
    const lacks = [
      ...(readOption(last.packet.options, 'dns_servers') ? [] : ['DNS server']),
      ...(hasRouter(last) ? [] : ['router']),
    ]
    return lacks.length === 0 ? [] : [found(story, 'NO_DNS', `'${client.vendorClass}' got no ${lacks.join(' and no ')}`, acks)]
  })
}

/** Vendor classes of installers that ask a person when something is missing: Debian and Ubuntu; Red Hat; SUSE. */
const INSTALLERS = ['d-i', 'anaconda', 'linuxrc', 'ubuntu-installer']

export function hasRouter({packet: {options}}: DhcpMessage): boolean {
  return readOption(options, 'routers') !== undefined || readOption(options, 'classless_routes') !== undefined
}

export function findProxyWait(story: Story): Finding[] {
  return story.exchanges.flatMap(({offers, discovers, stage}): Finding[] => {
    const [first] = offers
    // It asks again, although it was offered an address: it hopes for a proxy.
    if (stage !== 'ipxe' || !first || discovers.length < 2 || !discovers.some(again => again.number > first.number)) return []
    const ipxe = readOption(first.packet.options, 'ipxe')
    if (ipxe?.get(IPXE_NO_PROXY)?.[0] === 1) return []
    const shown = JSON.stringify(describeOptions(new Map([...first.packet.options].filter(([code]) => code === 175))))
    return [
      found(story, 'WAITS_FOR_PROXY', `OFFER by ${serverOf(first)} with ${shown === '{}' ? 'no option 175' : shown}`, [first]),
    ]
  })
}

export function found(
  {mac}: Pick<Story, 'mac'>,
  cause: CauseCode,
  detail: string,
  shownBy: readonly {readonly number: number}[],
): Finding {
  return {cause, mac, detail, packets: numbersOf(shownBy)}
}
