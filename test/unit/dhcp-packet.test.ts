/** The DHCP message codec: fields, options, overload, splitting, limits; then round trips and mutations. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {type Ipv4, intToIpv4} from '../../lib/addresses.ts'
import {describeOptions, OPTIONS, readOption, writeOption} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet, replyLimit} from '../../services/dhcpd/packet.ts'
import {makeRequest} from '../support/dhcp-world.ts'
import {listCaptures, readDhcp} from '../support/pcap.ts'

function decoded(bytes: Uint8Array): Packet {
  const packet = decodePacket(bytes)
  if ('ignored' in packet) throw new Error(`ignored: ${packet.ignored}`)
  return packet
}

/** A request whose options field holds exactly these bytes. */
function withOptions(field: readonly number[], change: (bytes: Buffer) => void = () => undefined): Packet {
  const bytes = Buffer.concat([encodePacket(makeRequest(null)).bytes.subarray(0, 240), Buffer.from(field)])
  change(bytes)
  return decoded(bytes)
}

const filler = (code: number, length: number) => [code, Buffer.alloc(length, code)] as const

describe('DHCP packet', () => {
  it('W3 refuses under 240 octets always and 240 to 299 only when asked to', () => {
    const bytes = encodePacket(makeRequest('DISCOVER')).bytes
    expect(decodePacket(bytes.subarray(0, 239))).toEqual({ignored: 'too_short'})
    expect(decodePacket(bytes.subarray(0, 260))).toMatchObject({xid: 0x01020304})
    expect(decodePacket(bytes.subarray(0, 299), 300)).toEqual({ignored: 'too_short'})
    expect(decodePacket(bytes.subarray(0, 300), 300)).toMatchObject({xid: 0x01020304})
  })

  it.each([0, 3, 255])('W3 discards op %i', op => {
    const bytes = encodePacket(makeRequest('DISCOVER')).bytes
    bytes[0] = op
    expect(decodePacket(bytes)).toEqual({ignored: 'bad_op'})
  })

  it('W5 reads the broadcast bit whatever the reserved bits say', () => {
    expect(decoded(encodePacket(makeRequest('DISCOVER', {}, {flags: 0xffff})).bytes).flags & 0x8000).toBe(0x8000)
    expect(decoded(encodePacket(makeRequest('DISCOVER', {}, {flags: 0x7fff})).bytes).flags & 0x8000).toBe(0)
  })

  it('W29 ends the options with 255 and drops an option that would leave its field', () => {
    const {bytes} = encodePacket(makeRequest('DISCOVER'))
    expect([...bytes.subarray(240, 244)]).toEqual([53, 1, 1, 255])
    expect([...withOptions([53, 1, 3, 12, 200, 65, 66]).options.keys()]).toEqual([53])
    expect([...withOptions([53, 1, 3, 12]).options.keys()]).toEqual([53])
    expect([...withOptions([53, 1, 3, 255, 12, 1, 65]).options.keys()]).toEqual([53])
  })

  it('W30 finds no option 52 in a lent field', () => {
    const packet = withOptions([53, 1, 1, 52, 1, 1, 255], bytes => bytes.set([52, 1, 2, 12, 1, 66, 255], 108))
    expect(describeOptions(packet.options)).toEqual({message_type: 'DISCOVER', host_name: 'B'})
  })

  it('W31 W34 leaves out an option 82 that alone outgrows the limit, though the rest would fit the lent fields', () => {
    const options = new Map([[53, Uint8Array.of(2)], filler(12, 100), filler(82, 600)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), op: 2, options}, 548)
    expect(bytes.length).toBeLessThanOrEqual(548)
    expect(omitted).toEqual([82])
    expect([...decoded(bytes).options.keys()]).toEqual([53, 12])
  })

  it('W13 lends no field of a NAK, whatever has no room then', () => {
    const options = new Map([[53, Uint8Array.of(6)], filler(54, 4), filler(56, 250), filler(61, 100)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), op: 2, options}, 548)
    expect(omitted).toEqual([61])
    expect(bytes.subarray(44, 236).some(Boolean)).toBe(false)
    expect([
      ...encodePacket({...makeRequest(null), op: 2, options: new Map(options).set(53, Uint8Array.of(5))}, 548).omitted,
    ]).toEqual([])
  })

  it('W32 joins thousands of pieces of one option in their order', () => {
    const pieces = Array.from({length: 5000}, (_, index) => [61, 2, index >> 8, index & 255]).flat()
    const joined = withOptions([...pieces, 255]).options.get(61)
    expect(joined?.length).toBe(10_000)
    expect([...(joined?.subarray(9996) ?? [])]).toEqual([4998 >> 8, 4998 & 255, 4999 >> 8, 4999 & 255])
  })

  it('W30 reads options, then file, then sname when option 52 lends both', () => {
    const packet = withOptions([53, 1, 1, 52, 1, 3, 12, 1, 65, 255], bytes => {
      bytes.set([12, 1, 66, 255], 108)
      bytes.set([12, 1, 67, 15, 1, 68, 255], 44)
    })
    expect(describeOptions(packet.options)).toEqual({message_type: 'DISCOVER', host_name: 'ABC', domain_name: 'D'})
    expect(packet).toMatchObject({file: '', sname: ''})
  })

  it.each([
    [1, 'B', '', 'in sname'],
    [2, 'S', 'in file', ''],
  ])('W30 leaves the field alone that overload %i does not lend', (lent, host_name, file, sname) => {
    const packet = withOptions([52, 1, lent, 255], bytes => {
      if (lent === 1) bytes.set([12, 1, 66, 255], 108)
      else bytes.write('in file', 108)
      if (lent === 2) bytes.set([12, 1, 83, 255], 44)
      else bytes.write('in sname', 44)
    })
    expect(readOption(packet.options, 'host_name')).toBe(host_name)
    expect(packet).toMatchObject({file, sname})
  })

  it('W30 takes no overload value outside 1, 2, 3', () => {
    const packet = withOptions([52, 1, 4, 255], bytes => bytes.set([12, 1, 66, 255], 108))
    expect(packet.options.has(12)).toBe(false)
  })

  it.each([
    [undefined, 548],
    [100, 548],
    [576, 548],
    [590, 562],
    [1472, 1444],
    [65280, 1472],
  ])('W31 takes a maximum message size of %s as %i octets of payload', (asked, octets) => {
    expect(replyLimit(makeRequest('DISCOVER', asked === undefined ? {} : {maximum_message_size: asked}))).toBe(octets)
  })

  it('W31 never exceeds the limit, lends file and sname before leaving an option out, and says what it left out', () => {
    const options = new Map([filler(1, 200), filler(3, 100), filler(6, 100), filler(12, 60), filler(15, 250)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), options}, 548)
    expect(bytes.length).toBeLessThanOrEqual(548)
    expect(omitted).toEqual([15])
    expect([...decoded(bytes).options.keys()].sort()).toEqual([1, 12, 3, 6])
    expect(bytes.subarray(240).includes(Buffer.from([52, 1, 3]))).toBe(true)
  })

  it('W31 lends no field that is in use', () => {
    const options = new Map([filler(1, 250), filler(3, 100)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), file: 'undionly.kpxe', sname: 'here', options}, 548)
    expect(omitted).toEqual([3])
    expect(decoded(bytes)).toMatchObject({file: 'undionly.kpxe', sname: 'here'})
  })

  it('W32 joins an option sent in pieces and splits one over 255 octets', () => {
    expect(readOption(withOptions([12, 2, 65, 66, 53, 1, 1, 12, 1, 67, 255]).options, 'host_name')).toBe('ABC')
    const long = Buffer.from(Array.from({length: 600}, (_, index) => index % 251))
    const {bytes} = encodePacket({...makeRequest(null), options: new Map([[43, long]])}, 1472)
    expect([bytes[240], bytes[241], bytes[497], bytes[498]]).toEqual([43, 255, 43, 255])
    expect(decoded(bytes).options.get(43)).toEqual(long)
  })

  it('W32 keeps the pieces of a split option in order across lent fields', () => {
    const long = Buffer.from(Array.from({length: 370}, (_, index) => index % 251))
    const {bytes, omitted} = encodePacket({...makeRequest(null), options: new Map([filler(1, 20), [43, long]])}, 548)
    expect(omitted).toEqual([])
    expect(decoded(bytes).options.get(43)).toEqual(long)
  })

  it('W34 writes option 82 last, in the options field even when others are lent room', () => {
    const options = new Map([filler(82, 40), filler(1, 200), filler(3, 90)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), options}, 548)
    expect(omitted).toEqual([])
    expect(bytes.at(-1)).toBe(255)
    expect([...bytes.subarray(-43, -41)]).toEqual([82, 40])
    expect(decoded(bytes).options.get(82)).toEqual(Buffer.alloc(40, 82))
  })

  it('W34 leaves option 82 out, and says so, when it does not fit', () => {
    const options = new Map([filler(1, 200), filler(3, 90), filler(82, 200)])
    const {bytes, omitted} = encodePacket({...makeRequest(null), file: 'f', sname: 's', options}, 548)
    expect(omitted).toEqual([82])
    expect([...decoded(bytes).options.keys()]).toEqual([1, 3])
  })

  it('W45 skips pads wherever they stand', () => {
    expect(describeOptions(withOptions([0, 53, 1, 3, 0, 0, 12, 1, 65, 0, 255, 0, 0]).options)).toEqual({
      message_type: 'REQUEST',
      host_name: 'A',
    })
  })

  it('W46 pads a reply to 300 octets', () => {
    expect(encodePacket(makeRequest('DISCOVER')).bytes).toHaveLength(300)
  })

  it('W53 cuts names at NUL and drops the 0xff some ROMs leave', () => {
    const {bytes} = encodePacket(makeRequest('DISCOVER'))
    bytes.set(Buffer.from('boot.ipxe\xff\0rest', 'latin1'), 108)
    expect(decoded(bytes).file).toBe('boot.ipxe')
  })

  it('reads a packet without the magic cookie as one without options', () => {
    const {bytes} = encodePacket(makeRequest('DISCOVER'))
    bytes[236] = 0
    expect(decoded(bytes).options.size).toBe(0)
  })
})

const ipv4 = fc.nat(0xffffffff).map(intToIpv4)
const name = (most: number) =>
  fc.string({unit: fc.integer({min: 33, max: 126}).map(code => String.fromCharCode(code)), maxLength: most})
const codes = fc.integer({min: 1, max: 254}).filter(code => code !== OPTIONS.overload.code)
const packets: fc.Arbitrary<Packet> = fc.record({
  op: fc.constantFrom(1, 2),
  htype: fc.nat(255),
  hlen: fc.nat(255),
  hops: fc.nat(255),
  xid: fc.nat(0xffffffff),
  secs: fc.nat(0xffff),
  flags: fc.nat(0xffff),
  ciaddr: ipv4,
  yiaddr: ipv4,
  siaddr: ipv4,
  giaddr: ipv4,
  chaddr: fc.uint8Array({minLength: 16, maxLength: 16}),
  sname: name(63),
  file: name(127),
  options: fc
    .array(fc.tuple(codes, fc.uint8Array({maxLength: 400})), {maxLength: 12})
    .map(entries => new Map(entries) as ReadonlyMap<number, Uint8Array>),
})

const plain = (packet: Packet) => ({
  ...packet,
  chaddr: [...packet.chaddr],
  options: [...packet.options].map(([code, value]) => [code, [...value]]).sort(([a], [b]) => Number(a) - Number(b)),
})

describe('DHCP packet properties', () => {
  it('gives back what it was given, less what it says it left out, within any limit', () => {
    fc.assert(
      fc.property(packets, fc.integer({min: 548, max: 1472}), (packet, limit) => {
        const {bytes, omitted} = encodePacket(packet, limit)
        expect(bytes.length).toBeLessThanOrEqual(limit)
        expect(bytes.length).toBeGreaterThanOrEqual(300)
        const kept = new Map([...packet.options].filter(([code]) => !omitted.includes(code)))
        expect(plain(decoded(bytes))).toEqual(plain({...packet, options: kept}))
      }),
      {numRuns: 2000},
    )
  })

  it('omits nothing that has room in one frame', () => {
    fc.assert(
      fc.property(packets, packet => {
        const octets = [...packet.options.values()].reduce((sum, {length}) => sum + length + 2 * Math.ceil(length / 255), 0)
        fc.pre(octets <= 1200)
        expect(encodePacket(packet, 1472).omitted).toEqual([])
      }),
    )
  })

  it('never throws on captured packets with bytes changed, cut or added', () => {
    const captured = listCaptures().flatMap(readDhcp)
    expect(captured.length).toBeGreaterThan(100)
    fc.assert(
      fc.property(
        fc.constantFrom(...captured),
        fc.array(fc.tuple(fc.nat(700), fc.nat(255)), {maxLength: 20}),
        fc.nat(700),
        fc.uint8Array({maxLength: 80}),
        ({payload}, changes, length, tail) => {
          const bytes = Buffer.concat([payload.subarray(0, length), tail])
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          const packet = decodePacket(bytes)
          if ('ignored' in packet) return
          describeOptions(packet.options)
          const again = encodePacket(packet, 1472)
          expect('ignored' in decodePacket(again.bytes)).toBe(false)
        },
      ),
      {numRuns: 20_000},
    )
  })

  it('writes the typed options it can read', () => {
    const addresses = fc.array(ipv4, {minLength: 1, maxLength: 8})
    fc.assert(
      fc.property(addresses, fc.nat(0xffffffff), fc.nat(0xffff), name(80), (routers, lease_time, mtu, host_name) => {
        const options = new Map<number, Uint8Array>()
        writeOption(options, 'routers', routers)
        writeOption(options, 'lease_time', lease_time)
        writeOption(options, 'interface_mtu', mtu)
        writeOption(options, 'host_name', host_name)
        writeOption(options, 'client_architecture', [mtu, 7])
        writeOption(options, 'server_identifier', routers[0] as Ipv4)
        expect(readOption(options, 'routers')).toEqual(routers)
        expect(readOption(options, 'lease_time')).toBe(lease_time)
        expect(readOption(options, 'interface_mtu')).toBe(mtu)
        expect(readOption(options, 'host_name')).toBe(host_name)
        expect(readOption(options, 'client_architecture')).toEqual([mtu, 7])
        expect(readOption(options, 'server_identifier')).toBe(routers[0])
      }),
    )
  })
})
