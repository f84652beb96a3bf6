/** Options as operators set them: what is taken, what is refused and why, what goes on the wire, and which scope wins. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {decide} from '../../services/dhcpd/decide.ts'
import {changeLoaders, LOADER_KEYS} from '../../services/dhcpd/loader-keys.ts'
import {CODECS, type Codec, encodeValue, type OptionType} from '../../services/dhcpd/option-codecs.ts'
import {
  changeOptions,
  compileOptions,
  type DhcpScope,
  listOptionTypes,
  type StoredOptions,
} from '../../services/dhcpd/option-values.ts'
import {describeOptions, OPTIONS, type OptionRow} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet, replyLimit} from '../../services/dhcpd/packet.ts'
import {buildReply} from '../../services/dhcpd/reply.ts'
import type {DhcpSnapshot} from '../../services/dhcpd/snapshot.ts'
import {ARRIVAL, BOOT_URL, CLIENTS, HOST, MAC, makeRequest, makeSnapshot, NOW} from '../support/dhcp-world.ts'

const NTP = '10.0.0.1' as Ipv4

/** Set from nothing, by name and value. */
function setting(values: Record<string, unknown>, always = false) {
  const set = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, {value, always}]))
  return changeOptions({}, {set})
}

function stored(values: Record<string, unknown>, always = false): StoredOptions {
  const result = setting(values, always)
  if ('errors' in result) throw new Error(JSON.stringify(result.errors))
  return result.options
}

function bytesOf(name: string, value: unknown): string {
  const {options} = compileOptions(stored({[name]: value}))
  return Buffer.from([...options.values()][0]!.bytes).toString('hex')
}

function refusal(name: string, value: unknown): string {
  const result = setting({[name]: value})
  return 'errors' in result ? result.errors.map(error => `${error.code}: ${error.message}`).join() : 'taken'
}

function scope(
  kind: DhcpScope['kind'],
  name: string,
  values: Record<string, unknown>,
  more: {always?: boolean; loaders?: Record<string, string>} = {},
): DhcpScope {
  return {kind, name, options: compileOptions(stored(values, more.always)).options, loaders: more.loaders ?? {}}
}

describe('the option table', () => {
  it('has each code and each name once', () => {
    const codes = listOptionTypes().map(({code}) => code)
    expect(new Set(codes).size).toBe(codes.length)
    expect(codes.length).toBeGreaterThan(110)
    expect(codes).toEqual(codes.toSorted((a, b) => a - b))
  })

  it('shows for every type an example that it takes', () => {
    for (const {name, type, example, owned} of listOptionTypes()) {
      expect(encodeValue(type, example), type).toHaveProperty('bytes')
      const {length, least = 0}: OptionRow = OPTIONS[name as keyof typeof OPTIONS]
      if (owned === null && length === undefined && least <= 1) expect(refusal(name, example), name).toBe('taken')
    }
  })

  it('reads back from the wire what it wrote, for any value of any type', () => {
    const octet = fc.integer({min: 0, max: 255})
    const ip = fc.tuple(octet, octet, octet, octet).map(parts => parts.join('.'))
    const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
    const domain = fc.array(label, {minLength: 1, maxLength: 4}).map(labels => labels.join('.'))
    const hex = fc.uint8Array({minLength: 1, maxLength: 40}).map(bytes => Buffer.from(bytes).toString('hex'))
    const some = <T>(one: fc.Arbitrary<T>) => fc.array(one, {minLength: 1, maxLength: 6})
    const values: Record<OptionType, fc.Arbitrary<unknown>> = {
      flag: fc.boolean(),
      u8: octet,
      u16: fc.integer({min: 0, max: 0xffff}),
      u32: fc.integer({min: 0, max: 0xffffffff}),
      i32: fc.integer({min: -0x80000000, max: 0x7fffffff}),
      u8s: some(octet),
      u16s: some(fc.integer({min: 0, max: 0xffff})),
      ip,
      ips: some(ip),
      ip_pairs: some(fc.tuple(ip, ip).map(pair => pair.join(' '))),
      text: fc.stringMatching(/^[\x20-\x7e]{1,60}$/),
      domains: some(domain),
      bytes: hex.map(text => text.match(/../g)!.join(':')),
      routes: some(fc.tuple(octet, ip).map(([network, via]) => `10.${network}.0.0/16 via ${via}`)),
      suboptions: fc
        .dictionary(fc.integer({min: 1, max: 254}).map(String), hex, {minKeys: 1, maxKeys: 5})
        .map(value => Object.fromEntries(Object.entries(value).map(([code, text]) => [code, text.match(/../g)!.join(':')]))),
    }
    for (const [type, arbitrary] of Object.entries(values) as [OptionType, fc.Arbitrary<unknown>][]) {
      const codec: Codec<unknown> = CODECS[type]
      fc.assert(
        fc.property(arbitrary, value => {
          const encoded = encodeValue(type, value)
          if ('complaint' in encoded) throw new Error(`${type}: ${encoded.complaint}`)
          expect(encoded.value).toEqual(value)
          expect(codec.describe(codec.decode(encoded.bytes))).toEqual(value)
          expect(encodeValue(type, encoded.value)).toEqual(encoded)
        }),
        {numRuns: 60},
      )
    }
  })

  it('answers any octets with a value or nothing, and any JSON with a value or a sentence', () => {
    for (const type of Object.keys(CODECS) as OptionType[]) {
      fc.assert(
        fc.property(fc.uint8Array({maxLength: 80}), bytes => void CODECS[type].decode(bytes)),
        {numRuns: 100},
      )
      fc.assert(
        fc.property(fc.jsonValue(), value => {
          const encoded = encodeValue(type, value)
          if ('complaint' in encoded) expect(encoded.complaint).toMatch(/^(is|has) /)
        }),
        {numRuns: 100},
      )
    }
  })
})

describe('an option that is set', () => {
  it.each([
    ['ntp_servers', '10.0.0.1, 10.0.0.2', '0a0000010a000002'],
    ['ntp_servers', ['10.0.0.1'], '0a000001'],
    ['time_offset', -3600, 'fffff1f0'],
    ['ip_forwarding', 'true', '01'],
    ['interface_mtu', '9000', '2328'],
    ['static_routes', '10.1.0.0 10.0.0.1', '0a0100000a000001'],
    ['domain_search', 'eng.example.com,example.com', '03656e67076578616d706c6503636f6d00076578616d706c6503636f6d00'],
    ['classless_routes', '10.8.0.0/16 via 10.0.0.1', '100a080a000001'],
    ['vendor_specific', '{"1:ips": "10.0.0.1", "2:text": "lab", "241": "0a:01"}', '01040a00000102036c6162f1020a01'],
    ['vendor_specific', 'f1040a000001', 'f1040a000001'],
    ['option-224:text', 'lab', '6c6162'],
    ['option-230:u16', 258, '0102'],
    ['option-231:ips', '10.0.0.1', '0a000001'],
  ])('%s=%j goes out as %s', (name, value, hex) => {
    expect(bytesOf(name, value)).toBe(hex)
  })

  it('W33 reads compressed names (RFC 3397) and refuses a pointer that points ahead or to itself', () => {
    // RFC 3397 §3: "eng.apple.com." and "marketing.apple.com.", the second ending in a pointer to offset 4.
    const example = Buffer.from('03656e67056170706c6503636f6d00096d61726b6574696e67c004', 'hex')
    expect(CODECS.domains.decode(example)).toEqual(['eng.apple.com', 'marketing.apple.com'])
    expect(CODECS.domains.decode(Buffer.from('c000', 'hex'))).toBeUndefined()
    expect(CODECS.domains.decode(Buffer.from('0161c005016200', 'hex'))).toBeUndefined()
  })

  it.each([
    ['nonsense', 'x', 'unknown: is no option: `ingot dhcp options types` lists them, others are option-<code>:<type>'],
    ['option-0:text', 'x', 'unknown: is no option'],
    ['option-255:text', 'x', 'unknown: has no code from 1 to 254'],
    ['option-42:ips', '10.0.0.1', 'named: is ntp_servers: use that name'],
    ['option-224:words', 'x', 'type: has no type; there are'],
    ['option-224:constructor', 'x', 'type: has no type'],
    ['__proto__', 'x', 'unknown: is no option'],
    ['ntp_servers', '10.0.0.256', 'value: is a list of IPv4 addresses; "10.0.0.256" is none'],
    ['ntp_servers', [], 'value: is a list of IPv4 addresses, not empty'],
    ['ntp_servers', 7, 'value: is a list of IPv4 addresses'],
    ['ntp_servers', [null], 'value: is a list of IPv4 addresses; null is none'],
    ['interface_mtu', 67, 'range: is at least 68'],
    ['interface_mtu', 65536, 'value: is a whole number from 0 to 65535'],
    ['interface_mtu', 1.5, 'value: is a whole number'],
    ['netbios_node_type', 9, 'range: is from 1 to 8'],
    ['domain_name', 'lab\u0000', 'value: is a text of printable ASCII'],
    ['domain_search', 'a..b', 'value: is a list of domain names'],
    ['classless_routes', '10.8.0.1/16 via 10.0.0.1', 'value: is a list of routes'],
    ['classless_routes', 'fd00::/64 via 10.0.0.1', 'value: is a list of routes'],
    ['vendor_specific', '{"1:ips": "x"}', 'value: has a suboption 1, which is a list of IPv4 addresses'],
    ['vendor_specific', '{"255": "00"}', "value: has a suboption '255'"],
    ['vendor_specific', '08c8', 'value: is suboptions such as'],
    ['geoconf', '01:02', 'length: has 16 octets, not 2'],
    ['option-224:text', 'x'.repeat(513), 'length: has 513 octets; a reply has room for 512'],
  ])('%s=%j is refused: %s', (name, value, why) => {
    expect(refusal(name, value)).toContain(why)
  })

  it('is refused where Ingot sends it itself, with why, for all that a reply is built of', () => {
    const owned = [1, 28, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 67, 77, 82, 93, 94, 97, 118, 150, 175]
    for (const code of owned) {
      const {name, example} = listOptionTypes().find(row => row.code === code)!
      expect(refusal(name, example), name).toMatch(/^owned: is Ingot’s own to send: .{10}/)
      expect(refusal(`option-${code}:bytes`, '00'), name).toContain('named:')
    }
  })

  it('replaces what another name or type set for the same code, and all of a change is refused together', () => {
    const before = stored({'option-224:text': 'lab', ntp_servers: NTP})
    expect(changeOptions(before, {set: {'option-224:u8': {value: 3, always: true}}})).toEqual({
      options: {ntp_servers: {value: [NTP], always: false}, 'option-224:u8': {value: 3, always: true}},
    })
    const result = changeOptions(before, {
      set: {host_name: {value: 'x', always: false}, lease_time: {value: 1, always: false}},
      unset: ['www_servers'],
    })
    expect('errors' in result && result.errors.map(error => error.field)).toEqual(['unset.www_servers', 'set.lease_time'])
    expect(changeOptions(before, {unset: ['ntp_servers', 'option-224:text']})).toEqual({options: {}})
  })

  it('that a later version cannot encode any more is left out and named, and the rest is sent', () => {
    const {options, unusable} = compileOptions({...stored({ntp_servers: NTP}), gone: {value: 1, always: false}})
    expect([...options.keys()]).toEqual([42])
    expect(unusable).toEqual(['gone'])
  })
})

describe('options by scope', () => {
  const site = scope('site', 'the site', {ntp_servers: '10.0.0.9', dns_servers: '10.0.0.9', root_path: 'site', wpad_url: 'site'})
  const ofPrefix = scope('prefix', 'prefix 10.77.0.0/22', {
    ntp_servers: '10.0.0.8',
    root_path: 'prefix',
    merit_dump_file: 'prefix',
  })
  const profile = scope('profile', 'profile web', {ntp_servers: '10.0.0.7', root_path: 'profile'})
  const machine = scope('machine', 'machine server0001', {ntp_servers: '10.0.0.6'})

  const snapshot = makeSnapshot({scopes: [site, ofPrefix]}, [[MAC, {...HOST, scopes: [profile, machine]}]])
  const asking = (...codes: number[]) => makeRequest('DISCOVER', {parameter_request_list: codes})

  function sent(request: Packet, known: DhcpSnapshot = snapshot) {
    const {answer, reasons} = decide(request, ARRIVAL, known, {}, NOW)
    if (!('offer' in answer)) throw new Error(JSON.stringify(answer))
    const packet = decodePacket(encodePacket(buildReply(request, 'OFFER', answer.offer), replyLimit(request)).bytes)
    if ('ignored' in packet) throw new Error(packet.ignored)
    return {...packet, named: describeOptions(packet.options), reasons, boot: answer.offer.boot}
  }

  it('take the machine’s before the profile’s, then the prefix’s, then the site’s', () => {
    expect(sent(asking(42, 17, 14, 252)).named).toMatchObject({
      ntp_servers: ['10.0.0.6'],
      root_path: 'profile',
      merit_dump_file: 'prefix',
      wpad_url: 'site',
      // The prefix's own field is narrower than the site.
      dns_servers: ['10.77.0.2'],
    })
  })

  it('say in the reasons where each came from and what it stood over', () => {
    const told = sent(asking(42)).reasons.find(reason => reason.rule === 'options')
    expect(told?.because).toContain('ntp_servers from machine server0001, over profile web, prefix 10.77.0.0/22, the site')
    expect(told?.because).toContain('root_path from profile web, over prefix 10.77.0.0/22, the site')
    expect(told?.source).toBe('machine > profile > prefix > site')
  })

  it('W27 go to those who ask, or always, and each once', () => {
    expect(sent(asking(1)).named).not.toHaveProperty('root_path')
    const loud = makeSnapshot({scopes: [scope('prefix', 'p', {root_path: 'x'}, {always: true})]})
    expect(sent(asking(1), loud).named).toMatchObject({root_path: 'x'})
    expect(sent(makeRequest('DISCOVER'), loud).named).toMatchObject({root_path: 'x'})
    const {options} = sent(asking(42, 17, 42, 17))
    expect([...options.keys()].filter(code => code === 42)).toHaveLength(1)
  })

  it('replace the prefix’s router and name servers, and a profile that is given up no longer counts', () => {
    const own = scope('machine', 'm', {routers: '10.77.0.254', dns_servers: '10.77.0.253', host_name: 'called'})
    const known = makeSnapshot({}, [[MAC, {...HOST, scopes: [own]}]])
    expect(sent(asking(3, 6, 12), known).named).toMatchObject({
      routers: ['10.77.0.254'],
      dns_servers: ['10.77.0.253'],
      host_name: 'called',
    })
    expect(sent(asking(3, 6, 12), makeSnapshot()).named).toMatchObject({routers: ['10.77.0.1'], host_name: 'server0001'})
    const named = makeSnapshot({scopes: [scope('prefix', 'p', {host_name: 'common'})]})
    expect(sent(asking(12), named).named).toMatchObject({host_name: 'server0001'})
  })

  it('W33 classless routes bring the default route along and send 3 and 33 home, for those who ask; Windows’ number for them too', () => {
    const known = makeSnapshot({
      scopes: [scope('prefix', 'p', {classless_routes: '10.8.0.0/16 via 10.77.0.9', static_routes: '10.1.0.0 10.77.0.9'})],
    })
    const routed = sent(asking(3, 33, 121, 249), known).named
    expect(routed.classless_routes).toEqual([
      {destination: '0.0.0.0/0', via: '10.77.0.1'},
      {destination: '10.8.0.0/16', via: '10.77.0.9'},
    ])
    expect(routed.microsoft_classless_routes).toEqual(routed.classless_routes)
    expect(routed).not.toHaveProperty('routers')
    expect(routed).not.toHaveProperty('static_routes')
    const plain = sent(asking(3, 33), known).named
    expect(plain).toMatchObject({routers: ['10.77.0.1'], static_routes: [['10.1.0.0', '10.77.0.9']]})
    expect(plain).not.toHaveProperty('classless_routes')
  })

  it('keep an operator’s option 43 from netboot clients, who would take it for PXE’s own', () => {
    const known = makeSnapshot({scopes: [scope('prefix', 'p', {vendor_specific: 'f1040a000001'})]})
    expect(sent(asking(43), known).options.has(43)).toBe(true)
    for (const client of ['biosRom', 'uefiHttp', 'ipxe'] as const) {
      const request = makeRequest('DISCOVER', {...CLIENTS[client], parameter_request_list: [43, 67]})
      expect(sent(request, known).options.has(43), client).toBe(false)
    }
  })

  it('W31 leave room first for what a netboot client boots with', () => {
    const long = Object.fromEntries(Array.from({length: 8}, (_, index) => [`option-${224 + index}:text`, 'x'.repeat(120)]))
    const known = makeSnapshot({scopes: [scope('prefix', 'p', long, {always: true})]})
    const offer = sent(makeRequest('DISCOVER', {...CLIENTS.biosRom, maximum_message_size: 576}), known)
    expect(offer).toMatchObject({file: 'undionly.kpxe'})
    expect(offer.named).toMatchObject({boot_file_name: 'undionly.kpxe', lease_time: 600, routers: ['10.77.0.1']})
  })

  it('name loaders by architecture number before kind, and the narrower scope before both', () => {
    const loaders = {bios: 'site.kpxe', 'uefi-x64': 'site.efi', '16': 'http.efi', '6': 'ia32.efi'}
    const known = makeSnapshot({scopes: [scope('site', 'the site', {}, {loaders})]})
    const file = (options: Parameters<typeof makeRequest>[1], at = known) => sent(makeRequest('DISCOVER', options), at).file
    expect(file(CLIENTS.biosRom)).toBe('site.kpxe')
    expect(file(CLIENTS.uefiRom)).toBe('site.efi')
    expect(file(CLIENTS.uefiHttp)).toBe(`${BOOT_URL}/loaders/http.efi`)
    expect(file({...CLIENTS.uefiRom, client_architecture: [6]})).toBe('ia32.efi')
    const own = {...HOST, scopes: [scope('machine', 'machine server0001', {}, {loaders: {'uefi-x64': 'own.efi'}})]}
    const narrowed = makeSnapshot({scopes: known.prefixes[0]!.scopes!}, [[MAC, own]])
    expect(file(CLIENTS.uefiRom, narrowed)).toBe('own.efi')
    expect(file(CLIENTS.uefiHttp, narrowed)).toBe(`${BOOT_URL}/loaders/own.efi`)
    expect(file(CLIENTS.biosRom, narrowed)).toBe('site.kpxe')
    expect(file(CLIENTS.ipxe, narrowed)).toBe(`${BOOT_URL}/boot.ipxe`)
    const {reasons} = sent(makeRequest('DISCOVER', CLIENTS.uefiRom), narrowed)
    expect(reasons.find(reason => reason.rule === 'boot file')?.because).toBe('own.efi by tftp, set for machine server0001')
  })
})

describe('loaders that are set', () => {
  it('are for a kind, an IANA number or BOOTP, and fit a packet', () => {
    expect(LOADER_KEYS).toEqual(expect.arrayContaining(['bios', 'uefi-x64', 'uefi-arm64', 'bootp', '0', '41']))
    expect(changeLoaders({bios: 'a'}, {set: {'16': 'b.efi'}, unset: ['bios']})).toEqual({loaders: {'16': 'b.efi'}})
    const result = changeLoaders({}, {set: {mips: 'x', bios: 'y'.repeat(128)}, unset: ['uefi-x64']})
    expect('errors' in result && result.errors.map(error => `${error.field} ${error.code}`)).toEqual([
      'unset.uefi-x64 absent',
      'set.mips unknown',
      'set.bios length',
    ])
  })
})
