/** The pure parts of ipam: addresses as integers, what a prefix may look like, how it is split, which addresses its settings take. */
import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import {type Cidr, intToIpv4, parseCidr} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import {settingHolds} from '../../services/ipam/holds.ts'
import {addressToInt, intToAddress, parseAddress, spanContains, usableSpan, wholeSpan} from '../../services/ipam/integers.ts'
import {checkChange, checkPrefix, type PrefixInput, splitPrefix} from '../../services/ipam/prefix-input.ts'

const cidr = (text: string) => text as Cidr

function complaints(input: PrefixInput): string[] {
  try {
    checkPrefix(input)
    return []
  } catch (error) {
    if (!(error instanceof IngotError) || error.code !== 'INVALID_INPUT') throw error
    return (error.errors ?? []).map(entry => `${entry.field} ${entry.code}`)
  }
}

describe('addresses as integers', () => {
  test('go there and back in both families', () => {
    fc.assert(
      fc.property(fc.constantFrom(4 as const, 6 as const), fc.bigInt({min: 0n, max: (1n << 128n) - 1n}), (family, big) => {
        const value = family === 4 ? big & 0xffff_ffffn : big
        const address = intToAddress(value, family)
        expect(parseAddress(address)).toBe(address)
        expect(addressToInt(address)).toBe(value)
      }),
    )
  })

  test('read the compressed and the dotted forms of IPv6', () => {
    expect(addressToInt(parseAddress('::')!)).toBe(0n)
    expect(addressToInt(parseAddress('2001:db8::1')!)).toBe(0x20010db8_00000000_00000000_00000001n)
    expect(addressToInt('::ffff:10.0.0.1' as never)).toBe(0xffff_0a00_0001n)
  })

  test('of an IPv6 address are not in an IPv4 network of the same number', () => {
    expect(spanContains(wholeSpan(cidr('10.0.0.0/24')), '::a00:1' as never)).toBe(false)
  })
})

describe('the default split', () => {
  test.each([
    ['10.0.0.0/24', 'static 10.0.0.1-10.0.0.191, dynamic 10.0.0.192-10.0.0.254'],
    ['10.0.0.0/28', 'static 10.0.0.1-10.0.0.11, dynamic 10.0.0.12-10.0.0.14'],
    ['10.0.0.0/29', 'static 10.0.0.1-10.0.0.6'],
    ['10.0.0.0/30', 'static 10.0.0.1-10.0.0.2'],
    ['10.0.0.4/31', 'static 10.0.0.4-10.0.0.5'],
    ['10.0.0.4/32', 'static 10.0.0.4-10.0.0.4'],
    ['2001:db8::/64', 'static 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff'],
    ['2001:db8::/127', 'static 2001:db8::-2001:db8::1'],
  ])('of %s is %s', (network, split) => {
    expect(
      splitPrefix(cidr(network))
        .map(range => `${range.kind} ${range.first}-${range.last}`)
        .join(', '),
    ).toBe(split)
  })

  test('of any IPv4 network covers its host addresses without gap or overlap', () => {
    fc.assert(
      fc.property(fc.integer({min: 1, max: 32}), fc.nat({max: 0xffffffff}), (length, bits) => {
        const mask = length === 32 ? 0xffffffff : ~(0xffffffff >>> length)
        const network = parseCidr(`${intToIpv4((bits & mask) >>> 0)}/${length}`)!
        const ranges = splitPrefix(network)
        const usable = usableSpan(network)
        expect(addressToInt(ranges[0]!.first)).toBe(usable.first)
        expect(addressToInt(ranges.at(-1)!.last)).toBe(usable.last)
        if (ranges[1]) expect(addressToInt(ranges[1].first)).toBe(addressToInt(ranges[0]!.last) + 1n)
      }),
    )
  })
})

describe('a prefix', () => {
  test('gets its defaults', () => {
    expect(checkPrefix({cidr: '10.0.0.0/24'})).toMatchObject({
      vrf: 'default',
      status: 'active',
      kind: 'host',
      lease_s: 3600,
      dhcp: 'authoritative',
      router_advertisement: false,
      cool_down_s: 300,
      gateway: null,
    })
  })

  test('is told every mistake at once', () => {
    const input: PrefixInput = {
      cidr: '10.0.0.0/24',
      gateway: '10.0.1.1',
      dns: ['10.0.0.2', '010.0.0.3', '2001:db8::1'],
      boot_url: 'http://10.0.0.1:8480/',
      lease_s: 59,
      cool_down_s: 119,
      relays: ['x'],
      role: '<b>',
      exclude: ['10.0.9.9'],
    }
    expect(complaints(input).sort()).toEqual(
      [
        'boot_url format',
        'cool_down_s range',
        'dns[1] format',
        'dns[2] format',
        'exclude[0] outside',
        'gateway outside',
        'lease_s range',
        'relays[0] format',
        'role format',
      ].sort(),
    )
  })

  test.each(['10.0.0.1/24', '10.0.0.0/33', '10.0.0.0', 'x', '010.0.0.0/8'])('is not %s', text => {
    expect(complaints({cidr: text})).toEqual(['cidr format'])
  })

  test.each(['10.0.0.0', '10.0.0.255'])('has no gateway at its end %s', gateway => {
    expect(complaints({cidr: '10.0.0.0/24', gateway})).toEqual(['gateway outside'])
  })

  test.each([
    ['http://010.0.0.1:8480', false],
    ['http://0x0a000001', false],
    ['http://167772161', false],
    ['http://10.0.0.1:0', false],
    ['http://10.0.0.1:65536', false],
    ['http://user@10.0.0.1', false],
    ['ftp://10.0.0.1', false],
    ['http://10.0.0.1/boot', false],
    ['http://10.0.0.1', true],
    ['https://boot.example.net:8480', true],
    ['http://[2001:db8::1]:8480', true],
  ])('with boot URL %s passes: %s', (boot_url, passes) => {
    expect(complaints({cidr: '10.0.0.0/24', boot_url})).toEqual(passes ? [] : ['boot_url format'])
  })

  test.each([
    [{first: '10.0.0.0', last: '10.0.0.9'}, 'ranges[0] outside'],
    [{first: '10.0.0.1', last: '10.0.0.255'}, 'ranges[0] outside'],
    [{first: '10.0.0.9', last: '10.0.0.1'}, 'ranges[0] order'],
    [{first: '10.0.0.1', last: '10.0.1.1'}, 'ranges[0] outside'],
  ])('refuses the range %o', (range, complaint) => {
    expect(complaints({cidr: '10.0.0.0/24', ranges: [{kind: 'static', ...range}]})).toEqual([complaint])
  })

  test('refuses ranges that share an address, whatever their order', () => {
    const ranges = [
      {kind: 'dynamic', first: '10.0.0.50', last: '10.0.0.60'},
      {kind: 'static', first: '10.0.0.1', last: '10.0.0.50'},
    ] as const
    expect(complaints({cidr: '10.0.0.0/24', ranges})).toEqual(['ranges[0] overlap'])
  })

  test('that is a container has nothing to hand out', () => {
    expect(complaints({cidr: '10.0.0.0/8', status: 'container', gateway: '10.0.0.1', dns: ['10.0.0.1']})).toEqual([
      'gateway container',
      'dns container',
    ])
    expect(checkPrefix({cidr: '10.0.0.0/8', status: 'container'}).ranges).toEqual([])
  })

  test('that is IPv6 has no dynamic range', () => {
    const ranges = [{kind: 'dynamic', first: '2001:db8::10', last: '2001:db8::20'}] as const
    expect(complaints({cidr: '2001:db8::/64', ranges})).toEqual(['ranges[0] family'])
  })

  test('changes only what is named, and clears what is set to null', () => {
    const prefix = checkPrefix({cidr: '10.0.0.0/24', gateway: '10.0.0.1', lease_s: 600, dns: ['10.0.0.2']})
    expect(checkChange(prefix, {lease_s: 1200}).settings).toMatchObject({gateway: '10.0.0.1', lease_s: 1200, dns: ['10.0.0.2']})
    expect(checkChange(prefix, {gateway: null}).settings).toMatchObject({gateway: null, lease_s: 600})
    expect(checkChange(prefix, {lease_s: 0xffffffff}).settings).toMatchObject({lease_s: 4_294_967_295})
    expect(() => checkChange(prefix, {lease_s: 0xfffffffe})).toThrow('lease_s')
    expect(() => checkChange(prefix, {gateway: '10.0.1.1'})).toThrow('gateway')
  })
})

describe('ranges and the gateway', () => {
  const spans = (ranges: readonly {kind: string; first: string; last: string}[]) =>
    ranges.map(range => `${range.kind} ${range.first}–${range.last}`)
  const prefix = checkPrefix({cidr: '10.0.0.0/24', gateway: '10.0.0.1'})

  test('stay apart: a range that was given around it is refused, the usual ones are cut', () => {
    const around = [{kind: 'static', first: '10.0.0.1', last: '10.0.0.9'}] as const
    expect(complaints({cidr: '10.0.0.0/24', gateway: '10.0.0.5', ranges: around})).toEqual(['ranges[0] gateway'])
    expect(spans(checkPrefix({cidr: '10.0.0.0/28', gateway: '10.0.0.5'}).ranges)).toEqual([
      'static 10.0.0.1–10.0.0.4',
      'static 10.0.0.6–10.0.0.11',
      'dynamic 10.0.0.12–10.0.0.14',
    ])
    expect(checkPrefix({cidr: '10.0.0.0/32', gateway: null}).ranges).toHaveLength(1)
  })

  test.each([
    ['10.0.0.254', ['static 10.0.0.1–10.0.0.191', 'dynamic 10.0.0.192–10.0.0.253']],
    ['10.0.0.9', ['static 10.0.0.1–10.0.0.8', 'static 10.0.0.10–10.0.0.191', 'dynamic 10.0.0.192–10.0.0.254']],
    [null, ['static 10.0.0.1–10.0.0.191', 'dynamic 10.0.0.192–10.0.0.254']],
  ])('move with it: to %s', (gateway, wanted) => {
    const moved = checkChange(prefix, {gateway})
    expect(spans(moved.ranges)).toEqual(wanted)
    const back = checkChange({...prefix, ...moved.settings, ranges: moved.ranges}, {gateway: '10.0.0.1'})
    expect(spans(back.ranges)).toEqual(spans(prefix.ranges))
  })
})

describe('what a prefix is', () => {
  test('anycast has nothing that is one device’s own', () => {
    const input = {cidr: '10.0.0.0/28', anycast: true, gateway: '10.0.0.1', exclude: ['10.0.0.2']}
    expect(complaints(input)).toEqual(['gateway anycast', 'exclude anycast'])
    expect(checkPrefix({cidr: '10.0.0.0/24', anycast: true}).ranges.map(range => range.kind)).toEqual(['static'])
  })

  test('a container stays one', () => {
    const container = checkPrefix({cidr: '10.0.0.0/8', status: 'container'})
    expect(() => checkChange(container, {status: 'active'})).toThrow('container')
    expect(checkChange(container, {role: 'links', labels: {rack: 'r1'}}).naming).toMatchObject({
      role: 'links',
      labels: {rack: 'r1'},
    })
  })
})

describe('the addresses that settings take', () => {
  const holdsOf = (input: Omit<PrefixInput, 'cidr'>) =>
    settingHolds(checkPrefix({cidr: '10.0.0.0/24', ...input})).map(hold => `${hold.address} ${hold.holder}: ${hold.reason}`)

  test('are gateway, boot service, DNS servers and relays that lie in the prefix', () => {
    expect(
      holdsOf({
        gateway: '10.0.0.1',
        boot_url: 'http://10.0.0.2:8480',
        dns: ['10.0.0.3', '9.9.9.9'],
        relays: ['10.0.0.4', '10.9.9.9'],
      }),
    ).toEqual([
      '10.0.0.1 gateway: gateway',
      '10.0.0.2 boot: boot service',
      '10.0.0.3 dns: DNS server',
      '10.0.0.4 relay: DHCP relay',
    ])
  })

  test('are one hold an address, with every reason', () => {
    expect(holdsOf({gateway: '10.0.0.1', dns: ['10.0.0.1'], boot_url: 'http://10.0.0.1:8480'})).toEqual([
      '10.0.0.1 gateway: gateway, boot service, DNS server',
    ])
  })

  test('are not those of a boot URL with a name', () => {
    expect(holdsOf({boot_url: 'http://boot.example.net'})).toEqual([])
  })
})
