/** Captures, real and made up: what went wrong in each has its name, and what went well has none. */
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {explainPacket} from '../../services/dhcpd/index.ts'
import {encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {CAUSES, type CaptureAnswers, type CauseCode, explainCapture} from '../../services/diagnosis/index.ts'
import {
  arp,
  dhcpReply,
  dhcpRequest,
  type MadeFrame,
  sequence,
  TCP,
  tcp,
  tftp,
  udp,
  writePcap,
  writePcapng,
} from '../support/capture-builder.ts'
import {ADDRESS, BOOT_URL, CLIENTS, HOST, MAC, makeRequest, makeSnapshot, NOW, SERVER, STRANGER} from '../support/dhcp-world.ts'
import {PCAP_FOLDER} from '../support/pcap.ts'

const ROGUE = '10.77.0.66' as Ipv4
const SCRIPT = `${BOOT_URL}/boot.ipxe`

const answers: CaptureAnswers = {
  dhcp: async (packet, _mac, seen) => explainPacket(makeSnapshot(), packet, {now: NOW, seen, servers: [SERVER]}),
  tftp: ({name}) => ({answer: `would send ${name}`, reasons: []}),
  http: async (method, target) => ({answer: `would answer ${method} ${target}`, reasons: []}),
  nameOf: mac => (mac === MAC ? HOST.name : null),
}

const explain = (frames: readonly MadeFrame[]) => explainCapture(writePcap(frames), answers)
const causesOf = async (...items: readonly (Buffer | number)[]) =>
  (await explain(sequence(...items))).findings.map(({cause}) => cause)

type OptionValues = Parameters<typeof makeRequest>[1]

/** A reply to a request as some server sends it. */
function reply(
  request: Packet,
  type: 'OFFER' | 'ACK' | 'NAK',
  fields: Partial<Packet> & {server?: Ipv4} = {},
  more: OptionValues = {},
): Packet {
  const {server = SERVER, ...header} = fields
  const given = {subnet_mask: '255.255.252.0' as Ipv4, routers: [SERVER], dns_servers: [SERVER], ...more}
  const {options} = makeRequest(type, {server_identifier: server, lease_time: 600, ...given})
  const yiaddr = type === 'NAK' ? ('0.0.0.0' as Ipv4) : ADDRESS
  return {...request, op: 2, yiaddr, siaddr: server, ...header, options}
}

const take = (looks: OptionValues, more: OptionValues = {}, header = {}) =>
  makeRequest('REQUEST', {...looks, server_identifier: SERVER, requested_address: ADDRESS, ...more}, header)

/** DISCOVER to ACK, with a file. */
function lease(looks: OptionValues, file: string, more: OptionValues = {}): Buffer[] {
  const discover = makeRequest('DISCOVER', looks)
  const request = take(looks)
  const given = looks === CLIENTS.uefiHttp ? {vendor_class: 'HTTPClient', ...more} : more
  return [
    dhcpRequest(discover),
    dhcpReply(reply(discover, 'OFFER', {file}, given)),
    dhcpRequest(request),
    dhcpReply(reply(request, 'ACK', {file}, given)),
  ]
}

const NO_PROXY = {ipxe: new Map([[176, Uint8Array.of(1)]])}
const fetchWhole = (name: string, port = 2000) => {
  const file = tftp(`${ADDRESS}:${port}`)
  return [file.read(name), file.data(1, 512), file.ack(1), file.data(2, 40), file.ack(2)]
}
const get = (path: string, status: number, port = 3000) => [
  tcp(`${ADDRESS}:${port}`, `${SERVER}:8480`, TCP.syn),
  tcp(`${SERVER}:8480`, `${ADDRESS}:${port}`, TCP.synAck, '', {from: '0a:00:00:00:00:01', to: MAC}),
  tcp(`${ADDRESS}:${port}`, `${SERVER}:8480`, TCP.push, `GET ${path} HTTP/1.1\r\nHost: ${SERVER}:8480\r\n\r\n`),
  tcp(`${SERVER}:8480`, `${ADDRESS}:${port}`, TCP.push, `HTTP/1.1 ${status} X\r\n\r\n`, {from: '0a:00:00:00:00:01', to: MAC}),
]
const withGuid = (fill: number) => ({client_machine_identifier: Buffer.concat([Buffer.of(0), Buffer.alloc(16, fill)])})
const throughPort = (circuit: string) => ({relay_agent_information: new Map([[1, Buffer.from(circuit)]])})

const discover = dhcpRequest(makeRequest('DISCOVER', CLIENTS.uefiRom))
const offerOf = (server: Ipv4, file = 'snponly.efi') =>
  dhcpReply(reply(makeRequest('DISCOVER', CLIENTS.uefiRom), 'OFFER', {server, file}))

/** For each cause, packets that show it: real ones where the fixtures have them, else made up here. */
const SHOWN: Readonly<Record<CauseCode, string | readonly (Buffer | number)[]>> = {
  NO_DHCP_ANSWER: [discover, 4, discover, 8, discover],
  UNKNOWN_MACHINE: [
    dhcpRequest(makeRequest('DISCOVER', CLIENTS.uefiRom, {mac: STRANGER})),
    4,
    arp(1, STRANGER, '0.0.0.0', '10.77.0.9'),
  ],
  RELAY_NOT_LISTED: [dhcpRequest(makeRequest('DISCOVER', CLIENTS.uefiRom, {giaddr: '192.0.2.1' as Ipv4})), 4, discover],
  LINK_NOT_SERVED: [],
  OFFER_NEVER_REQUESTED: [discover, offerOf(SERVER), 4, discover, offerOf(SERVER), 8, discover, offerOf(SERVER)],
  NO_BOOT_FILE: lease(CLIENTS.uefiRom, ''),
  HTTP_OFFER_INCOMPLETE: lease({...CLIENTS.uefiHttp}, 'snponly.efi'),
  TWO_DHCP_SERVERS: [discover, offerOf(ROGUE), offerOf(SERVER), dhcpRequest(take(CLIENTS.uefiRom))],
  OTHER_SERVER_CHOSEN: [discover, offerOf(ROGUE), dhcpRequest(take(CLIENTS.uefiRom, {server_identifier: ROGUE}))],
  REQUEST_REFUSED: [dhcpRequest(take(CLIENTS.os)), dhcpReply(reply(take(CLIENTS.os), 'NAK', {}, {message: 'not yours'}))],
  REQUEST_UNANSWERED: [discover, offerOf(SERVER), dhcpRequest(take(CLIENTS.uefiRom)), 4, dhcpRequest(take(CLIENTS.uefiRom))],
  OFFER_TOO_LARGE: lease(CLIENTS.os, '', {host_name: 'x'.repeat(900)}),
  TWO_CLIENT_KEYS: 'uefi-x64-edk2-pxev4-then-ipxe.pcap',
  TWO_ADDRESSES: 'journey-uefi-edk2-ipxe-udhcpc-networkd.pcap',
  DUPLICATE_MAC: [
    dhcpRequest(makeRequest('DISCOVER', {...CLIENTS.uefiRom, ...withGuid(0x11)})),
    dhcpRequest(makeRequest('DISCOVER', {...CLIENTS.uefiRom, ...withGuid(0x22)})),
  ],
  ADDRESS_CONFLICT: [...lease(CLIENTS.os, ''), arp(2, '52:54:00:99:99:99', ADDRESS, SERVER)],
  CHAIN_LOOP: 'bios-ipxe-undionly-bootloop.pcap',
  TFTP_NO_ANSWER: [
    ...lease(CLIENTS.uefiRom, 'snponly.efi'),
    tftp(`${ADDRESS}:2000`).read('snponly.efi'),
    4,
    tftp(`${ADDRESS}:2000`).read('snponly.efi'),
  ],
  TFTP_FILE_MISSING: [
    ...lease(CLIENTS.uefiRom, 'snponly.efi'),
    tftp(`${ADDRESS}:2000`).read('snponly.efi'),
    tftp(`${ADDRESS}:2000`).error(1, 'file not found'),
  ],
  TFTP_STOPS: [...fetchWhole('snponly.efi').slice(0, 3), ...[1, 2, 3].map(() => tftp(`${ADDRESS}:2000`).data(2, 512))],
  TFTP_MTU: [
    tftp(`${ADDRESS}:2000`).read('snponly.efi', [['blksize', '1468']]),
    tftp(`${ADDRESS}:2000`).oack([['blksize', '1468']]),
    tftp(`${ADDRESS}:2000`).ack(0),
    ...[1, 2, 3, 4].map(() => tftp(`${ADDRESS}:2000`).data(1, 1468)),
  ],
  LOADER_REFUSED: [
    ...lease(CLIENTS.biosRom, 'snponly.efi'),
    ...fetchWhole('snponly.efi'),
    2,
    dhcpRequest(makeRequest('DISCOVER', CLIENTS.biosRom)),
  ],
  SECURE_BOOT_REFUSED: 'uefi-x64-secureboot-unsigned-denied.pcap',
  SCRIPT_NEVER_FETCHED: [...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY), arp(1, MAC, ADDRESS, SERVER), 5, arp(1, MAC, ADDRESS, SERVER)],
  BOOT_SERVER_SILENT: [
    ...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY),
    ...[1, 2, 4].flatMap(pause => [tcp(`${ADDRESS}:3000`, `${SERVER}:8480`, TCP.syn), pause]),
    arp(1, MAC, ADDRESS, SERVER),
  ],
  BOOT_URL_OUT_OF_REACH: [
    ...lease(CLIENTS.ipxe, 'http://192.0.2.7:8480/boot.ipxe', {...NO_PROXY, routers: []}).map(frame => frame),
    arp(1, MAC, ADDRESS, ADDRESS),
    5,
    arp(1, MAC, ADDRESS, ADDRESS),
  ],
  HTTP_REFUSED: [
    ...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY),
    ...get('/boot.ipxe', 200),
    ...get('/ipxe/52-54-00-77-00-11', 404, 3001),
  ],
  NO_DNS: lease({...CLIENTS.os, vendor_class: 'd-i'}, '', {dns_servers: []}),
  NO_ROUTER_ADVERTISEMENT: 'bios-ipxe-rom-no-ra-no-175.176-slow.pcap',
  WAITS_FOR_PROXY: 'bios-ipxe-rom-no-ra-no-175.176-slow.pcap',
  ONLY_DHCPV6: 'uefi-x64-edk2-pxev6-no-dhcpv6.pcap',
}

async function findings(shown: string | readonly (Buffer | number)[]) {
  const bytes = typeof shown === 'string' ? readFileSync(join(PCAP_FOLDER, shown)) : writePcap(sequence(...shown))
  return (await explainCapture(bytes, answers)).findings
}

describe('the causes', () => {
  it.each(Object.entries(SHOWN).filter(([cause]) => cause !== 'LINK_NOT_SERVED'))(
    '%s is found where it is shown, with a mend and its packets',
    async (cause, shown) => {
      const found = (await findings(shown)).find(finding => finding.cause === cause)
      expect(found, JSON.stringify(await findings(shown), null, 1)).toMatchObject({
        ...CAUSES[cause as CauseCode],
        detail: expect.stringMatching(/\S/),
      })
      expect(found?.packets.length).toBeGreaterThan(0)
    },
  )

  it('LINK_NOT_SERVED is found where no prefix is served', async () => {
    const nowhere = {
      ...answers,
      dhcp: async (packet: Packet) => explainPacket({prefixes: [], hosts: new Map()}, packet, {now: NOW, seen: []}),
    }
    const report = await explainCapture(writePcap(sequence(discover, 4, discover)), nowhere)
    expect(report.findings).toMatchObject([{cause: 'LINK_NOT_SERVED', detail: expect.stringContaining('unserved_link')}])
  })

  it('are not found in walks that went well', async () => {
    const whole = [
      ...lease(CLIENTS.uefiRom, 'snponly.efi'),
      ...fetchWhole('snponly.efi'),
      ...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY),
      ...get('/boot.ipxe', 200),
      ...get('/ipxe/52-54-00-77-00-11', 200, 3001),
      ...lease(CLIENTS.os, ''),
    ]
    expect(await causesOf(...whole, 60, ...whole)).toEqual([])
    for (const name of [
      'bios-ipxe-rom-e1000',
      'bios-ipxe-rom-rtl8139',
      'bios-ipxe-rom-virtio',
      'uefi-x64-ipxe-rom',
      'client-udhcpc',
      'client-isc-dhclient',
      'uefi-x64-secureboot-shim-grub',
    ])
      expect(await findings(`${name}.pcap`), name).toEqual([])
  })

  it.each<[string, CauseCode[]]>([
    ['bios-ipxe-undionly-bootloop.pcap', ['CHAIN_LOOP']],
    ['bios-ipxe-rom-no-ra-no-175.176-slow.pcap', ['WAITS_FOR_PROXY', 'NO_ROUTER_ADVERTISEMENT']],
    ['uefi-x64-secureboot-unsigned-denied.pcap', ['SECURE_BOOT_REFUSED']],
    ['uefi-x64-edk2-pxev6-no-dhcpv6.pcap', ['ONLY_DHCPV6']],
    ['uefi-x64-edk2-httpv4-then-ipxe.pcap', ['TWO_CLIENT_KEYS']],
    ['journey-uefi-edk2-ipxe-udhcpc-networkd.pcap', ['TWO_ADDRESSES', 'TWO_CLIENT_KEYS']],
    ['journey-bios-ipxe-udhcpc-networkd.pcap', ['TWO_ADDRESSES', 'TWO_CLIENT_KEYS']],
  ])('of %s are these and no other', async (name, causes) => {
    expect((await findings(name)).map(({cause}) => cause)).toEqual(causes)
  })

  it('DUPLICATE_MAC takes one UUID in two byte orders for one, and a machine that was moved for one', async () => {
    const guid = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
    const swapped = Buffer.from('33221100554477668899aabbccddeeff', 'hex')
    const asking = (bytes: Buffer) =>
      dhcpRequest(makeRequest('DISCOVER', {client_machine_identifier: Buffer.concat([Buffer.of(0), bytes])}))
    expect(await causesOf(asking(guid), asking(swapped))).not.toContain('DUPLICATE_MAC')
    const at = (port: string) => dhcpRequest(makeRequest('DISCOVER', throughPort(port), {giaddr: '192.0.2.1' as Ipv4}))
    expect(await causesOf(at('eth1'), at('eth1'), at('eth2'), at('eth2'))).not.toContain('DUPLICATE_MAC')
    expect(await causesOf(at('eth1'), at('eth2'), at('eth1'))).toContain('DUPLICATE_MAC')
  })

  it('ADDRESS_CONFLICT is also what a DECLINE says', async () => {
    const decline = makeRequest('DECLINE', {server_identifier: SERVER, requested_address: ADDRESS})
    expect(await causesOf(...lease(CLIENTS.os, ''), dhcpRequest(decline))).toContain('ADDRESS_CONFLICT')
  })

  it('SECURE_BOOT_REFUSED is not said of a machine that ran its loader, nor of one that was switched on again later', async () => {
    const fetched = [...lease(CLIENTS.uefiRom, 'snponly.efi'), ...fetchWhole('snponly.efi')]
    expect(await causesOf(...fetched, 2, ...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY))).not.toContain('SECURE_BOOT_REFUSED')
    expect(await causesOf(...fetched, 300, discover)).not.toContain('SECURE_BOOT_REFUSED')
    expect(await causesOf(...fetched, 2, discover)).toContain('SECURE_BOOT_REFUSED')
  })

  it('TFTP_MTU names the block, and windows sent again count as one stop', async () => {
    const file = tftp(`${ADDRESS}:2000`)
    const windows = [1, 2, 3].flatMap(() => [1, 2, 3, 4].map(block => file.data(block, 1468)))
    const read = [
      file.read('snponly.efi', [
        ['blksize', '1468'],
        ['windowsize', '4'],
      ]),
      file.oack([
        ['blksize', '1468'],
        ['windowsize', '4'],
      ]),
      file.ack(0),
    ]
    const report = await explain(sequence(...read, ...windows))
    expect(report.findings).toMatchObject([
      {cause: 'TFTP_MTU', detail: expect.stringContaining('block 1 of 1468 bytes was sent 3 times')},
    ])
  })
})

describe('a transfer over a bad network', () => {
  it('stops nowhere: blocks that were sent again were acknowledged in the end', async () => {
    const file = tftp(`${ADDRESS}:2000`)
    const again = [1, 2, 3].map(() => file.data(1, 512))
    const frames = [
      ...lease(CLIENTS.uefiRom, 'snponly.efi'),
      file.read('snponly.efi'),
      ...again,
      file.ack(1),
      file.data(2, 40),
      file.ack(2),
    ]
    expect(await causesOf(...frames)).toEqual([])
  })
})

describe('a capture', () => {
  it('is told packet by packet, with what Ingot would have answered and why', async () => {
    const report = await explain(
      sequence(...lease(CLIENTS.ipxe, SCRIPT, NO_PROXY), tftp(`${ADDRESS}:2000`).read('x'), ...get('/boot.ipxe', 200)),
    )
    expect(report).toMatchObject({
      format: 'pcap',
      packets: 9,
      machines: [{mac: MAC, machine: HOST.name}],
      notes: [],
      left_out: {},
    })
    expect(report.shown.map(({what}) => what)).toEqual([
      'DISCOVER: iPXE, x64 UEFI',
      `OFFER ${ADDRESS}, by ${SERVER}, file ${SCRIPT}, at ${SERVER}`,
      `REQUEST: iPXE, x64 UEFI, asks for ${ADDRESS}, of server ${SERVER}`,
      `ACK ${ADDRESS}, by ${SERVER}, file ${SCRIPT}, at ${SERVER}`,
      "TFTP read 'x'",
      `TCP SYN to ${SERVER}:8480`,
      `GET http://${SERVER}:8480/boot.ipxe`,
      'HTTP 200',
    ])
    const [first, offer, request, , read, , asked] = report.shown
    expect(first?.ingot).toMatchObject({answer: `OFFER ${ADDRESS}`, file: SCRIPT, options: {server_identifier: SERVER}})
    expect(first?.ingot?.reasons.map(({rule}) => rule)).toEqual(expect.arrayContaining(['client', 'link', 'host', 'boot file']))
    expect(offer?.ingot).toBeUndefined()
    expect(request?.ingot?.answer).toBe(`ACK ${ADDRESS}`)
    expect(read?.ingot?.answer).toBe('would send x')
    expect(asked?.ingot?.answer).toBe('would answer GET /boot.ipxe')
  })

  it('of a network with a proxy says what Ingot adds there, on port 67 and on 4011', async () => {
    const proxied = makeSnapshot({mode: 'proxy'})
    const beside = {
      ...answers,
      dhcp: async (...[packet, , seen, proxyFrom]: Parameters<CaptureAnswers['dhcp']>) =>
        explainPacket(proxied, packet, {now: NOW, seen, servers: [SERVER], ...(proxyFrom ? {proxyFrom} : {})}),
    }
    const {bytes} = encodePacket(makeRequest('REQUEST', CLIENTS.uefiRom, {ciaddr: ADDRESS}), 1472)
    const frames = sequence(discover, udp(`${ADDRESS}:4011`, `${SERVER}:4011`, bytes))
    const [broadcast, asked] = (await explainCapture(writePcap(frames), beside)).shown
    expect(broadcast?.ingot).toMatchObject({answer: 'OFFER of a boot file and no address', file: 'snponly.efi'})
    expect(asked?.ingot).toMatchObject({answer: 'ACK of a boot file and no address', file: 'snponly.efi'})
  })

  it('is the same as pcap and as pcapng, whatever the byte order and the clock’s unit', async () => {
    const frames = sequence(...lease(CLIENTS.uefiRom, 'snponly.efi'), 3, discover)
    const {format: one, ...pcap} = await explainCapture(writePcap(frames), answers)
    const {format: other, ...pcapng} = await explainCapture(writePcapng(frames), answers)
    expect([one, other]).toEqual(['pcap', 'pcapng'])
    expect(pcapng).toEqual(pcap)
  })

  it('is read through VLAN tags, which tell links apart', async () => {
    const tagged = (frame: Buffer, vlan: number) =>
      Buffer.concat([frame.subarray(0, 12), Buffer.from([0x81, 0, 0, vlan]), frame.subarray(12)])
    const report = await explain(sequence(tagged(discover, 7), tagged(discover, 8)))
    expect(report.shown.map(({vlan}) => vlan)).toEqual([7, 8])
    expect(report.shown[0]?.ingot?.answer).toBe(`OFFER ${ADDRESS}`)
  })

  it('says what keeps it from seeing: packets that were cut, answers that were not captured, a file that ends early', async () => {
    const frames = sequence(...lease(CLIENTS.uefiRom, 'snponly.efi'))
    const cut = await explainCapture(writePcap(frames, {cutAt: 200}), answers)
    expect(cut.notes).toEqual([expect.stringContaining('tcpdump -s 0')])
    expect(cut.left_out).toEqual({'DHCP that was cut when it was captured': 4})
    const half = writePcap(frames)
    expect((await explainCapture(half.subarray(0, half.length - 9), answers)).notes).toEqual([
      'the file ends in the middle of packet 4',
    ])
    const oneSided = await explain(frames.filter((_, index) => index % 2 === 0))
    expect(oneSided.notes).toEqual([expect.stringContaining('answers are missing')])
    expect(oneSided.findings).toEqual([])
  })

  it('tells machines apart, and knows a file’s reader by the address it was given', async () => {
    const other = '10.77.0.51' as Ipv4
    const ask = makeRequest('DISCOVER', CLIENTS.uefiRom, {mac: STRANGER})
    const given = dhcpReply(reply(ask, 'ACK', {yiaddr: other}))
    const read = tftp(`${other}:2000`)
    const routed = [read.read('a'), read.error(1, 'no')].map(frame => Buffer.concat([Buffer.alloc(12, 2), frame.subarray(12)]))
    const report = await explain(sequence(...lease(CLIENTS.uefiRom, 'snponly.efi'), dhcpRequest(ask), given, ...routed))
    expect(report.machines.map(({mac}) => mac)).toEqual([MAC, STRANGER])
    expect(report.shown.filter(({what}) => what.startsWith('TFTP')).map(({mac}) => mac)).toEqual([STRANGER, STRANGER])
  })
})
