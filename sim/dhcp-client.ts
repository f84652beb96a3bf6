/** What firmware and iPXE say in DHCP, as bytes: the options that captures of real ones show (test/fixtures/pcap). Pure. */
import type {Ipv4, Mac} from '../lib/addresses.ts'
import {MESSAGE_TYPES, type MessageType, readOption, writeOption} from '../services/dhcpd/options.ts'
import {BOOTREPLY, BOOTREQUEST, decodePacket, encodePacket, NO_ADDRESS} from '../services/dhcpd/packet.ts'

/** `rom`: PXE firmware that wants its loader by TFTP. `ipxe`: iPXE, in a ROM or loaded. `os`: a system on its disk. */
export type Speaker = 'rom' | 'ipxe' | 'os'

export type Ask = {
  readonly mac: Mac
  readonly uuid: string
  readonly firmware: 'bios' | 'uefi'
  readonly speaker: Speaker
  readonly xid: number
  readonly secs: number
  /** The relay that passes it on. */
  readonly relay: Ipv4
  /** The switch port, as option 82 names it. */
  readonly port: string
  /** The offer that is taken up; a DISCOVER without. */
  readonly offer?: Reply
}

export type Reply = {
  readonly type: MessageType
  readonly xid: number
  readonly address: Ipv4
  readonly server: Ipv4 | undefined
  readonly nextServer: Ipv4
  readonly file: string
  readonly lease_s: number
  readonly mac: string
}

const ARCHITECTURES = {bios: 0, uefi: 7} as const
const UNDI = {bios: '002001', uefi: '003010'} as const
/** Suboption of option 175 by which iPXE says that it speaks HTTP. */
const IPXE_HTTP = 19
/** Option 55 of iPXE, and of PXE firmware, in the order of the captures. */
const ASKED = {
  ipxe: [1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203],
  rom: [1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97],
  os: [1, 3, 6, 12, 15, 26],
} as const

export function encodeAsk(ask: Ask): Buffer {
  const options = new Map<number, Uint8Array>()
  const {offer, speaker, firmware} = ask
  writeOption(options, 'message_type', MESSAGE_TYPES.indexOf(offer ? 'REQUEST' : 'DISCOVER'))
  writeOption(options, 'maximum_message_size', 1472)
  if (speaker !== 'os') {
    const architecture = ARCHITECTURES[firmware]
    writeOption(options, 'client_architecture', [architecture])
    writeOption(options, 'client_network_interface', Uint8Array.of(1, 2, 1))
    writeOption(options, 'vendor_class', `PXEClient:Arch:${String(architecture).padStart(5, '0')}:UNDI:${UNDI[firmware]}`)
    writeOption(options, 'client_machine_identifier', Uint8Array.of(0, ...guidBytes(ask.uuid)))
  }
  if (speaker === 'ipxe') {
    writeOption(options, 'user_class', Buffer.from('iPXE'))
    writeOption(options, 'client_identifier', Uint8Array.of(1, ...macBytes(ask.mac)))
    writeOption(options, 'ipxe', new Map([[IPXE_HTTP, Uint8Array.of(1)]]))
  }
  writeOption(options, 'parameter_request_list', ASKED[speaker])
  if (offer) {
    if (offer.server) writeOption(options, 'server_identifier', offer.server)
    writeOption(options, 'requested_address', offer.address)
  }
  writeOption(options, 'relay_agent_information', new Map([[1, Buffer.from(ask.port)]]))
  const chaddr = new Uint8Array(16)
  chaddr.set(macBytes(ask.mac))
  const nothing = {flags: 0, ciaddr: NO_ADDRESS, yiaddr: NO_ADDRESS, siaddr: NO_ADDRESS, sname: '', file: ''}
  const header = {op: BOOTREQUEST, htype: 1, hlen: 6, hops: 1, xid: ask.xid, secs: ask.secs, giaddr: ask.relay, chaddr}
  return encodePacket({...header, ...nothing, options}, 1400).bytes
}

/** @returns undefined for what is no answer of a DHCP server */
export function readReply(bytes: Uint8Array): Reply | undefined {
  const packet = decodePacket(bytes)
  if ('ignored' in packet || packet.op !== BOOTREPLY) return undefined
  const type = MESSAGE_TYPES[readOption(packet.options, 'message_type') ?? 0]
  if (!type) return undefined
  return {
    type,
    xid: packet.xid,
    address: packet.yiaddr,
    server: readOption(packet.options, 'server_identifier'),
    nextServer: packet.siaddr,
    file: readOption(packet.options, 'boot_file_name') ?? packet.file,
    lease_s: readOption(packet.options, 'lease_time') ?? 0,
    mac: Buffer.from(packet.chaddr.subarray(0, 6))
      .toString('hex')
      .replace(/(..)(?!$)/g, '$1:'),
  }
}

export function macBytes(mac: Mac): Uint8Array {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

function guidBytes(uuid: string): Uint8Array {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex')
}
