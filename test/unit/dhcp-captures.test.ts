/** Every DHCP packet that real clients sent, decoded into golden files; and who they are, over a whole install. */
import {describe, expect, it} from 'vitest'
import {uuidTexts} from '../../lib/bytes.ts'
import {clientIdText, type DhcpStage, identifyClient} from '../../services/dhcpd/client.ts'
import {describeOptions} from '../../services/dhcpd/options.ts'
import {BOOTREQUEST, decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {type Datagram, listCaptures, readDhcp} from '../support/pcap.ts'

function decode({payload}: Datagram): Packet {
  const packet = decodePacket(payload)
  if ('ignored' in packet) throw new Error(packet.ignored)
  return packet
}

function describePacket(datagram: Datagram) {
  const {chaddr: _chaddr, htype, hlen, options, ...header} = decode(datagram)
  const client = identifyClient(decode(datagram))
  return {
    from: datagram.source,
    to: datagram.destination,
    hardware: `${htype}/${hlen}`,
    ...header,
    ...('ignored' in client
      ? {client: client.ignored}
      : {
          client: {
            mac: client.mac,
            stage: client.stage,
            architecture: client.architecture?.name ?? null,
            guid: client.guid && uuidTexts(client.guid),
          },
        }),
    options: describeOptions(options),
  }
}

const captures = listCaptures().filter(name => readDhcp(name).length > 0)

describe('DHCP captures', () => {
  it('are all there', () => {
    expect(captures).toHaveLength(15)
  })

  it.each(captures)('decode %s as its golden file says', async name => {
    const described = `${JSON.stringify(readDhcp(name).map(describePacket), null, 1)}\n`
    await expect(described).toMatchFileSnapshot(`../fixtures/dhcp-captures/${name.replace('.pcap', '.json')}`)
  })

  it.each(captures)('come back from the encoder as they were read: %s', name => {
    for (const datagram of readDhcp(name)) {
      const packet = decode(datagram)
      const again = decodePacket(encodePacket(packet, 1472).bytes)
      expect(again).toEqual(packet)
    }
  })

  it('W38 show one machine as none, 01+MAC and a DUID, and it is one MAC throughout', () => {
    for (const [name, firstId] of [
      ['journey-bios-ipxe-udhcpc-networkd.pcap', '01:52:54:00:77:00:10'],
      ['journey-uefi-edk2-ipxe-udhcpc-networkd.pcap', null],
    ] as const) {
      const clients = requests(name).map(identifyClient)
      const macs = new Set(clients.map(client => ('ignored' in client ? client.ignored : client.mac)))
      const ids = clients.map(client => ('ignored' in client ? null : clientIdText(client.clientId)))
      expect(macs.size).toBe(1)
      expect(ids[0]).toBe(firstId)
      expect(new Set(ids).size).toBeGreaterThan(1)
      expect(ids.at(-1)).toMatch(/^ff:/)
    }
  })

  it.each<[string, DhcpStage[]]>([
    ['bios-ipxe-rom-virtio.pcap', ['ipxe']],
    ['bios-ipxe-undionly-bootloop.pcap', ['ipxe']],
    ['uefi-x64-edk2-pxev4-then-ipxe.pcap', ['rom', 'ipxe']],
    ['uefi-x64-edk2-httpv4-then-ipxe.pcap', ['http', 'ipxe']],
    ['uefi-x64-ipxe-rom.pcap', ['ipxe']],
    ['client-udhcpc-pxeopts.pcap', ['rom']],
    ['client-udhcpc.pcap', ['os']],
    ['client-isc-dhclient.pcap', ['os']],
    ['journey-uefi-edk2-ipxe-udhcpc-networkd.pcap', ['rom', 'ipxe', 'os', 'http']],
  ])('tell the stages of %s', (name, stages) => {
    const seen = new Set(requests(name).map(packet => (identifyClient(packet) as {stage: DhcpStage}).stage))
    expect([...seen]).toEqual(stages)
  })

  it('W42 a GUID of 18 octets is ignored, and the ROM that sent it is still a ROM', () => {
    const [discover] = requests('client-udhcpc-pxeopts.pcap')
    expect(discover?.options.get(97)).toHaveLength(18)
    expect(identifyClient(discover!)).toMatchObject({stage: 'rom', guid: null, architecture: {loader: 'bios'}})
  })
})

function requests(name: string): readonly Packet[] {
  return readDhcp(name)
    .map(decode)
    .filter(packet => packet.op === BOOTREQUEST)
}
