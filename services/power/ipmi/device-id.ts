/** Get Device ID (IPMI 2.0 §20.1): which controller this is. Pure. */
import type {BmcDevice} from '../drivers/driver.ts'

/** IANA enterprise numbers of those who build servers and their controllers (iana.org/assignments/enterprise-numbers). */
const MANUFACTURERS: Readonly<Record<number, string>> = {
  2: 'IBM',
  9: 'Cisco',
  11: 'Hewlett-Packard',
  42: 'Sun Microsystems',
  343: 'Intel',
  674: 'Dell',
  2011: 'Huawei',
  4128: 'Arm',
  4769: 'IBM',
  5771: 'Cisco',
  6653: 'Tyan',
  7154: 'IPMI Forum',
  7244: 'Quanta',
  10368: 'Fujitsu',
  10876: 'Supermicro',
  15370: 'Giga-Byte',
  19046: 'Lenovo',
  20301: 'IBM',
  20974: 'American Megatrends',
  37945: 'Inspur',
  47196: 'Hewlett Packard Enterprise',
  47488: 'Supermicro',
  49622: 'ASRock Rack',
}

/** Additional device support, data byte 7. */
const SUPPORT = [
  {bit: 0x01, name: 'sensors'},
  {bit: 0x02, name: 'sdr_repository'},
  {bit: 0x04, name: 'event_log'},
  {bit: 0x08, name: 'fru'},
  {bit: 0x80, name: 'chassis'},
] as const

export type DeviceId = BmcDevice & {readonly support: readonly (typeof SUPPORT)[number]['name'][]}

/** @param data the answer without its completion code; undefined when it is too short */
export function readDeviceId(data: Buffer): DeviceId | undefined {
  if (data.length < 11) return undefined
  const [deviceId = 0, revision = 0, major = 0, minor = 0, version = 0, support = 0] = data
  const manufacturerId = data.readUIntLE(6, 3) & 0x0fffff
  return {
    device_id: deviceId,
    device_revision: revision & 0x0f,
    // Binary, then BCD: firmware 2.09 is 02 09.
    firmware: `${major & 0x7f}.${minor.toString(16).padStart(2, '0')}`,
    // The low digit is the major one: 02 is 2.0, 51 is 1.5.
    ipmi: `${version & 0x0f}.${version >> 4}`,
    manufacturer_id: manufacturerId,
    manufacturer: MANUFACTURERS[manufacturerId] ?? null,
    product_id: data.readUInt16LE(9),
    support: SUPPORT.filter(({bit}) => support & bit).map(({name}) => name),
  }
}
