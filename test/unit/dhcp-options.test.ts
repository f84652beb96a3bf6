/** The option table and its types; architectures; the published vectors of classless routes. */
import {describe, expect, it} from 'vitest'
import type {Cidr, Ipv4} from '../../lib/addresses.ts'
import {ARCHITECTURES, chooseArchitecture, LOADERS} from '../../services/dhcpd/architectures.ts'
import {identifyClient} from '../../services/dhcpd/client.ts'
import {describeClient} from '../../services/dhcpd/observations.ts'
import {describeOptions, OPTIONS, type OptionName, readOption, writeOption} from '../../services/dhcpd/options.ts'
import {CLIENTS, MAC, makeRequest, NOW} from '../support/dhcp-world.ts'

const optionOf = (name: OptionName, ...bytes: number[]) => new Map([[OPTIONS[name].code, Uint8Array.from(bytes)]])

function identified(packet: Parameters<typeof identifyClient>[0]) {
  const client = identifyClient(packet)
  if ('ignored' in client) throw new Error(client.ignored)
  return client
}

describe('DHCP options', () => {
  it('has every code and every name once', () => {
    const codes = Object.values(OPTIONS).map(row => row.code)
    expect(new Set(codes).size).toBe(codes.length)
  })

  it.each<[OptionName, number[]]>([
    ['message_type', []],
    ['message_type', [1, 1]],
    ['requested_address', [10, 0, 0]],
    ['lease_time', [1, 2, 3]],
    ['routers', []],
    ['routers', [10, 0, 0, 1, 10]],
    ['client_network_interface', [1, 2]],
    ['relay_agent_information', [1, 5, 1]],
    ['relay_agent_information', [1]],
    ['classless_routes', [33, 10, 0, 0, 1, 1, 1, 1, 1]],
    ['classless_routes', [24, 10, 0]],
  ])('reads nothing from %s with a length it may not have', (name, bytes) => {
    expect(readOption(optionOf(name, ...bytes), name)).toBeUndefined()
  })

  it('shows unknown and malformed options as bytes', () => {
    expect(describeOptions(new Map([...optionOf('lease_time', 1, 2), [224, Uint8Array.of(1, 255)]]))).toEqual({
      lease_time: '01:02',
      option_224: '01:ff',
    })
  })

  it.each<[string, number[]]>([
    ['0.0.0.0/0', [0]],
    ['10.0.0.0/8', [8, 10]],
    ['10.0.0.0/24', [24, 10, 0, 0]],
    ['10.17.0.0/16', [16, 10, 17]],
    ['10.27.129.0/24', [24, 10, 27, 129]],
    ['10.229.0.128/25', [25, 10, 229, 0, 128]],
    ['10.198.122.47/32', [32, 10, 198, 122, 47]],
  ])('W33 encodes the destination %s as RFC 3442 shows', (destination, descriptor) => {
    const options = new Map<number, Uint8Array>()
    writeOption(options, 'classless_routes', [{destination: destination as Cidr, via: '192.0.2.1' as Ipv4}])
    expect([...options.get(121)!]).toEqual([...descriptor, 192, 0, 2, 1])
    expect(readOption(options, 'classless_routes')).toEqual([{destination, via: '192.0.2.1'}])
  })

  it('W43 takes option 150 as a list of addresses, and no other length', () => {
    expect(readOption(optionOf('tftp_server_addresses', 10, 0, 0, 1, 10, 0, 0, 2), 'tftp_server_addresses')).toEqual([
      '10.0.0.1',
      '10.0.0.2',
    ])
    expect(readOption(optionOf('tftp_server_addresses', 10, 0, 0), 'tftp_server_addresses')).toBeUndefined()
  })
})

describe('DHCP architectures', () => {
  it('lists each code of the registry once, in order', () => {
    expect(ARCHITECTURES.map(({code}) => code)).toEqual(Array.from({length: 0x2a}, (_, code) => code))
  })

  it('W40 reads option 93 as a list of an even length above zero', () => {
    expect(readOption(optionOf('client_architecture', 0, 6, 0, 7), 'client_architecture')).toEqual([6, 7])
    expect(readOption(optionOf('client_architecture', 0), 'client_architecture')).toBeUndefined()
    expect(readOption(optionOf('client_architecture'), 'client_architecture')).toBeUndefined()
  })

  it('W40 boots 7 and 9 with the x64 loader, and takes the first of a list that it can boot', () => {
    expect(chooseArchitecture([7])?.loader).toBe('uefi-x64')
    expect(chooseArchitecture([9])?.loader).toBe('uefi-x64')
    expect(chooseArchitecture([6, 9])?.code).toBe(9)
    expect(chooseArchitecture([6])).toMatchObject({name: 'x86 UEFI', loader: null})
    expect(chooseArchitecture([999])).toBeUndefined()
  })

  it('names a file for every kind of loader', () => {
    const kinds = new Set(ARCHITECTURES.flatMap(({loader}) => loader ?? []))
    expect(Object.keys(LOADERS).sort()).toEqual([...kinds].sort())
  })
})

describe('DHCP client', () => {
  it.each([
    [Buffer.from('iPXE'), 'ipxe'],
    [Buffer.from('\x04iPXE'), 'ipxe'],
    [Buffer.from('iPXE2'), 'rom'],
    [Buffer.from('gPXE'), 'rom'],
  ])('W52 reads the user class %s as stage %s', (user_class, stage) => {
    expect(identified(makeRequest('DISCOVER', {...CLIENTS.biosRom, user_class}))).toMatchObject({stage})
  })

  it('W52 knows iPXE by option 175 alone', () => {
    const packet = makeRequest('DISCOVER', {...CLIENTS.uefiHttp, ipxe: new Map([[19, Uint8Array.of(1)]])})
    expect(identified(packet)).toMatchObject({stage: 'ipxe'})
  })

  it('W28 matches PXEClient and HTTPClient by prefix', () => {
    expect(identified(makeRequest('DISCOVER', {vendor_class: 'PXEClient'})).stage).toBe('rom')
    expect(identified(makeRequest('DISCOVER', {vendor_class: 'HTTPClient:whatever'})).stage).toBe('http')
    expect(identified(makeRequest('DISCOVER', {vendor_class: 'XPXEClient'})).stage).toBe('os')
  })

  it('W42 falls back on the vendor class when option 93 is absent or malformed', () => {
    const packet = makeRequest('DISCOVER', {vendor_class: 'PXEClient:Arch:00007:UNDI:003000'})
    const malformed = makeRequest('DISCOVER', {vendor_class: 'PXEClient:Arch:00007'}, {})
    const options = new Map([...malformed.options, [93, Uint8Array.of(7)]])
    expect(identified(packet).architecture?.code).toBe(7)
    expect(identified({...malformed, options}).architecture?.code).toBe(7)
  })

  it('W80 tells a GUID in both byte orders', () => {
    const guid = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
    const packet = makeRequest('DISCOVER', {client_machine_identifier: Buffer.concat([Buffer.of(0), guid])})
    expect(describeClient(identified(packet), null, 'br0', null, NOW).uuid).toEqual({
      big: '00112233-4455-6677-8899-aabbccddeeff',
      little: '33221100-5544-7766-8899-aabbccddeeff',
    })
  })

  it.each([
    ['all zero', Buffer.alloc(17)],
    ['all ones', Buffer.concat([Buffer.of(0), Buffer.alloc(16, 0xff)])],
    ['of another type', Buffer.concat([Buffer.of(1), Buffer.alloc(16, 0x42)])],
    ['left out', Buffer.of(0)],
  ])('W80 takes a GUID that is %s for none', (_what, client_machine_identifier) => {
    expect(identified(makeRequest('DISCOVER', {...CLIENTS.biosRom, client_machine_identifier}))).toMatchObject({
      guid: null,
      stage: 'rom',
      mac: MAC,
    })
  })

  it.each([
    ['hardware_type', {htype: 6}],
    ['hardware_type', {hlen: 16}],
    ['bad_mac', {chaddr: new Uint8Array(16)}],
    ['bad_mac', {chaddr: new Uint8Array(16).fill(0xff)}],
    ['bad_mac', {chaddr: Uint8Array.from([1, 0, 0x5e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])}],
  ])('ignores a client with %s', (ignored, header) => {
    expect(identifyClient(makeRequest('DISCOVER', {}, header))).toEqual({ignored})
  })
})
