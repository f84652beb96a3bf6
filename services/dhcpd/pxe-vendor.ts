/**
 * PXE's own suboptions inside option 43 (PXE 2.1 specification, table 2-1 and §2.2), as far as a proxyDHCP server speaks them. Pure.
 *
 * Ingot's offer carries the boot file itself and says so (43.6, bit 3): the client then asks no boot server and shows no menu. Menus
 * (8, 9, 10) can be read and written, for an operator may set them as options; a client that chose from one says what (71).
 */
import type {Ipv4} from '../../lib/addresses.ts'
import {readIpv4, readSuboptions, writeIpv4} from './option-codecs.ts'

export const PXE = {discovery_control: 6, boot_servers: 8, boot_menu: 9, menu_prompt: 10, boot_item: 71} as const

/** 43.6: bit 3, "take the boot file of this offer; do not prompt, show a menu or discover". */
export const USE_THIS_BOOT_FILE = 8

/** 43.71: what was chosen, and the layer of it; the high bit of the layer asks for credentials, which there are none of. */
export type BootItem = {readonly type: number; readonly layer: number}
export type PxeVendor = {
  readonly discoveryControl?: number
  readonly bootServers?: readonly {readonly type: number; readonly addresses: readonly Ipv4[]}[]
  readonly menu?: readonly {readonly type: number; readonly text: string}[]
  /** Seconds until the first entry is taken; 255 waits. */
  readonly prompt?: {readonly timeout_s: number; readonly text: string}
  readonly item?: BootItem
}

export function encodePxeVendor(vendor: PxeVendor): Uint8Array {
  const parts: Uint8Array[] = []
  const add = (code: number, body: Uint8Array) => parts.push(Uint8Array.of(code, body.length), body)
  if (vendor.discoveryControl !== undefined) add(PXE.discovery_control, Uint8Array.of(vendor.discoveryControl))
  if (vendor.bootServers !== undefined) add(PXE.boot_servers, Buffer.concat(vendor.bootServers.map(encodeServers)))
  if (vendor.menu !== undefined) add(PXE.boot_menu, Buffer.concat(vendor.menu.map(encodeEntry)))
  if (vendor.prompt !== undefined)
    add(PXE.menu_prompt, Buffer.concat([Uint8Array.of(vendor.prompt.timeout_s), Buffer.from(vendor.prompt.text, 'latin1')]))
  if (vendor.item !== undefined) add(PXE.boot_item, Buffer.concat([uint16(vendor.item.type), uint16(vendor.item.layer)]))
  // Its end is part of it (PXE_END): some ROMs read on without.
  return Buffer.concat([...parts, Uint8Array.of(255)])
}

/** @returns undefined where the bytes are no suboptions; one that is malformed is left out */
export function decodePxeVendor(bytes: Uint8Array): PxeVendor | undefined {
  const found = readSuboptions(bytes)
  if (found === undefined) return undefined
  const control = found.get(PXE.discovery_control)
  const servers = decodeServers(found.get(PXE.boot_servers))
  const menu = decodeMenu(found.get(PXE.boot_menu))
  const prompt = found.get(PXE.menu_prompt)
  const item = found.get(PXE.boot_item)
  return {
    ...(control?.length === 1 ? {discoveryControl: control[0] ?? 0} : {}),
    ...(servers === undefined ? {} : {bootServers: servers}),
    ...(menu === undefined ? {} : {menu}),
    ...(prompt === undefined || prompt.length === 0
      ? {}
      : {prompt: {timeout_s: prompt[0] ?? 0, text: Buffer.from(prompt.subarray(1)).toString('latin1')}}),
    ...(item?.length === 4 ? {item: {type: readUint16(item, 0), layer: readUint16(item, 2)}} : {}),
  }
}

function encodeServers({type, addresses}: {type: number; addresses: readonly Ipv4[]}): Uint8Array {
  const bytes = Buffer.alloc(3 + addresses.length * 4)
  bytes.writeUInt16BE(type, 0)
  bytes[2] = addresses.length
  for (const [index, address] of addresses.entries()) writeIpv4(bytes, 3 + index * 4, address)
  return bytes
}

function decodeServers(bytes: Uint8Array | undefined): PxeVendor['bootServers'] {
  if (bytes === undefined) return undefined
  const servers: {type: number; addresses: Ipv4[]}[] = []
  for (let at = 0; at < bytes.length; ) {
    const count = bytes[at + 2] ?? 0
    const end = at + 3 + count * 4
    if (at + 3 > bytes.length || end > bytes.length) return undefined
    const from = at + 3
    servers.push({
      type: readUint16(bytes, at),
      addresses: Array.from({length: count}, (_, index) => readIpv4(bytes, from + index * 4)),
    })
    at = end
  }
  return servers
}

function encodeEntry({type, text}: {type: number; text: string}): Uint8Array {
  const body = Buffer.from(text, 'latin1').subarray(0, 255)
  return Buffer.concat([uint16(type), Uint8Array.of(body.length), body])
}

function decodeMenu(bytes: Uint8Array | undefined): PxeVendor['menu'] {
  if (bytes === undefined) return undefined
  const entries: {type: number; text: string}[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 3 + (bytes[at + 2] ?? 0)
    if (at + 3 > bytes.length || end > bytes.length) return undefined
    entries.push({type: readUint16(bytes, at), text: Buffer.from(bytes.subarray(at + 3, end)).toString('latin1')})
    at = end
  }
  return entries
}

function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 255)
}

function readUint16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}
