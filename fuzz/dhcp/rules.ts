/**
 * What every reply obeys, whatever was asked, as one table. Written against the RFCs and against bytes, not against the code that is
 * tested: a reply is taken apart here by `walkField`, not by the decoder. To add a rule, add a row.
 */
import {cidrContains, type Ipv4, type Mac} from '../../lib/addresses.ts'
import {hexColon} from '../../lib/bytes.ts'
import type {Destination} from '../../services/dhcpd/destination.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import {type Field, HEAD_OCTETS, walkField} from './frame.ts'
import {MACHINES, PREFIXES} from './world.ts'

export type Exchange = {
  /** The request's first 240 octets, and its options by code, joined. */
  readonly asked: Buffer
  readonly askedOptions: ReadonlyMap<number, Buffer>
  readonly arrival: Arrival
  readonly reply: Buffer
  readonly destination: Destination
  /** For whom the address was committed while the packet was dealt with, and for how many seconds from now. */
  readonly holder: {readonly mac: Mac; readonly seconds: number} | undefined
  /** For how many seconds from now the client was once granted the address. */
  readonly granted_s: number
  readonly portFails: boolean
}

/** @returns what is wrong, or undefined */
type Rule = {readonly id: string; readonly says: string; check(view: View): string | boolean | undefined}

type View = Exchange & {
  readonly options: Field
  /** `file` and `sname`, where option 52 lends them. */
  readonly lent: readonly Field[]
  readonly byCode: ReadonlyMap<number, Buffer>
  readonly type: 'OFFER' | 'ACK' | 'NAK' | undefined
  readonly informs: boolean
  /** Neither speaks of leases: BOOTP has no message type, and beside another server there is no address. */
  readonly bootp: boolean
  readonly beside: boolean
  readonly mac: string
  readonly yiaddr: Ipv4
}

const TYPES = new Map([
  [2, 'OFFER'],
  [5, 'ACK'],
  [6, 'NAK'],
] as const)
const NOWHERE = '0.0.0.0'
const OFFLINE_LEASE_S = 120
const LEAST_OCTETS = 300

export const RULES: readonly Rule[] = [
  {
    id: 'W1',
    says: 'only requests by Ethernet clients are answered',
    check: ({asked, mac}) => asked[0] !== 1 || asked[1] !== 1 || asked[2] !== 6 || mac === '00:00:00:00:00:00' || isGroup(asked),
  },
  {
    id: 'W11',
    says: 'htype, hlen, xid, giaddr and chaddr come back; hops and secs are 0',
    check: ({asked, reply}) =>
      reply[0] !== 2 ||
      reply[3] !== 0 ||
      reply.readUInt16BE(8) !== 0 ||
      !sameAt(
        [
          [1, 2],
          [4, 4],
          [24, 4],
          [28, 16],
        ],
        asked,
        reply,
      ),
  },
  {
    id: 'W11',
    says: 'flags come back; a relayed NAK adds the broadcast bit',
    check: ({asked, reply, type}) => {
      const relayedNak = type === 'NAK' && address(asked, 24) !== NOWHERE
      return reply.readUInt16BE(10) !== (asked.readUInt16BE(10) | (relayedNak ? 0x8000 : 0))
    },
  },
  {
    id: 'W29',
    says: 'every field of options ends with its mark, and holds only zeroes after it',
    check: ({options, lent, reply}) => {
      if (options.endsAt === null || lent.some(({endsAt}) => endsAt === null)) return 'an option leaves its field'
      return reply.subarray(HEAD_OCTETS + options.endsAt + 1).some(byte => byte !== 0)
    },
  },
  {
    id: 'W31',
    says: 'a reply has at least 300 octets, and no more than option 57 and one Ethernet frame allow',
    check({reply, askedOptions}) {
      const option = askedOptions.get(57)
      const size = option?.length === 2 ? option.readUInt16BE(0) : 576
      const most = Math.min(Math.max(size, 576), 1500) - 28
      return reply.length > most || reply.length < LEAST_OCTETS ? `${reply.length} octets, ${most} allowed` : undefined
    },
  },
  {id: 'W14', says: '50, 55 and 57 are a client’s', check: ({byCode}) => [50, 55, 57].some(code => byCode.has(code))},
  {
    id: 'W27',
    says: 'an option comes once, or in full pieces one after another',
    check: ({options, lent}) => [options, ...lent].map(({codes, values}) => repeated(codes, values)).find(found => found),
  },
  {
    id: 'W34',
    says: 'option 82 comes back whole, last, and in the options field, or not at all',
    check({options, lent, byCode, askedOptions}) {
      const echoed = byCode.get(82)
      if (lent.some(({codes}) => codes.includes(82))) return 'it stands in a lent field'
      if (echoed === undefined) return undefined
      if (!echoed.equals(askedOptions.get(82) ?? Buffer.alloc(0))) return 'it is not what was sent'
      return options.codes.slice(options.codes.indexOf(82)).some(code => code !== 82) ? 'another option follows it' : undefined
    },
  },
  {
    id: 'W15',
    says: 'the client identifier comes back if it was sent, as it was sent',
    check({byCode, askedOptions}) {
      const echoed = byCode.get(61)
      return echoed !== undefined && !echoed.equals(askedOptions.get(61) ?? Buffer.alloc(0))
    },
  },
  {
    id: 'W12',
    says: 'a message type, and the server’s name of four octets',
    check: ({byCode, type, bootp}) => !bootp && (type === undefined || byCode.get(54)?.length !== 4),
  },
  {
    id: 'W12',
    says: 'an OFFER or ACK grants an address of a served prefix for no longer than the prefix says; the ACK to INFORM grants none',
    check({byCode, type, informs, bootp, beside, yiaddr}) {
      if (type === 'NAK' || bootp || beside) return undefined
      const lease = byCode.get(51)
      if (informs) return lease !== undefined || yiaddr !== NOWHERE
      const prefix = PREFIXES.find(({cidr}) => cidrContains(cidr, yiaddr))
      if (prefix === undefined) return `${yiaddr} is in no prefix`
      const lease_s = lease?.length === 4 ? lease.readUInt32BE(0) : 0
      return lease_s < 1 || lease_s > prefix.lease_s ? `a lease of ${lease_s} s` : undefined
    },
  },
  {
    id: 'W44',
    says: 'BOOTP is answered without a message type or lease, with the machine’s own address',
    check: ({bootp, byCode, mac, yiaddr}) =>
      bootp && (byCode.has(53) || byCode.has(51) || MACHINES.find(machine => machine.mac === mac)?.address !== yiaddr),
  },
  {
    id: 'W47',
    says: 'without an address Ingot answers only beside another server, and says whose client it means',
    check: ({beside, asked, arrival, byCode}) =>
      beside &&
      ((arrival.interface !== 'br2' && !address(asked, 12).startsWith('10.80.0.')) ||
        !/^(PXE|HTTP)Client$/.test(text(byCode.get(60)))),
  },
  {
    id: 'W13',
    says: 'a NAK grants nothing and names no file',
    check: ({reply, type, byCode}) =>
      type === 'NAK' &&
      (byCode.has(51) || byCode.has(67) || reply.subarray(12, 24).some(Boolean) || reply.subarray(44, 236).some(Boolean)),
  },
  {
    id: 'F1',
    says: 'an ACK leaves only when its lease is committed for this client, or is short while nothing can be',
    check({type, informs, beside, holder, granted_s, mac, yiaddr, byCode, portFails}) {
      if (type !== 'ACK' || informs || beside) return undefined
      const lease = byCode.get(51)?.readUInt32BE(0) ?? 0
      if (holder?.mac === mac && holder.seconds >= lease) return undefined
      const reserved = MACHINES.find(machine => machine.address === yiaddr)?.mac === mac
      const rest_s = reserved ? OFFLINE_LEASE_S : granted_s
      if (portFails && lease <= rest_s) return undefined
      return `${yiaddr} for ${lease} s to ${mac}, committed for ${holder?.mac ?? 'nobody'}, ${holder?.seconds ?? 0} s`
    },
  },
  {
    id: 'W18',
    says: 'a machine’s address is its own',
    check: ({yiaddr, mac}) => (MACHINES.find(machine => machine.address === yiaddr)?.mac ?? mac) !== mac,
  },
  {id: 'F11', says: 'a relay that is on no list hears nothing', check: ({asked}) => !isListed(address(asked, 24))},
  {
    id: 'W7',
    says: 'a reply goes to the relay, else to where its client can hear it, and never to a stranger’s address',
    check({asked, arrival, destination, type, yiaddr}) {
      const [giaddr, ciaddr] = [address(asked, 24), address(asked, 12)]
      const {via, to} = destination
      const isServed = PREFIXES.some(({cidr}) => cidrContains(cidr, to.address))
      if (arrival.proxyFrom) return via !== 'unicast' || to.port !== arrival.proxyFrom.port || !isServed
      if (giaddr !== NOWHERE) return via !== 'relay' || to.address !== giaddr || to.port !== 67
      if (to.port !== 68) return `port ${to.port}`
      if (type === 'NAK') return via !== 'broadcast'
      if (ciaddr !== NOWHERE) return via !== 'unicast' || to.address !== ciaddr || !isServed
      if ((asked.readUInt16BE(10) & 0x8000) !== 0 || yiaddr === NOWHERE) return via !== 'broadcast'
      return via !== 'link' || to.address !== yiaddr
    },
  },
  {
    id: 'W51',
    says: 'a URL never goes to a PXE ROM, nor a TFTP name to an HTTP client; `file` and 67 agree',
    check({reply, byCode, askedOptions, type}) {
      if (type === 'NAK') return undefined
      const file = text(reply.subarray(108, 236))
      const name = byCode.get(67) === undefined ? undefined : text(byCode.get(67))
      if (name !== undefined && !hasLent(byCode) && file !== '' && name !== file) return `${file} and ${name}`
      const given = name ?? (hasLent(byCode) ? '' : file)
      if (given === '') return undefined
      const isUrl = given.startsWith('http://')
      const isIpxe = askedOptions.has(175) || ['iPXE', '\x04iPXE'].includes(askedOptions.get(77)?.toString('latin1') ?? '')
      const vendor = askedOptions.get(60)?.toString('latin1') ?? ''
      if (isIpxe) return !isUrl
      return vendor.startsWith('HTTPClient') ? !isUrl : isUrl
    },
  },
]

/** The rules a reply breaks, each as `W34 option 82 comes back …: it is not what was sent`. */
export function brokenRules(exchange: Exchange): string[] {
  const {asked, askedOptions, reply} = exchange
  if (reply.length < HEAD_OCTETS) return ['W29 a reply has a whole header: it is cut']
  const options = walkField(reply.subarray(HEAD_OCTETS))
  const overload = options.values[options.codes.indexOf(52)]?.[0] ?? 0
  const file = overload === 1 || overload === 3 ? [walkField(reply.subarray(108, 236))] : []
  const sname = overload === 2 || overload === 3 ? [walkField(reply.subarray(44, 108))] : []
  const byCode = joined([options, ...file, ...sname])
  const view: View = {
    ...exchange,
    options,
    lent: [...file, ...sname],
    byCode,
    type: TYPES.get((byCode.get(53)?.[0] ?? 0) as 2),
    informs: askedOptions.get(53)?.[0] === 8,
    bootp: !askedOptions.has(53),
    beside:
      (byCode.get(53)?.[0] === 2 || byCode.get(53)?.[0] === 5) &&
      address(reply, 16) === NOWHERE &&
      !byCode.has(51) &&
      askedOptions.get(53)?.[0] !== 8,
    mac: hexColon(asked.subarray(28, 34)),
    yiaddr: address(reply, 16),
  }
  return RULES.flatMap(({id, says, check}) => {
    const found = check(view)
    return found === undefined || found === false ? [] : [`${id} ${says}${found === true ? '' : `: ${found}`}`]
  })
}

function joined(fields: readonly Field[]): Map<number, Buffer> {
  const byCode = new Map<number, Buffer>()
  for (const {codes, values} of fields) {
    for (const [index, value] of values.entries()) {
      const code = codes[index] ?? 0
      const before = byCode.get(code)
      byCode.set(code, before === undefined ? value : Buffer.concat([before, value]))
    }
  }
  return byCode
}

function repeated(codes: readonly number[], values: readonly Buffer[]): string | undefined {
  for (const [index, code] of codes.entries()) {
    const before = codes.indexOf(code)
    if (before === index) continue
    if (codes[index - 1] !== code || values[index - 1]?.length !== 255) return `option ${code}`
  }
  return undefined
}

function sameAt(ranges: readonly (readonly [number, number])[], a: Buffer, b: Buffer): boolean {
  return ranges.every(([at, length]) => a.compare(b, at, at + length, at, at + length) === 0)
}

function isGroup(asked: Buffer): boolean {
  return ((asked[28] ?? 0) & 1) === 1
}

function isListed(giaddr: Ipv4): boolean {
  return giaddr === NOWHERE || PREFIXES.some(({relays}) => relays.includes(giaddr))
}

function hasLent(byCode: ReadonlyMap<number, Buffer>): boolean {
  return byCode.has(52)
}

function address(bytes: Buffer, at: number): Ipv4 {
  return bytes.subarray(at, at + 4).join('.') as Ipv4
}

function text(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? [])
    .toString('latin1')
    .replace(/\0.*$/s, '')
}
