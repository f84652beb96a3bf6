/** Packets as the clients of each boot stage send them, made up for `explain`. Pure. */
import {type Ipv4, type Mac, parseIpv4} from '../../lib/addresses.ts'
import {parseHex} from '../../lib/bytes.ts'
import {findArchitecture} from './architectures.ts'
import type {DhcpStage} from './client.ts'
import {MESSAGE_TYPES, RELAY_SUBOPTIONS, writeOption} from './options.ts'
import {BOOTREQUEST, NO_ADDRESS, type Packet} from './packet.ts'

/** The stages at which a machine asks for an address. `ramdisk` and `installer` are systems that happen to boot from the network. */
export type AskingStage = DhcpStage | 'ramdisk' | 'installer'

export type ClientLooks = {
  readonly mac: Mac
  /** Option 93; 7 (x64 UEFI) unless said. */
  readonly architecture?: number
  readonly userClass?: string
  readonly vendorClass?: string
  /** DMI UUID, sent as option 97. */
  readonly uuid?: string
  /** giaddr: the relay it speaks through. */
  readonly relay?: Ipv4
  /** Suboption 1 of option 82: text, or bytes as `0x…` or `01:02:…`. */
  readonly circuitId?: string
}

export const DEFAULT_ARCHITECTURE = 7

const XID = 1

/** What each stage says and asks for, after the captures in test/fixtures/pcap and our own ramdisk. */
const STAGES: Readonly<Record<AskingStage, {readonly asks: readonly number[]; readonly says?: string; readonly boots: boolean}>> =
  {
    rom: {asks: [1, 3, 6, 12, 15, 26, 28, 42, 43, 60, 66, 67, 97, 121, 150, 175], boots: true},
    http: {asks: [1, 3, 6, 12, 15, 26, 28, 42, 43, 60, 66, 67, 97, 121], boots: true},
    ipxe: {asks: [1, 3, 6, 12, 15, 26, 28, 42, 43, 60, 66, 67, 97, 121, 175], boots: true},
    ramdisk: {asks: [1, 3, 6, 12, 15, 28, 42], says: 'ingot-ramdisk', boots: false},
    installer: {asks: [1, 3, 6, 12, 15, 28, 42, 121], says: 'd-i', boots: false},
    os: {asks: [1, 3, 6, 12, 15, 26, 28, 42, 121], boots: false},
  }

/** BIOS and UEFI PXE begin in the ROM, UEFI HTTP boot without TFTP; all go on to iPXE, then to an operating system. */
export function stagesOf(architecture: number): readonly AskingStage[] {
  return [findArchitecture(architecture)?.over === 'http' ? 'http' : 'rom', 'ipxe', 'ramdisk', 'installer', 'os']
}

/** @param offer what it was offered and by whom: with it the packet is a REQUEST, else a DISCOVER */
export function composeRequest(
  looks: ClientLooks,
  stage: AskingStage,
  offer: {readonly address: Ipv4; readonly server: string} | null,
): Packet {
  const options = new Map<number, Uint8Array>()
  writeOption(options, 'message_type', MESSAGE_TYPES.indexOf(offer === null ? 'DISCOVER' : 'REQUEST'))
  if (offer !== null) {
    writeOption(options, 'requested_address', offer.address)
    const server = parseIpv4(offer.server)
    if (server !== undefined) writeOption(options, 'server_identifier', server)
  }
  writeOption(options, 'parameter_request_list', STAGES[stage].asks)
  writeOption(options, 'maximum_message_size', 1472)
  writeStage(options, looks, stage)
  if (looks.circuitId !== undefined) {
    writeOption(options, 'relay_agent_information', new Map([[RELAY_SUBOPTIONS.circuit_id, circuitBytes(looks.circuitId)]]))
  }
  return {
    op: BOOTREQUEST,
    htype: 1,
    hlen: 6,
    hops: looks.relay === undefined ? 0 : 1,
    xid: XID,
    secs: 0,
    flags: 0,
    ciaddr: NO_ADDRESS,
    yiaddr: NO_ADDRESS,
    siaddr: NO_ADDRESS,
    giaddr: looks.relay ?? NO_ADDRESS,
    chaddr: Buffer.concat([parseHex(looks.mac) ?? new Uint8Array(6), new Uint8Array(10)]),
    sname: '',
    file: '',
    options,
  }
}

function writeStage(options: Map<number, Uint8Array>, looks: ClientLooks, stage: AskingStage): void {
  const {architecture = DEFAULT_ARCHITECTURE} = looks
  const userClass = looks.userClass ?? (stage === 'ipxe' ? 'iPXE' : undefined)
  if (userClass !== undefined) writeOption(options, 'user_class', Buffer.from(userClass, 'latin1'))
  const {says, boots} = STAGES[stage]
  if (!boots) {
    const vendorClass = looks.vendorClass ?? says
    if (vendorClass !== undefined) writeOption(options, 'vendor_class', vendorClass)
    return
  }
  const word = stage === 'http' ? 'HTTPClient' : 'PXEClient'
  const vendorClass = looks.vendorClass ?? `${word}:Arch:${String(architecture).padStart(5, '0')}:UNDI:003000`
  writeOption(options, 'vendor_class', vendorClass)
  writeOption(options, 'client_architecture', [architecture])
  const guid = parseHex(looks.uuid ?? '')
  if (guid?.length === 16) writeOption(options, 'client_machine_identifier', Buffer.concat([Uint8Array.of(0), guid]))
}

/** Opaque on the wire (RFC 3046 §3): usually text, sometimes numbers. */
function circuitBytes(text: string): Uint8Array {
  const isHex = /^0x([0-9a-f]{2})+$/i.test(text) || /^[0-9a-f]{2}(:[0-9a-f]{2})+$/i.test(text)
  return (isHex ? parseHex(text.replace(/^0x/i, '')) : undefined) ?? Buffer.from(text, 'utf8').subarray(0, 253)
}
